package wire

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"
)

// MaxBody bounds a form, maxParameters how many parameters it may have.
const (
	MaxBody       = 64 << 10
	maxParameters = 32
)

// Form holds the parameters of a request. An empty parameter is the same as an
// absent one (RFC 6749 section 3.2).
type Form struct {
	pairs []parameter
}

// parameter is one of them, decoded.
type parameter struct{ name, value string }

// Get returns a parameter, or "".
func (f *Form) Get(name string) string {
	for i := range f.pairs {
		if f.pairs[i].name == name {
			return f.pairs[i].value
		}
	}
	return ""
}

const formType = "application/x-www-form-urlencoded"

// ReadForm checks the shape of a request and parses its body. Errors are
// Refusals.
func ReadForm(r *http.Request) (*Form, error) {
	if r.URL.RawQuery != "" || r.URL.ForceQuery {
		return nil, Refuse(InvalidRequest, "parameters belong in the body, not in the URL")
	}
	if ct := r.Header["Content-Type"]; len(ct) != 1 || !isForm(ct[0]) {
		return nil, Refuse(InvalidRequest, "the content type must be "+formType)
	}
	if r.Header.Get("Content-Encoding") != "" {
		return nil, Refuse(InvalidRequest, "content encodings are not accepted")
	}
	if r.ContentLength > MaxBody {
		return nil, tooLarge()
	}
	buf := GetBuffer()
	defer PutBuffer(buf)
	if _, err := buf.ReadFrom(io.LimitReader(r.Body, MaxBody+1)); err != nil {
		var big *http.MaxBytesError
		if errors.As(err, &big) {
			return nil, tooLarge()
		}
		return nil, Refuse(InvalidRequest, "the body could not be read")
	}
	if buf.Len() > MaxBody {
		return nil, tooLarge()
	}
	return ParseForm(buf.String())
}

func tooLarge() error {
	return &Refusal{Code: InvalidRequest, Description: "the body is too large", Status: http.StatusRequestEntityTooLarge}
}

func isForm(ct string) bool {
	if ct == formType {
		return true
	}
	media, _, _ := strings.Cut(ct, ";")
	return strings.EqualFold(strings.TrimSpace(media), formType)
}

// ParseForm parses a body. No parameter may occur twice, known or not. Errors
// are Refusals.
func ParseForm(body string) (*Form, error) {
	f := &Form{pairs: make([]parameter, 0, 8)}
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
		for i := range f.pairs {
			if f.pairs[i].name == name {
				return nil, Refuse(InvalidRequest, "a parameter occurs twice")
			}
		}
		if len(f.pairs) == maxParameters {
			return nil, Refuse(InvalidRequest, "too many parameters")
		}
		f.pairs = append(f.pairs, parameter{name, value})
	}
	return f, nil
}

// unescape decodes one name or value; text that is not UTF-8 or holds control
// characters is refused.
func unescape(s string) (string, error) {
	if strings.ContainsAny(s, "%+") {
		d, err := url.QueryUnescape(s)
		if err != nil {
			return "", Refuse(InvalidRequest, "the body is not form-encoded")
		}
		s = d
	}
	if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return "", Refuse(InvalidRequest, "a parameter is not plain text")
	}
	return s, nil
}
