package token

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"

	"github.com/stella-ops/stella/internal/httpd"
)

// Error codes of the token endpoint: RFC 6749 section 5.2, RFC 8707 section 2,
// RFC 9449 section 5 and 8. The last is OAuth's word for our 503.
const (
	codeInvalidRequest     = "invalid_request"
	codeInvalidClient      = "invalid_client"
	codeInvalidScope       = "invalid_scope"
	codeInvalidTarget      = "invalid_target"
	codeUnauthorizedClient = "unauthorized_client"
	codeUnsupportedGrant   = "unsupported_grant_type"
	codeInvalidProof       = "invalid_dpop_proof"
	codeUseNonce           = "use_dpop_nonce"
	codeUnavailable        = "temporarily_unavailable"
)

// refusal is an error with its answer.
type refusal struct {
	code        string
	description string // for the client; ASCII without quote and backslash
	status      int    // 0: by the code
	cause       error  // for the log
}

func (r *refusal) Error() string {
	if r.cause != nil {
		return r.code + ": " + r.cause.Error()
	}
	return r.code + ": " + r.description
}

func (r *refusal) Unwrap() error { return r.cause }

func refusef(code, description string) error { return &refusal{code: code, description: description} }

func tooLarge() error {
	return &refusal{code: codeInvalidRequest, description: "the body is too large", status: http.StatusRequestEntityTooLarge}
}

// unavailable says that it cannot be decided now; the cause is for the log.
func unavailable(cause error) error {
	return &refusal{code: codeUnavailable, description: "try again shortly", status: http.StatusServiceUnavailable, cause: cause}
}

// refuse answers with err.
func (e *Endpoint) refuse(w http.ResponseWriter, r *http.Request, grant, nonce string, err error) {
	var ref *refusal
	if !errors.As(err, &ref) {
		_ = errors.As(unavailable(err), &ref)
	}
	status := ref.status
	h := w.Header()
	switch {
	case status == http.StatusServiceUnavailable:
		h.Set("Retry-After", "2")
	case status == http.StatusRequestEntityTooLarge:
		h.Set("Connection", "close") // the rest of the body is not read
	case ref.code == codeInvalidClient:
		status = http.StatusUnauthorized
		h.Set("WWW-Authenticate", `Basic realm="stella-authority", charset="UTF-8"`)
	case status == 0:
		status = http.StatusBadRequest
	}
	e.Outcome(grant, ref.code)
	httpd.Annotate(r.Context(), slog.String("event", event), slog.String("outcome", ref.code), slog.Any("err", err))
	if status >= 500 {
		e.Log.LogAttrs(r.Context(), slog.LevelError, "token request cannot be decided",
			slog.String("request_id", httpd.RequestID(r.Context())), slog.Any("err", err))
	}
	body, merr := json.Marshal(struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}{ref.code, ref.description})
	if merr != nil {
		status, body = http.StatusInternalServerError, []byte("{}")
	}
	setHeaders(h, nonce)
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n'))
}

// setHeaders sets what every answer of the endpoint carries.
func setHeaders(h http.Header, nonce string) {
	// One allocation for all; no two may share room to grow.
	v := []string{"application/json", "no-store", "no-cache", "nosniff", nonce}
	h["Content-Type"], h["Cache-Control"], h["Pragma"] = v[0:1:1], v[1:2:2], v[2:3:3]
	h["X-Content-Type-Options"] = v[3:4:4]
	if nonce != "" {
		h["Dpop-Nonce"] = v[4:5:5]
	}
}
