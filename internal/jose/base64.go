package jose

import (
	"encoding/base64"
	"strings"
)

func encode64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func append64(dst, b []byte) []byte { return base64.RawURLEncoding.AppendEncode(dst, b) }

// decode64 reads base64url as RFC 7515 section 2 writes it: no padding, no
// white space or line breaks, no "+/", and no set bits after the last octet.
func decode64(s string) ([]byte, error) {
	// The standard decoder skips line breaks even when it is strict.
	if strings.ContainsAny(s, "\r\n") {
		return nil, malformed("line break in base64url")
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil {
		return nil, malformed("base64url: %v", err)
	}
	return b, nil
}
