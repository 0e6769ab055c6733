package rotate

import (
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/keyring"
)

func ringOf(r *keyring.Report) *keyring.Ring {
	return &keyring.Ring{Version: r.Version, At: r.ChangeAt, Policy: r.Policy, Keys: r.Keys}
}

func activeKID(r *keyring.Report) string {
	if k := ringOf(r).Active(); k != nil {
		return k.KID
	}
	return ""
}

// nextAuto picks the automatic step to do now, else the one to wait for; nil
// when none is left.
func nextAuto(r *keyring.Report) *keyring.Step {
	var next *keyring.Step
	for i := range r.Steps {
		s := &r.Steps[i]
		switch {
		case !s.Auto:
		case s.Due:
			return s
		case next == nil || s.NotBefore.Before(next.NotBefore):
			next = s
		}
	}
	return next
}

// activation is the step that lets kid sign; nil when there is none.
func activation(r *keyring.Report, kid string) *keyring.Step {
	for i := range r.Steps {
		if s := &r.Steps[i]; s.Action == keyring.Activate && s.KID == kid {
			return s
		}
	}
	return nil
}

// notYet says that target is not the active key yet, why, and what to do.
func notYet(r *keyring.Report, target string) error {
	s := activation(r, target)
	if s == nil {
		return fault.Errorf(fault.Partial, "key %s is not the active one", target).Hint("next: stella auth rotate status")
	}
	if s.Blocked == "" {
		e := fault.Errorf(fault.Partial, "key %s is published and scheduled, but may not sign yet", target)
		if s.Due {
			return e.Hint("next: stella auth rotate advance")
		}
		return e.Hint("earliest time: %s", s.NotBefore.UTC().Format(time.RFC3339)).Hint("next: stella auth rotate advance --wait")
	}
	e := fault.Errorf(fault.Partial, "key %s is published and scheduled, but may not sign: %s", target, flat(s.Blocked))
	young := false
	for _, v := range blocking(r, target) {
		if !v.broken {
			young = true
		} else if v.Required {
			e.Hint("repair %s, or take it out of signing.vantagePoints of the Authority and send that SIGHUP", flat(v.Name))
		} else {
			e.Hint("repair %s, or if it is gone: stella auth rotate forget %s", flat(v.Name), flat(v.Name))
		}
	}
	if young {
		e.Hint("look again: %s", keyring.LookAgain)
	}
	return e.Hint("next: stella auth rotate advance --wait")
}

// block is a vantage point that keeps a key from signing.
type block struct {
	keyring.Vantage
	broken bool // not only looked at too early
}

// blocking lists the vantage points that keep kid from signing for longer than
// time alone explains.
func blocking(r *keyring.Report, kid string) []block {
	ring := ringOf(r)
	k := ring.Standby()
	if k == nil || k.KID != kid {
		return nil
	}
	stuck := map[string]keyring.Lag{}
	for _, l := range ring.Lagging(k, r.Vantage, r.Now) {
		if l.Until.IsZero() {
			stuck[l.Name] = l
		}
	}
	var out []block
	for _, v := range r.Vantage {
		if l, ok := stuck[v.Name]; ok {
			out = append(out, block{v, l.Broken})
		}
	}
	return out
}
