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
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/keyring"
)

// maxAnswer bounds an answer of the lifecycle API, in bytes.
const maxAnswer = 4 << 20

// ErrNoLifecycle means that the Authority knows no lifecycle API: it is an
// upstream one, or not an Authority.
var ErrNoLifecycle = fault.Errorf(fault.NotFound, "this Authority has no key lifecycle API (%s answered 404)", keyring.PathKeyring)

// Doer sends requests with the caller's credentials.
type Doer interface {
	Do(*http.Request) (*http.Response, error)
}

// API speaks the lifecycle API of one Authority.
type API struct {
	Base string // the Authority's base URL, without a slash at the end
	Doer Doer
}

// Report fetches the state of the keyring.
func (a *API) Report(ctx context.Context) (*keyring.Report, error) {
	var r keyring.Report
	if err := a.call(ctx, http.MethodGet, keyring.PathKeyring, nil, &r); err != nil {
		return nil, fmt.Errorf("asking for the key status: %w", err)
	}
	if r.Schema != keyring.SchemaReport {
		return nil, fault.Errorf(fault.Unclassified, "asking for the key status: the answer has schema %.80q, not %q", r.Schema, keyring.SchemaReport)
	}
	return &r, nil
}

// Change asks for one transition.
func (a *API) Change(ctx context.Context, req keyring.Request) (*keyring.Result, error) {
	var r keyring.Result
	if err := a.call(ctx, http.MethodPost, keyring.PathTransitions, req, &r); err != nil {
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

func (a *API) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(a.Base, "/")+path, body)
	if err != nil {
		return fault.As(fault.Config, err)
	}
	req.Header.Set("Accept", "application/json")
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := a.Doer.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return fault.Errorf(fault.Transient, "reading the answer: %w", err).
			Hint("it may have been done: stella auth rotate status")
	}
	if len(data) > maxAnswer {
		return fault.Errorf(fault.Unclassified, "the answer is larger than %d bytes", maxAnswer)
	}
	if resp.StatusCode/100 != 2 {
		return refusal(resp, data)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fault.Errorf(fault.Unclassified, "the answer is not what the lifecycle API says: %w", err)
	}
	return nil
}

// refusal turns an error answer into the error that the Authority meant.
func refusal(resp *http.Response, data []byte) error {
	var p keyring.Problem
	if json.Unmarshal(data, &p) != nil || p.Error.Code == "" {
		if resp.StatusCode == http.StatusNotFound {
			return ErrNoLifecycle
		}
		kind := fault.Unclassified
		if resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests {
			kind = fault.Transient
		}
		return fault.Errorf(kind, "the Authority answered %s", resp.Status)
	}
	d := p.Error
	text := fmt.Sprintf("%s (trace %s)", d.Message, d.TraceID)
	switch d.Code {
	case "order":
		o := &keyring.OrderError{Message: d.Message, Earliest: d.Earliest, Next: d.Next, Lagging: d.Lagging}
		return o.Fault()
	case "conflict":
		return fault.Errorf(fault.Order, "%w: %s", keyring.ErrConflict, text).
			Hint("somebody else changed the keys meanwhile; look, then decide again: stella auth rotate status")
	case "invalid":
		return fault.Errorf(fault.Input, "%s", text)
	case "not_found":
		return fault.Errorf(fault.NotFound, "%s", d.Message).Hint("list the keys: stella auth rotate status")
	case "unauthenticated":
		return fault.Errorf(fault.Denied, "%s", text).Hint("stella auth login --scope %s", keyring.ScopeManage)
	case "denied":
		return fault.Errorf(fault.Denied, "%s", text).
			Hint("the token needs scope %s: stella auth login --force --scope %s", keyring.ScopeManage, keyring.ScopeManage)
	case "unavailable":
		return fault.Errorf(fault.Transient, "%s", text).Hint("see which state it is in: stella auth rotate status")
	}
	return fault.Errorf(fault.Unclassified, "the Authority answered %s: %s", resp.Status, text)
}
