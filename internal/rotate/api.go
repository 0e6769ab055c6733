// Package rotate is what the verbs of key rotation do: it asks an Authority
// for transitions, looks at every vantage point, and drives a rotation as far
// as the timetable allows.
//
// It guarantees that every change is asked for against the version of the
// keyring that it was decided on, that it can be killed at any time and
// continued by advance, and that a refusal by the Authority reaches the
// operator whole: when it would be allowed and what to type. It prints
// nothing; what happens is told as events.
package rotate

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/stella-ops/stella/internal/keyring"
)

// Doer sends requests with the caller's credentials.
type Doer interface {
	Do(*http.Request) (*http.Response, error)
}

// API speaks the lifecycle API of one Authority.
type API struct {
	Base string // the Authority's base URL, without a slash at the end
	Doer Doer
	// Refused is the hint for credentials that are refused; "" means to log in.
	Refused string
}

// NoTokenError marks an error of a Doer that has not sent the request, because
// it got no token for it. It has been tried again as often as makes sense.
type NoTokenError struct{ Err error }

// Error implements error.
func (e *NoTokenError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *NoTokenError) Unwrap() error { return e.Err }

// Report fetches the state of the keyring.
func (a *API) Report(ctx context.Context) (*keyring.Report, error) {
	var r keyring.Report
	if err := a.call(ctx, http.MethodGet, keyring.PathKeyring, nil, &r); err != nil {
		return nil, fmt.Errorf("asking for the key status: %w", err)
	}
	if err := schema(r.Schema, keyring.SchemaReport); err != nil {
		return nil, fmt.Errorf("asking for the key status: %w", err)
	}
	return &r, nil
}

// Change asks for one transition.
func (a *API) Change(ctx context.Context, req keyring.Request) (*keyring.Result, error) {
	var r keyring.Result
	if err := a.call(ctx, http.MethodPost, keyring.PathTransitions, req, &r); err != nil {
		return nil, fmt.Errorf("asking for %s: %w", req.Action, err)
	}
	if err := schema(r.Schema, keyring.SchemaResult); err != nil {
		return nil, fmt.Errorf("asking for %s: %w", req.Action, err)
	}
	return &r, nil
}

// Observe reports what was seen at vantage points.
func (a *API) Observe(ctx context.Context, seen []keyring.Observation) error {
	if len(seen) == 0 {
		return nil
	}
	if err := a.call(ctx, http.MethodPost, keyring.PathObservations, keyring.Observations{Observations: seen}, nil); err != nil {
		return fmt.Errorf("reporting what the vantage points serve: %w", err)
	}
	return nil
}

// Forget drops what was seen at a vantage point that no longer exists.
func (a *API) Forget(ctx context.Context, name string) error {
	err := a.call(ctx, http.MethodDelete, keyring.PathObservations+"?name="+url.QueryEscape(name), nil, nil)
	if err != nil {
		return fmt.Errorf("forgetting vantage point %q: %w", name, err)
	}
	return nil
}
