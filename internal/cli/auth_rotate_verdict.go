package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/stella-ops/stella/internal/keyring"
	"github.com/stella-ops/stella/internal/ui"
)

// verdict is the one line that says how things stand.
func verdict(r *keyring.Report) (ui.Tone, string) {
	ring := &keyring.Ring{Policy: r.Policy, Keys: r.Keys}
	active, standby := ring.Active(), ring.Standby()
	late, by := overdue(r)
	switch {
	case active == nil:
		return ui.Bad, "NO KEY SIGNS: " + outage(r)
	case r.CannotSign != "":
		return ui.Bad, fmt.Sprintf("NOT SIGNING on replica %s: %s", r.Replica, oneLine(r.CannotSign))
	case standby != nil && unusable(r, standby.KID) != nil:
		return ui.Bad, fmt.Sprintf("STANDBY CANNOT SIGN on replica %s: %s", r.Replica, troubleText(*unusable(r, standby.KID)))
	case late != nil:
		return ui.Bad, fmt.Sprintf("OVERDUE %s: nobody runs 'stella auth rotate advance'; %s signs, and %s is due since %s",
			span(by), active.KID, strings.TrimSpace(string(late.Action)+" "+late.KID), at(late.NotBefore, r.Now))
	case standby == nil:
		return ui.Warn, fmt.Sprintf("NO STANDBY: %s signs, and nothing could replace it at once; next: stella auth rotate advance", active.KID)
	}
	if !standby.ActivateAt.IsZero() {
		text := fmt.Sprintf("ROTATION UNDER WAY: %s signs, %s follows", active.KID, standby.KID)
		switch s := activation(r); {
		case s == nil:
		case s.Blocked != "":
			return ui.Warn, text + ", but is blocked (see Next)"
		case s.Due:
			text += " at once"
		default:
			text += " at " + atIn(s.NotBefore, r.Now)
		}
		return ui.Strong, text
	}
	for i := range r.Keys {
		k := &r.Keys[i]
		switch k.State {
		case keyring.Retiring:
			return ui.Strong, fmt.Sprintf("ROTATION UNDER WAY: %s signs, %s goes at %s", active.KID, k.KID, atIn(ring.Outlived(k), r.Now))
		case keyring.Tainted:
			return ui.Warn, fmt.Sprintf("ROTATION UNDER WAY: %s signs, %s is tainted and still in the key set", active.KID, k.KID)
		}
	}
	text := fmt.Sprintf("OK: %s signs, %s is the standby", active.KID, standby.KID)
	if m := ring.Matures(standby); m.After(r.Now) {
		text += ", known everywhere from " + atIn(m, r.Now)
	}
	return ui.Good, text
}

// activation is the step that lets the standby sign.
func activation(r *keyring.Report) *keyring.Step {
	for i := range r.Steps {
		if r.Steps[i].Action == keyring.Activate {
			return &r.Steps[i]
		}
	}
	return nil
}

// outage says until when nothing is issued, while no key signs. Tokens are
// among what is not issued, so what is to be typed does without one.
func outage(r *keyring.Report) string {
	const watch = "; see: stella auth rotate status --bootstrap"
	switch s := activation(r); {
	case s == nil:
		return "nothing is issued until there is a new key; next: stella auth rotate advance --wait --bootstrap"
	case s.Blocked != "":
		return fmt.Sprintf("nothing is issued until %s signs, and that is blocked: %s", s.KID, s.Blocked) + watch
	case s.Due:
		return fmt.Sprintf("nothing is issued until %s signs, which it does by itself at once", s.KID) + watch
	default:
		return fmt.Sprintf("nothing is issued until %s, when %s signs by itself", atIn(s.NotBefore, r.Now), s.KID) + watch
	}
}

// lateAfter is how long a step of the timer may be due; the timer runs once a
// minute.
const lateAfter = 2 * time.Minute

// overdue finds the step of the timer that is due for longest, if that is too
// long.
func overdue(r *keyring.Report) (late *keyring.Step, by time.Duration) {
	for i := range r.Steps {
		s := &r.Steps[i]
		if !s.Auto || !s.Due || s.Action == keyring.Activate || s.NotBefore.IsZero() {
			continue
		}
		if d := r.Now.Sub(s.NotBefore); d > max(by, lateAfter) {
			late, by = s, d
		}
	}
	return late, by
}

// unusable is what keeps the replica that answered from using a key.
func unusable(r *keyring.Report, kid string) *keyring.KeyTrouble {
	for i := range r.Unusable {
		if r.Unusable[i].KID == kid {
			return &r.Unusable[i]
		}
	}
	return nil
}

// troubleText is one private key and what is wrong with it.
func troubleText(t keyring.KeyTrouble) string {
	text := t.KID
	if t.Reference != "" {
		text += " (" + oneLine(t.Reference) + ")"
	}
	return text + ": " + oneLine(t.Error)
}

// troubleLines warn of private keys in trouble that the verdict is not about.
func troubleLines(r *keyring.Report) []string {
	var lines, cannot, wait []string
	ring := &keyring.Ring{Keys: r.Keys}
	standby := ring.Standby()
	if ring.Active() == nil && r.CannotSign != "" && !strings.Contains(r.CannotSign, keyring.ErrNoActive.Error()) {
		lines = append(lines, fmt.Sprintf("warning: replica %s could not sign anyway: %s", r.Replica, oneLine(r.CannotSign)))
	}
	for _, t := range r.Unusable {
		if standby == nil || t.KID != standby.KID || r.CannotSign != "" || ring.Active() == nil {
			cannot = append(cannot, troubleText(t))
		}
	}
	if n := len(cannot); n > 0 {
		lines = append(lines, fmt.Sprintf("warning: %s cannot be used on replica %s: %s", count(int64(n), "private key"), r.Replica, strings.Join(cannot, "; ")))
	}
	for _, t := range r.NotDestroyed {
		wait = append(wait, troubleText(t))
	}
	switch n := len(wait); n {
	case 0:
	case 1:
		lines = append(lines, "warning: 1 private key waits to be destroyed at its provider: "+wait[0])
	default:
		lines = append(lines, fmt.Sprintf("warning: %d private keys wait to be destroyed at their provider: %s", n, strings.Join(wait, "; ")))
	}
	return lines
}
