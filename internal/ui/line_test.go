package ui

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stella-ops/stella/internal/fault"
)

func TestLineOnATerminal(t *testing.T) {
	s, out, e := Buffers("")
	now := time.Unix(0, 0)
	s.Now, s.ErrTTY, s.Width = func() time.Time { return now }, true, 10
	l := s.Line()
	l.Clear() // nothing is drawn
	l.Set("one")
	l.Set("too soon")
	now = now.Add(redrawEvery)
	l.Set("much longer than the line\x1b")
	l.Clear()
	l.Set("again, at once")
	if want := "\r\x1b[2Kone\r\x1b[2Kmuch lon…\r\x1b[2K\r\x1b[2Kagain, a…"; e.String() != want || out.Len() != 0 {
		t.Errorf("%q", e)
	}
}

func TestLineElsewhere(t *testing.T) {
	s, _, e := Buffers("")
	now := time.Unix(0, 0)
	s.Now = func() time.Time { return now }
	l := s.Line()
	for range 25 { // 0 s to 24 s
		l.Set("at " + now.UTC().Format("05"))
		now = now.Add(time.Second)
	}
	l.Clear()
	if e.String() != "at 00\nat 10\nat 20\n" {
		t.Errorf("%q", e)
	}
	s.Interval = time.Second
	l.Set("own interval")
	if !strings.HasSuffix(e.String(), "own interval\n") {
		t.Errorf("%q", e)
	}
	before := e.Len()
	for _, set := range []func(){func() { s.Quiet = true }, func() { s.Quiet, s.Format = false, JSON }} {
		set()
		now = now.Add(time.Hour)
		l.Set("silent")
	}
	if e.Len() != before {
		t.Errorf("%q", e)
	}
}

func TestCountdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _, e := Buffers("")
		s.Now = time.Now
		start := time.Now()
		err := s.Line().Countdown(t.Context(), start.Add(25*time.Second), func(left time.Duration) string { return left.String() })
		if err != nil || time.Since(start) != 25*time.Second || e.String() != "25s\n15s\n5s\n" {
			t.Errorf("%v after %s: %q", err, time.Since(start), e)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(1500*time.Millisecond, func() { cancel(fault.Errorf(fault.Terminated, "stop")) })
		err = s.Line().Countdown(ctx, time.Now().Add(time.Hour), time.Duration.String)
		if fault.KindOf(err) != fault.Terminated {
			t.Errorf("a cancelled countdown is %v", err)
		}
	})
}

func TestEvents(t *testing.T) {
	emit := func(s *Streams) {
		ev := s.Events("stella.x/v1")
		defer ev.Close()
		for _, e := range []struct {
			typ  EventType
			v    any
			text string
		}{
			{Started, nil, "starting"}, {Progress, map[string]int{"done": 1}, ""}, {Item, struct {
				ID string `json:"id"`
			}{"a"}, "item a"}, {Warning, nil, "careful"}, {Summary, map[string]int{"items": 1}, "1 item"},
		} {
			if err := ev.Emit(e.typ, e.v, e.text); err != nil {
				t.Error(err)
			}
		}
	}
	s, out, e := Buffers("")
	emit(s)
	if out.String() != "item a\n1 item\n" || e.String() != "starting\nwarning: careful\n" {
		t.Errorf("%q, %q", out, e)
	}
	s, out, e = Buffers("")
	s.Format, s.Now = JSON, func() time.Time { return time.Date(2026, 11, 1, 1, 2, 3, 0, time.FixedZone("x", 3600)) }
	emit(s)
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 5 || e.Len() != 0 || lines[2] != `{"schema":"stella.x/v1","type":"item","time":"2026-11-01T00:02:03Z","id":"a"}` {
		t.Errorf("%s%s", out, e)
	}
	for _, line := range lines {
		if !json.Valid([]byte(line)) {
			t.Errorf("%s", line)
		}
	}
	if err := s.Events("x").Emit(Item, []int{1}, ""); err == nil {
		t.Error("a list was accepted")
	}
}
