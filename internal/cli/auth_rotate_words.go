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
		when, who := ui.C("now"), "timer"
		switch {
		case s.Blocked != "":
			when = ui.T(ui.Warn, "blocked")
			notes[i] = append(notes[i], "blocked: "+oneLine(s.Blocked))
		case !s.Due:
			when = ui.C(atIn(s.NotBefore, now))
		case !s.Auto:
			when = ui.C("any time")
		}
		switch {
		case !s.Auto:
			who = "you"
			notes[i] = append(notes[i], oneLine(s.Command))
		case s.Action == keyring.Activate:
			who = "authority"
		}
		rows = append(rows, []ui.Cell{when, ui.C(string(s.Action)), ui.C(s.KID), ui.C(who), ui.C(oneLine(s.Why))})
	}
	p.NotedTable([]string{"when", "step", "key", "who", "why"}, rows, notes)
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
