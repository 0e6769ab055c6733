package token

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"unicode/utf8"
)

// MaxBody bounds a token request; maxParameters bounds how many parameters it
// may have.
const (
	MaxBody       = 64 << 10
	maxParameters = 32
)

// form holds the parameters of a token request. An empty parameter is the same
// as an absent one (RFC 6749 section 3.2).
type form struct {
	grantType, scope, audience, resource, tenant string
	clientID, clientSecret                       string
	assertion, assertionType                     string
}

// field returns where a parameter is kept; nil for those we do not know,
// which are ignored but may not be repeated either.
func (f *form) field(name string) *string {
	switch name {
	case "grant_type":
		return &f.grantType
	case "scope":
		return &f.scope
	case "audience":
		return &f.audience
	case "resource":
		return &f.resource
	case "tenant":
		return &f.tenant
	case "client_id":
		return &f.clientID
	case "client_secret":
		return &f.clientSecret
	case "client_assertion":
		return &f.assertion
	case "client_assertion_type":
		return &f.assertionType
	}
	return nil
}

// bufferPool recycles request and answer buffers.
type bufferPool struct{ p sync.Pool }

func (b *bufferPool) get() *bytes.Buffer {
	if buf, ok := b.p.Get().(*bytes.Buffer); ok {
		buf.Reset()
		return buf
	}
	return new(bytes.Buffer)
}

// put clears buf, which held credentials, before it is used again.
func (b *bufferPool) put(buf *bytes.Buffer) {
	if buf.Cap() > MaxBody {
		return
	}
	clear(buf.Bytes())
	b.p.Put(buf)
}

const formType = "application/x-www-form-urlencoded"

// readForm checks the shape of a request and parses its body.
func (b *bufferPool) readForm(r *http.Request) (*form, error) {
	if r.URL.RawQuery != "" || r.URL.ForceQuery {
		return nil, refusef(codeInvalidRequest, "parameters belong in the body, not in the URL")
	}
	if ct := r.Header["Content-Type"]; len(ct) != 1 || !isForm(ct[0]) {
		return nil, refusef(codeInvalidRequest, "the content type must be "+formType)
	}
	if r.Header.Get("Content-Encoding") != "" {
		return nil, refusef(codeInvalidRequest, "content encodings are not accepted")
	}
	if r.ContentLength > MaxBody {
		return nil, tooLarge()
	}
	buf := b.get()
	defer b.put(buf)
	if _, err := buf.ReadFrom(io.LimitReader(r.Body, MaxBody+1)); err != nil {
		var big *http.MaxBytesError
		if errors.As(err, &big) {
			return nil, tooLarge()
		}
		return nil, refusef(codeInvalidRequest, "the body could not be read")
	}
	if buf.Len() > MaxBody {
		return nil, tooLarge()
	}
	return parseForm(buf.String())
}

func isForm(ct string) bool {
	if ct == formType {
		return true
	}
	media, _, _ := strings.Cut(ct, ";")
	return strings.EqualFold(strings.TrimSpace(media), formType)
}

// parseForm parses a body. No parameter may occur twice, known or not.
func parseForm(body string) (*form, error) {
	f := &form{}
	seen := make([]string, 0, 8)
	for body != "" {
		var pair string
		pair, body, _ = strings.Cut(body, "&")
		if pair == "" {
			continue
		}
		rawName, rawValue, _ := strings.Cut(pair, "=")
		name, err := unescape(rawName)
		if err != nil {
			return nil, err
		}
		value, err := unescape(rawValue)
		if err != nil {
			return nil, err
		}
		for _, s := range seen {
			if s == name {
				return nil, refusef(codeInvalidRequest, "a parameter occurs twice")
			}
		}
		if seen = append(seen, name); len(seen) > maxParameters {
			return nil, refusef(codeInvalidRequest, "too many parameters")
		}
		if p := f.field(name); p != nil {
			*p = value
		}
	}
	return f, nil
}

// unescape decodes one name or value; text that is not UTF-8 or holds control
// characters is refused.
func unescape(s string) (string, error) {
	if strings.ContainsAny(s, "%+") {
		d, err := url.QueryUnescape(s)
		if err != nil {
			return "", refusef(codeInvalidRequest, "the body is not form-encoded")
		}
		s = d
	}
	if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return "", refusef(codeInvalidRequest, "a parameter is not plain text")
	}
	return s, nil
}
