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
	// Blocked is what only its end, not time, takes out of the way. The time
	// then assumes that it ends now.
	Blocked string `json:"blocked,omitempty"`
}

// NewPlan computes the timetable from the state that the Authority reported.
func NewPlan(r *keyring.Report) *Plan {
	p := &Plan{Now: r.Now, Warnings: []string{}}
	add := func(at time.Time, a keyring.Action, kid, why string) {
		p.Steps = append(p.Steps, PlanStep{At: at, Action: a, KID: kid, Why: why})
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
		s := PlanStep{Action: keyring.Activate, KID: standby.KID, Why: "it is the standby"}
		if next := activation(r, standby.KID); next != nil {
			at, s.Blocked = latest(at, next.NotBefore), next.Blocked
		}
		for _, v := range blocking(r, standby.KID) {
			at = latest(at, r.Now.Add(max(pol.CacheLifetime, v.MaxAge).Duration()+pol.Skew.Duration()))
		}
		s.At = at
		p.Steps = append(p.Steps, s)
		if s.Blocked != "" {
			p.Warnings = append(p.Warnings, "the times assume that what blocks, as last seen, ends now: each vantage point serves the key from now on")
		}
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
	return p
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
