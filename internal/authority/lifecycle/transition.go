package lifecycle

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"
	"unicode"

	"github.com/stella-ops/stella/internal/authority/problem"
	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/keyring"
)

// transition answers POST PathTransitions.
func (a *API) transition(r *http.Request) (int, any, error) {
	operator, err := a.Guard.Operator(r, keyring.ScopeManage)
	if err != nil {
		return 0, nil, err
	}
	var req keyring.Request
	if err := readJSON(r, &req); err != nil {
		return 0, nil, err
	}
	if err := checkRequest(&req, a.Now()); err != nil {
		return 0, nil, err
	}
	out, err := a.change(r.Context(), keyring.Change{Request: req, Operator: operator})
	if err != nil {
		return 0, nil, err
	}
	rep, warnings := a.Report(r.Context(), out.Ring)
	return http.StatusOK, keyring.Result{
		Schema: keyring.SchemaResult, DryRun: req.DryRun, Action: req.Action, KID: out.KID, From: out.From, To: out.To,
		Also: out.Also, Warnings: append(out.Warnings, warnings...), Report: *rep,
	}, nil
}

// maxAhead is how far ahead an activation may be scheduled.
const maxAhead = 366 * 24 * time.Hour

// maxReference bounds the reference to a key, in bytes.
const maxReference = 2048

// plain reports whether text holds no control characters: C0, DEL and C1. It
// will be shown on terminals.
func plain(text string) bool { return !strings.ContainsFunc(text, unicode.IsControl) }

// checkRequest refuses what no operator may ask for, and options that the
// action would silently ignore.
func checkRequest(req *keyring.Request, now time.Time) error {
	switch req.Action {
	case keyring.Stage, keyring.Publish, keyring.Schedule, keyring.Activate, keyring.Retire, keyring.Discard,
		keyring.Withdraw, keyring.Undo, keyring.Taint, keyring.Revoke:
	default:
		return problem.New(problem.Invalid, "action: unknown")
	}
	switch {
	case req.KID != "" && !keyring.ValidKID(req.KID):
		return problem.New(problem.Invalid, "kid: not the name of a key")
	case req.KID != "" && req.Action == keyring.Stage:
		return problem.New(problem.Invalid, "kid: a staged key gets its name from the Authority")
	case req.Reference != "" && req.Action != keyring.Stage:
		return problem.New(problem.Invalid, "reference: only with stage")
	case len(req.Reference) > maxReference || !plain(req.Reference):
		return problem.New(problem.Invalid, "reference: not the name of a key at an HSM or key service")
	case req.Outage && req.Action != keyring.Taint:
		return problem.New(problem.Invalid, "outage: only with taint")
	case req.Force && req.Outage:
		return problem.New(problem.Invalid, "force and outage contradict each other")
	case !req.ActivateAt.IsZero() && req.Action != keyring.Schedule:
		return problem.New(problem.Invalid, "activate_at: only with schedule")
	case !req.ActivateAt.IsZero() && (req.ActivateAt.Before(now) || req.ActivateAt.After(now.Add(maxAhead))):
		return problem.New(problem.Invalid, "activate_at: must lie between now and a year from now; leave it out for as soon as possible")
	case !plain(req.Reason):
		return problem.New(problem.Invalid, "reason: control characters are not accepted")
	}
	return nil
}

// change asks the keyring, with what was seen at vantage points where that
// decides. Without the database an unforced activation is refused.
func (a *API) change(ctx context.Context, c keyring.Change) (*keyring.Outcome, error) {
	if c.Action == keyring.Activate || c.Action == keyring.Taint {
		look, cancel := context.WithTimeout(ctx, a.Timeout)
		defer cancel()
		points, err := a.Points(look)
		if err != nil && c.Action == keyring.Activate && !c.Force && a.Keys.Ring().Active() != nil {
			return nil, err
		}
		c.Vantage = points
	}
	out, err := a.Keys.Change(ctx, c)
	if err != nil {
		return nil, err
	}
	if !c.DryRun {
		a.Log.InfoContext(ctx, "key transition", "event", "authority.signing.transition", "action", string(c.Action),
			"kid", out.KID, "from", string(out.From), "to", string(out.To), "operator", c.Operator, "force", c.Force,
			"version", out.Ring.Version, "request_id", a.RequestID(ctx))
	}
	return out, nil
}

// isOrder reports whether err refuses a transition for its time or state.
func isOrder(err error) bool {
	var o *keyring.OrderError
	return errors.As(err, &o) || fault.KindOf(err) == fault.Order
}
