package rotate

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/jose/jwks"
	"github.com/stella-ops/stella/internal/keyring"
)

// Upstream drives an Authority that knows only the rotate call. Its wire form
// is not documented upstream; this is our reading of it.
type Upstream struct {
	API    *API
	Client *http.Client // for the key set
	Header string       // that carries the bootstrap key
}

// UpstreamRequest is the body of the rotate call.
type UpstreamRequest struct {
	KeyID    string `json:"keyId"`
	Location string `json:"location"`
	Source   string `json:"source"`
	Provider string `json:"provider,omitempty"`
	Reason   string `json:"-"` // for our own record; upstream has no place for it
}

// UpstreamAnswer is what comes back; unknown members are ignored. The last two
// come from an Authority of ours only, which publishes first and switches when
// verifiers can know the key.
type UpstreamAnswer struct {
	ActiveKeyID   string   `json:"activeKeyId"`
	PreviousKeyID string   `json:"previousKeyId"`
	RetiredKeyIDs []string `json:"retiredKeyIds"`

	ScheduledKeyID string    `json:"scheduledKeyId,omitempty"`
	ActivateAt     time.Time `json:"activateAt,omitzero"`
}

// UpstreamResult tells what was done and what nobody guarantees.
type UpstreamResult struct {
	DryRun        bool           `json:"dry_run"`
	Request       string         `json:"request"`
	Answer        UpstreamAnswer `json:"answer"`
	Published     []string       `json:"published_kids"`
	Reason        string         `json:"reason,omitempty"`
	NotGuaranteed []string       `json:"not_guaranteed"`
}

// Rotate makes the call and reads the key set again to see what came of it.
// Kind Trust when the new key is not in the set afterwards.
func (u *Upstream) Rotate(ctx context.Context, req UpstreamRequest, dryRun bool) (*UpstreamResult, error) {
	body, err := json.MarshalIndent(req, "", "  ")
	if err != nil {
		return nil, err
	}
	r := &UpstreamResult{
		DryRun: dryRun, Reason: req.Reason, Published: []string{}, Answer: UpstreamAnswer{RetiredKeyIDs: []string{}},
		Request: fmt.Sprintf("POST %s%s\n%s: (the bootstrap key)\nContent-Type: application/json\n\n%s", u.API.Base, keyring.PathUpstream, u.Header, body),
		NotGuaranteed: []string{
			"the new key signs as soon as this Authority has it: verifiers that cache the key set may reject new tokens until they reload it",
			"whether the old key stays published long enough is up to the Authority's own configuration: keep it in signing.additionalKeys",
			"other replicas may not have the new key yet, and nothing here can tell",
		},
	}
	if dryRun {
		return r, nil
	}
	if err := u.API.call(ctx, http.MethodPost, keyring.PathUpstream, req, &r.Answer); err != nil {
		return nil, fmt.Errorf("asking for the rotation: %w", err)
	}
	if r.Answer.RetiredKeyIDs == nil { // null on the wire
		r.Answer.RetiredKeyIDs = []string{}
	}
	if r.Answer.ScheduledKeyID != "" {
		r.NotGuaranteed = []string{} // the timetable guards this switch
	}
	set, err := jwks.Fetch(ctx, u.Client, strings.TrimSuffix(u.API.Base, "/")+"/jwks")
	if err != nil {
		return nil, fmt.Errorf("the rotation was asked for; reading the key set afterwards: %w", err)
	}
	for _, k := range set.Set.Keys {
		r.Published = append(r.Published, k.KeyID)
	}
	if !slices.Contains(r.Published, req.KeyID) {
		return nil, fault.Errorf(fault.Trust, "the Authority took the call, but key %q is not in its key set", req.KeyID).
			Hint("look at the set: stella auth jwks show")
	}
	return r, nil
}
