// Package problem writes the error bodies of the Authority's own APIs.
//
// It guarantees one shape, keyring.Problem, with a trace id that is also in
// the server's log, status codes that follow from the code alone, and no
// detail of an unexpected error on the wire: the caller gets a general message
// and the log gets the cause.
package problem

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strconv"

	"github.com/stella-ops/stella/internal/authority/audit"
	"github.com/stella-ops/stella/internal/authority/store"
	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/keyring"
	"github.com/stella-ops/stella/internal/optok"
)

// The codes of keyring.ProblemDetail.
const (
	Order           = "order"
	Conflict        = "conflict"
	Invalid         = "invalid"
	NotFound        = "not_found"
	Denied          = "denied"
	Unauthenticated = "unauthenticated"
	Unavailable     = "unavailable"
	Provider        = "provider"
	Untrusted       = "untrusted"
)

// retryAfter is what a client is asked to wait, in seconds, when something
// that the Authority needs is out of reach.
const retryAfter = 2

// Status returns the HTTP status of a code. A conflict is 412 because the
// request's own condition (expect_version) failed.
func Status(code string) int {
	switch code {
	case Order:
		return http.StatusConflict
	case Conflict:
		return http.StatusPreconditionFailed
	case Invalid:
		return http.StatusBadRequest
	case NotFound:
		return http.StatusNotFound
	case Denied:
		return http.StatusForbidden
	case Unauthenticated:
		return http.StatusUnauthorized
	case Provider, Untrusted:
		return http.StatusBadGateway
	}
	return http.StatusServiceUnavailable
}

// Error is a refusal with a code and a message meant for the caller.
type Error struct {
	keyring.ProblemDetail
	Err       error  // cause for the log; may be nil
	Challenge string // WWW-Authenticate, with unauthenticated
}

// Error implements error.
func (e *Error) Error() string {
	if e.Err != nil {
		return e.Message + ": " + e.Err.Error()
	}
	return e.Message
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// New makes a refusal.
func New(code, message string) *Error {
	return &Error{ProblemDetail: keyring.ProblemDetail{Code: code, Message: message}}
}

// From turns any error into a refusal. Errors that carry no meaning for the
// caller become "unavailable" with a general message.
func From(err error) *Error {
	var p *Error
	var order *keyring.OrderError
	var token *optok.Error
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &order):
		p := New(Order, order.Message)
		p.Earliest, p.Next, p.Lagging = order.Earliest, order.Next, order.Lagging
		return p
	case errors.As(err, &token):
		return wrap(tokenCode(token), tokenMessage(token), err)
	case errors.Is(err, keyring.ErrConflict):
		return wrap(Conflict, err.Error(), err)
	case errors.Is(err, store.ErrNotFound):
		return wrap(NotFound, "there is no such entry", err)
	}
	_, provider := errors.AsType[*keyring.ProviderError](err)
	switch kind := fault.KindOf(err); {
	case kind == fault.Order:
		return wrap(Order, err.Error(), err)
	case kind == fault.Input:
		return wrap(Invalid, err.Error(), err)
	case provider: // it refuses us, not the caller
		code := Provider
		switch kind {
		case fault.Transient, fault.Interrupted, fault.Terminated:
			code = Unavailable
		case fault.Trust:
			code = Untrusted
		}
		p := wrap(code, err.Error(), err)
		p.Hints = fault.HintsOf(err)
		return p
	case kind == fault.NotFound:
		return wrap(NotFound, err.Error(), err)
	case kind == fault.Denied:
		return wrap(Denied, err.Error(), err)
	}
	return wrap(Unavailable, "the Authority cannot do this now; its log has the cause under this trace id", err)
}

func wrap(code, message string, err error) *Error {
	p := New(code, message)
	p.Err = err
	return p
}

func tokenCode(e *optok.Error) string {
	switch e.Status {
	case http.StatusBadRequest:
		return Invalid
	case http.StatusUnauthorized:
		return Unauthenticated
	case http.StatusForbidden:
		return Denied
	}
	return Unavailable
}

func tokenMessage(e *optok.Error) string {
	if e.Description == "" {
		return "an access token is needed"
	}
	return e.Description
}

// Audit says in a record how a call ended; nil err means well.
func Audit(ev *audit.Event, err error) {
	if err == nil {
		ev.Outcome(audit.Success, "")
		return
	}
	code := From(err).Code
	ev.Outcome(audit.OutcomeOf(Status(code)), code)
}

// Write answers with err, which must not be nil. Causes are logged here and
// nowhere else.
func Write(w http.ResponseWriter, r *http.Request, log *slog.Logger, traceID string, err error) {
	p := From(err)
	status := Status(p.Code)
	if token, ok := errors.AsType[*optok.Error](err); ok {
		token.SetHeaders(w.Header())
	} else if p.Challenge != "" {
		w.Header().Set("WWW-Authenticate", p.Challenge)
	}
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", strconv.Itoa(retryAfter))
	}
	if status >= 500 {
		log.ErrorContext(r.Context(), "request refused", "request_id", traceID, "code", p.Code, "err", err, "hints", fault.HintsOf(err))
	}
	d := p.ProblemDetail
	d.TraceID = traceID
	JSON(w, status, keyring.Problem{Error: d})
}

// JSON answers with v as JSON, not to be cached.
func JSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil { // cannot happen with the documents of this server
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n'))
}
