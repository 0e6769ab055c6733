package rotate

import (
	"time"

	"github.com/stella-ops/stella/internal/keyring"
)

// Plan is the timetable of a rotation that would begin now.
type Plan struct {
	Now      time.Time       `json:"now"` // the Authority's clock
	Steps    []PlanStep      `json:"steps"`
	Takes    keyring.Seconds `json:"takes_s"`
	Warnings []string        `json:"warnings"`
}

// PlanStep is one step and the time before which it is not allowed.
type PlanStep struct {
	At     time.Time      `json:"not_before"`
	Action keyring.Action `json:"action"`
	KID    string         `json:"kid,omitempty"` // empty: a key that is yet to be made
	Why    string         `json:"why"`
}

// NewPlan computes the timetable from the state that the Authority reported.
func NewPlan(r *keyring.Report) *Plan {
	p := &Plan{Now: r.Now, Warnings: []string{}}
	add := func(at time.Time, a keyring.Action, kid, why string) {
		p.Steps = append(p.Steps, PlanStep{at, a, kid, why})
	}
	pol := r.Policy
	ring := ringOf(r)
	standby := ring.Standby()
	matures := pol.SignLease.Duration() + pol.CacheLifetime.Duration() + pol.Skew.Duration()
	at := r.Now
	if standby == nil {
		add(at, keyring.Stage, "", "there is no standby")
		add(at, keyring.Publish, "", "verifiers begin to learn it")
		at = at.Add(matures)
		add(at, keyring.Activate, "", "published for one cache lifetime, one lease and the skew")
	} else {
		if m := activateStep(r, standby.KID); m.After(at) {
			at = m
		}
		add(at, keyring.Activate, standby.KID, "it is the standby")
	}
	add(at, keyring.Stage, "", "the next standby, so that an emergency finds one")
	add(at, keyring.Publish, "", "verifiers begin to learn it")
	if old := ring.Active(); old != nil {
		life := max(old.LongestLife, pol.TokenLifetime).Duration()
		end := at.Add(pol.SignLease.Duration() + life + pol.Skew.Duration())
		add(end, keyring.Retire, old.KID, "the last thing it signed has expired")
		at = end
	}
	p.Takes = keyring.Seconds(at.Sub(r.Now).Round(time.Second))
	if len(r.Vantage) == 0 {
		p.Warnings = append(p.Warnings, "no vantage points are configured: the activation is guarded by time alone, so a CDN that caches longer than the Authority says is not noticed")
	}
	for _, s := range r.Steps {
		if s.Action == keyring.Activate && s.Blocked != "" {
			p.Warnings = append(p.Warnings, "as last seen: "+s.Blocked)
		}
	}
	return p
}

// activateStep is when the Authority says that the standby may be activated.
func activateStep(r *keyring.Report, kid string) time.Time {
	for _, s := range r.Steps {
		if s.Action == keyring.Activate && s.KID == kid {
			return s.NotBefore
		}
	}
	return time.Time{}
}
