package optok

import (
	"net/http"
	"strings"
)

// Codes of RFC 6750 section 3.1 and RFC 9449 section 7.
const (
	CodeRequest = "invalid_request"
	CodeToken   = "invalid_token"
	CodeScope   = "insufficient_scope"
	CodeProof   = "invalid_dpop_proof"
	CodeNonce   = "use_dpop_nonce"
)

// Error refuses a request. Description is fixed text, safe to send; Err is
// the cause, for the log.
type Error struct {
	Status      int    // 400, 401, 403 or 503
	Code        string // empty when no credentials were sent, and with 503
	Description string
	Scope       string // what would be needed, with insufficient_scope
	Nonce       string // to send as DPoP-Nonce
	Err         error

	dpop bool // answer with the scheme DPoP
}

// Error implements error.
func (e *Error) Error() string {
	text := e.Description
	if e.Code != "" {
		text = e.Code + ": " + text
	} else if text == "" {
		text = "no access token"
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// SetHeaders sets WWW-Authenticate (and DPoP-Nonce, Retry-After) of the
// answer. Without credentials both schemes are offered.
func (e *Error) SetHeaders(h http.Header) {
	if e.Nonce != "" {
		h.Set("DPoP-Nonce", e.Nonce)
	}
	const algs = `algs="ES256 EdDSA"`
	switch {
	case e.Status == http.StatusServiceUnavailable:
		h.Set("Retry-After", "2")
	case e.Code == "":
		h["Www-Authenticate"] = []string{"DPoP " + algs, "Bearer"}
	default:
		params := []string{`error="` + e.Code + `"`, `error_description="` + e.Description + `"`}
		if e.Scope != "" {
			params = append(params, `scope="`+e.Scope+`"`)
		}
		scheme := "Bearer "
		if e.dpop {
			scheme = "DPoP "
			params = append(params, algs)
		}
		h.Set("WWW-Authenticate", scheme+strings.Join(params, ", "))
	}
}

func invalidToken(dpop bool, why string, cause error) error {
	return &Error{Status: http.StatusUnauthorized, Code: CodeToken, Description: why, Err: cause, dpop: dpop}
}

func unavailable(cause error) error {
	return &Error{Status: http.StatusServiceUnavailable, Description: "it cannot be decided now", Err: cause}
}
