// Package wire reads OAuth requests and writes OAuth answers, for every
// endpoint that speaks RFC 6749's form: token, device authorization,
// introspection and revocation.
//
// It guarantees that a form is read only as such and within bounds, that no
// parameter occurs twice (known or not), that values are plain text; that an
// error has one of the registered codes and the status that belongs to it; and
// that no answer is cached.
package wire

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"
)

// Error codes: RFC 6749 section 5.2, RFC 6750 section 3.1, RFC 8628 section
// 3.5, RFC 8707 section 2, RFC 9449 sections 5 and 8. Unavailable is OAuth's
// word for our 503, RateLimited our own for 429.
const (
	InvalidRequest        = "invalid_request"
	InvalidClient         = "invalid_client"
	InvalidGrant          = "invalid_grant"
	InvalidScope          = "invalid_scope"
	InvalidTarget         = "invalid_target"
	UnauthorizedClient    = "unauthorized_client"
	UnsupportedGrant      = "unsupported_grant_type"
	UnsupportedTokenType  = "unsupported_token_type"
	AccessDenied          = "access_denied"
	AuthorizationPending  = "authorization_pending"
	SlowDown              = "slow_down"
	ExpiredToken          = "expired_token"
	InvalidProof          = "invalid_dpop_proof"
	UseNonce              = "use_dpop_nonce"
	TemporarilyOverloaded = "temporarily_unavailable"
	RateLimited           = "rate_limit_exceeded"
)

// Refusal is an error with its answer.
type Refusal struct {
	Code        string
	Description string        // for the client; ASCII without quote and backslash
	Status      int           // 0: by the code
	RetryAfter  time.Duration // 0: none, but 2 s with status 503
	Cause       error         // for the log
}

// Error implements error.
func (r *Refusal) Error() string {
	if r.Cause != nil {
		return r.Code + ": " + r.Cause.Error()
	}
	return r.Code + ": " + r.Description
}

// Unwrap returns the cause.
func (r *Refusal) Unwrap() error { return r.Cause }

// Refuse returns a Refusal.
func Refuse(code, description string) error {
	return &Refusal{Code: code, Description: description}
}

// Unavailable says that it cannot be decided now; the cause is for the log.
func Unavailable(cause error) error {
	return &Refusal{Code: TemporarilyOverloaded, Description: "try again shortly", Status: http.StatusServiceUnavailable, Cause: cause}
}

// AsRefusal finds the Refusal in err; any other error is unavailable.
func AsRefusal(err error) *Refusal {
	var r *Refusal
	if !errors.As(err, &r) {
		_ = errors.As(Unavailable(err), &r)
	}
	return r
}

// StatusCode is the status of the answer: 400, or what the code asks for.
func (r *Refusal) StatusCode() int {
	switch {
	case r.Status != 0:
		return r.Status
	case r.Code == InvalidClient:
		return http.StatusUnauthorized
	case r.Code == RateLimited:
		return http.StatusTooManyRequests
	}
	return http.StatusBadRequest
}

// WriteError answers with err (RFC 6749 section 5.2) and returns its status.
func WriteError(w http.ResponseWriter, err error) int {
	r := AsRefusal(err)
	status := r.StatusCode()
	h := w.Header()
	wait := r.RetryAfter
	switch status {
	case http.StatusServiceUnavailable:
		wait = max(wait, 2*time.Second)
	case http.StatusRequestEntityTooLarge:
		h.Set("Connection", "close") // the rest of the body is not read
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", `Basic realm="stella-authority", charset="UTF-8"`)
	}
	if wait > 0 {
		// Rounded up: a client that waits as told must not come too early.
		h.Set("Retry-After", strconv.FormatInt(int64((wait+time.Second-1)/time.Second), 10))
	}
	WriteJSON(w, status, struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}{r.Code, r.Description})
	return status
}

// WriteJSON answers with doc; no cache may keep it.
func WriteJSON(w http.ResponseWriter, status int, doc any) {
	body, err := json.Marshal(doc)
	if err != nil {
		status, body = http.StatusInternalServerError, []byte("{}")
	}
	SetHeaders(w.Header(), "")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n'))
}

// SetHeaders sets what every answer carries; nonce (RFC 9449 section 8) may be
// empty.
func SetHeaders(h http.Header, nonce string) {
	// One allocation for all; no two may share room to grow.
	v := []string{"application/json", "no-store", "no-cache", "nosniff", nonce}
	h["Content-Type"], h["Cache-Control"], h["Pragma"] = v[0:1:1], v[1:2:2], v[2:3:3]
	h["X-Content-Type-Options"] = v[3:4:4]
	if nonce != "" {
		h["Dpop-Nonce"] = v[4:5:5]
	}
}
