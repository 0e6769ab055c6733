package clientauth

import (
	"encoding/base64"
	"net/url"
	"strings"
	"unicode/utf8"
)

// maxBasic bounds the credentials part of an Authorization header.
const maxBasic = 1024

// parseBasic reads the value of an Authorization header as RFC 6749 section
// 2.3.1 asks: Basic, of the form-encoded client id and the form-encoded
// secret. Decoding is strict: one credential has one spelling.
func parseBasic(header string) (id, secret string, ok bool) {
	scheme, cred, found := strings.Cut(header, " ")
	if !found || !strings.EqualFold(scheme, "Basic") || len(cred) > maxBasic {
		return "", "", false
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(cred)
	if err != nil || strings.ContainsAny(cred, "\r\n") {
		return "", "", false
	}
	left, right, found := strings.Cut(string(raw), ":")
	if !found {
		return "", "", false
	}
	if id, err = decodeHalf(left); err != nil {
		return "", "", false
	}
	if secret, err = decodeHalf(right); err != nil {
		return "", "", false
	}
	return id, secret, id != "" && secret != "" && utf8.ValidString(id) && utf8.ValidString(secret)
}

func decodeHalf(s string) (string, error) {
	if !strings.ContainsAny(s, "%+") {
		return s, nil
	}
	return url.QueryUnescape(s)
}
