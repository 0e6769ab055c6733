package lifecycle

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/stella-ops/stella/internal/authority/guard"
	"github.com/stella-ops/stella/internal/authority/problem"
	"github.com/stella-ops/stella/internal/keyring"
)

// UpstreamRequest is the body of the upstream-compatible rotate call. Its
// shape upstream is not documented; this is our reading of it.
type UpstreamRequest struct {
	KeyID    string            `json:"keyId"`              // the new key's kid
	Location string            `json:"location,omitempty"` // PEM file as this server sees it; empty: make a key
	Source   string            `json:"source,omitempty"`   // "file" or empty
	Provider string            `json:"provider,omitempty"` // "default" or empty
	Metadata map[string]string `json:"metadata,omitempty"` // recorded in the history; at most 16 entries
	Force    bool              `json:"force,omitempty"`    // ours: activate now
	Reason   string            `json:"reason,omitempty"`   // ours: recorded; needed with force
}

// UpstreamResult answers it. The last three members are ours.
type UpstreamResult struct {
	ActiveKeyID   string   `json:"activeKeyId"`
	Provider      string   `json:"provider"`
	Source        string   `json:"source"`
	Location      string   `json:"location,omitempty"`
	PreviousKeyID string   `json:"previousKeyId,omitempty"`
	RetiredKeyIDs []string `json:"retiredKeyIds"` // still published until all that they signed has expired

	ScheduledKeyID string     `json:"scheduledKeyId,omitempty"`
	ActivateAt     *time.Time `json:"activateAt,omitempty"`
	Blocked        string     `json:"blocked,omitempty"`
}

// upstream answers POST PathUpstream. Where upstream switches at once, we
// publish now and switch when verifiers can know the key (202), unless forced
// (200). A call that was cut short may be repeated.
func (a *API) upstream(r *http.Request) (int, any, error) {
	if err := a.Guard.Bootstrap(r); err != nil {
		return 0, nil, err
	}
	var req UpstreamRequest
	if err := readJSON(r, &req); err != nil {
		return 0, nil, err
	}
	if err := req.check(); err != nil {
		return 0, nil, err
	}
	ctx := r.Context()
	if err := a.Keys.Refresh(ctx); err != nil {
		return 0, nil, err
	}
	material, err := a.Import.material(ctx, req.Location)
	if err != nil {
		return 0, nil, err
	}
	before := a.Keys.Ring().Active()
	state, err := a.Import.known(a.Keys.Ring(), req.KeyID, material)
	if err != nil {
		return 0, nil, err
	}
	step := func(action keyring.Action) error {
		c := keyring.Change{Operator: guard.BootstrapOperator}
		c.Request = keyring.Request{Action: action, KID: req.KeyID, Reason: req.reason(), Force: action == keyring.Activate}
		if action == keyring.Stage {
			c.KID, c.NewKID, c.Material = "", req.KeyID, material
		}
		_, err := a.change(ctx, c)
		return err
	}
	if state == "" {
		if err := step(keyring.Stage); err != nil {
			return 0, nil, err
		}
	}
	if state != keyring.Published {
		if err := step(keyring.Publish); err != nil {
			return 0, nil, err
		}
	}
	last, status := keyring.Schedule, http.StatusAccepted
	if req.Force {
		last, status = keyring.Activate, http.StatusOK
	}
	if err := step(last); err != nil {
		return 0, nil, err
	}
	return status, a.upstreamResult(ctx, &req, before), nil
}

func (a *API) upstreamResult(ctx context.Context, req *UpstreamRequest, before *keyring.Key) UpstreamResult {
	ring := a.Keys.Ring()
	res := UpstreamResult{Provider: "default", Source: a.KeySource, Location: req.Location, RetiredKeyIDs: []string{}}
	if k := ring.Active(); k != nil {
		res.ActiveKeyID = k.KID
	}
	if before != nil && before.KID != res.ActiveKeyID {
		res.PreviousKeyID = before.KID
	}
	for _, k := range ring.Keys {
		if k.State == keyring.Retiring {
			res.RetiredKeyIDs = append(res.RetiredKeyIDs, k.KID)
		}
	}
	if req.Force {
		return res
	}
	rep, _ := a.Report(ctx, ring)
	res.ScheduledKeyID = req.KeyID
	for _, s := range rep.Steps {
		if s.Action == keyring.Activate && s.KID == req.KeyID {
			at := s.NotBefore.UTC()
			res.ActivateAt, res.Blocked = &at, s.Blocked
		}
	}
	return res
}

func (q *UpstreamRequest) check() error {
	switch {
	case !keyring.ValidKID(q.KeyID):
		return problem.New(problem.Invalid, "keyId: use 1 to 128 letters, digits, dots, underscores and hyphens")
	case q.Source != "" && q.Source != "file":
		return problem.New(problem.Invalid, "source: only file is supported")
	case q.Provider != "" && q.Provider != "default":
		return problem.New(problem.Invalid, "provider: only default is supported")
	case len(q.Metadata) > 16:
		return problem.New(problem.Invalid, "metadata: more than 16 entries")
	case len(q.reason()) > keyring.MaxReason:
		return problem.New(problem.Invalid, fmt.Sprintf("reason and metadata together have more than %d bytes", keyring.MaxReason))
	case !plain(q.reason()):
		return problem.New(problem.Invalid, "reason, metadata: control characters are not accepted")
	case q.Force && q.Reason == "":
		return problem.New(problem.Invalid, "reason: needed with force; it is recorded")
	}
	return nil
}

// reason is what the history records of the call.
func (q *UpstreamRequest) reason() string {
	parts := []string{"rotate call"}
	if q.Reason != "" {
		parts[0] = q.Reason
	}
	for _, name := range slices.Sorted(maps.Keys(q.Metadata)) {
		parts = append(parts, name+"="+q.Metadata[name])
	}
	return strings.Join(parts, "; ")
}
