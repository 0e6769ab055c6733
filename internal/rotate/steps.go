package rotate

import (
	"fmt"
	"time"

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

// nextAuto picks the automatic step to do now, else the one to wait for, and
// how long until it may be done by the Authority's clock.
func nextAuto(r *keyring.Report) (*keyring.Step, time.Duration) {
	var next *keyring.Step
	for i := range r.Steps {
		s := &r.Steps[i]
		switch {
		case !s.Auto:
		case s.Due:
			return s, 0
		case next == nil || s.NotBefore.Before(next.NotBefore):
			next = s
		}
	}
	if next == nil {
		return nil, 0
	}
	left := next.NotBefore.Sub(r.Now)
	if left < 0 { // the time has come, but something blocks it: look again soon
		left = time.Second
	}
	return next, left
}

// nextHint tells an operator what to type, and when.
func nextHint(steps []keyring.Step) string {
	for _, s := range steps {
		if !s.Auto {
			continue
		}
		switch {
		case s.Due:
			return "next: stella auth rotate advance"
		case s.Blocked != "":
			return fmt.Sprintf("next: stella auth rotate advance, once this is over: %s", s.Blocked)
		}
		return fmt.Sprintf("next: stella auth rotate advance, from %s on (or rotate with --wait)", s.NotBefore.UTC().Format(time.RFC3339))
	}
	return "next: stella auth rotate status"
}
