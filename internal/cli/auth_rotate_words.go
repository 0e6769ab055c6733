package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/stella-ops/stella/internal/keyring"
	"github.com/stella-ops/stella/internal/ui"
)

// at is t as a person reads it at the time now: without today's date.
func at(t, now time.Time) string {
	t, now = t.UTC(), now.UTC()
	if t.Format(time.DateOnly) == now.Format(time.DateOnly) {
		return t.Format("15:04:05Z")
	}
	return clock(t)
}

// span is a duration as a person reads it: 45s, 1m05s, 2h03m, 4d01h.
func span(d time.Duration) string {
	n := int64(max(d, 0).Round(time.Second) / time.Second)
	switch {
	case n < 60:
		return fmt.Sprintf("%ds", n)
	case n < 3600:
		return fmt.Sprintf("%dm%02ds", n/60, n%60)
	case n < 24*3600:
		return fmt.Sprintf("%dh%02dm", n/3600, n/60%60)
	}
	return fmt.Sprintf("%dd%02dh", n/86400, n/3600%24)
}

// count is a number and what is counted: 1 change, 2 changes.
func count(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// atIn is a moment and how far it is away.
func atIn(t, now time.Time) string { return at(t, now) + " (in " + span(t.Sub(now)) + ")" }

// verdict is the one line that says how things stand.
func verdict(r *keyring.Report) (ui.Tone, string) {
	ring := &keyring.Ring{Policy: r.Policy, Keys: r.Keys}
	active, standby := ring.Active(), ring.Standby()
	switch {
	case active == nil:
		return ui.Bad, "NO KEY SIGNS: " + outage(r)
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

// outage says until when nothing is issued, while no key signs.
func outage(r *keyring.Report) string {
	switch s := activation(r); {
	case s == nil:
		return "nothing is issued until there is a new key; next: stella auth rotate advance --wait"
	case s.Blocked != "":
		return fmt.Sprintf("nothing is issued until %s signs, and that is blocked: %s", s.KID, s.Blocked)
	case s.Due:
		return fmt.Sprintf("nothing is issued until %s signs; next: stella auth rotate advance", s.KID)
	default:
		return fmt.Sprintf("nothing is issued until %s, when %s signs", atIn(s.NotBefore, r.Now), s.KID)
	}
}

// stepsPart lists what is left to do, in the order of the Authority.
func stepsPart(p *ui.Page, steps []keyring.Step, now time.Time) {
	p.Heading("Next")
	if len(steps) == 0 {
		p.Line("nothing")
		return
	}
	var rows [][]ui.Cell
	notes := map[int][]string{}
	for i, s := range steps {
		when, who := ui.C("now"), "automatic"
		switch {
		case s.Blocked != "":
			when = ui.T(ui.Warn, "blocked")
			notes[i] = append(notes[i], "blocked: "+oneLine(s.Blocked))
		case !s.Due:
			when = ui.C(atIn(s.NotBefore, now))
		case !s.Auto:
			when = ui.C("any time")
		}
		if !s.Auto {
			who = "you"
			notes[i] = append(notes[i], oneLine(s.Command))
		}
		rows = append(rows, []ui.Cell{when, ui.C(string(s.Action)), ui.C(s.KID), ui.C(who), ui.C(oneLine(s.Why))})
	}
	p.NotedTable([]string{"when", "step", "key", "who", "why"}, rows, notes)
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
