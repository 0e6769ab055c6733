package ui

import (
	"context"
	"fmt"
	"sync"
	"time"
)

const (
	redrawEvery = 100 * time.Millisecond
	statusEvery = 10 * time.Second
)

// Line is the one progress line on standard error. On a terminal it is redrawn
// in place; elsewhere a status line is written now and then. With Quiet or
// JSON output it is silent. It is safe for concurrent use.
type Line struct {
	s     *Streams
	mu    sync.Mutex
	drawn bool
	last  time.Time
}

// Line makes a progress line.
func (s *Streams) Line() *Line { return &Line{s: s} }

func (l *Line) silent() bool { return l.s.Quiet || l.s.Format == JSON }

func (l *Line) interval() time.Duration {
	switch {
	case l.s.Interval > 0:
		return l.s.Interval
	case l.s.ErrTTY:
		return redrawEvery
	}
	return statusEvery
}

// Set shows text, unless the last one was shown less than an interval ago.
func (l *Line) Set(text string) {
	if l.silent() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.s.Now()
	if !l.last.IsZero() && now.Sub(l.last) < l.interval() {
		return
	}
	l.last = now
	text = Clean(text)
	if !l.s.ErrTTY {
		fmt.Fprintln(l.s.Err, text)
		return
	}
	// One terminal line, or the redraw would climb.
	if runes := []rune(text); len(runes) >= l.s.Width {
		text = string(runes[:max(l.s.Width-2, 0)]) + "…"
	}
	fmt.Fprintf(l.s.Err, "\r\x1b[2K%s", text)
	l.drawn = true
}

// Clear removes the line from a terminal; the next Set draws at once.
func (l *Line) Clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.drawn {
		fmt.Fprint(l.s.Err, "\r\x1b[2K")
		l.drawn, l.last = false, time.Time{}
	}
}

// Countdown shows text(time left) until the moment until has come, and returns
// nil; or the cause, when ctx ends first. Time left is rounded to seconds.
func (l *Line) Countdown(ctx context.Context, until time.Time, text func(left time.Duration) string) error {
	defer l.Clear()
	return l.Hold(ctx, until, text)
}

// Hold is Countdown but leaves the line, for one that goes on in another call.
func (l *Line) Hold(ctx context.Context, until time.Time, text func(left time.Duration) string) error {
	for {
		left := until.Sub(l.s.Now())
		if left <= 0 {
			return nil
		}
		l.Set(text(left.Round(time.Second)))
		timer := time.NewTimer(min(left, max(l.interval(), redrawEvery), time.Second))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
	}
}
