package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/stella-ops/stella/internal/objstore"
	"github.com/stella-ops/stella/internal/release"
)

// guard reads a body and ends the request when the source is too slow. Only
// the time counts that is spent waiting for the source; the rate is that of all
// requests together, so that many requests over a thin line are no trickle.
type guard struct {
	s      *Source
	key    string
	body   io.Reader
	cancel context.CancelCauseFunc
	timer  *time.Timer
	window time.Duration

	mu     sync.Mutex
	waited time.Duration // in this window, before the read that is going on
	began  time.Time     // of that read
	due    time.Time     // when that read ends the window; zero while none goes on
	mark   int64         // bytes of all requests when the window began
	low    bool          // the last window was below the floor, and ended in silence
	why    error
}

func (s *Source) guard(ctx context.Context, key string, body io.Reader) (io.Reader, func()) {
	// Without a cancel of its own a body that hangs ends with the context of
	// its caller; judge still names the reason.
	_, cancel := context.WithCancelCause(ctx)
	r, done := s.guardWith(key, func(err error) {
		if c, ok := body.(io.Closer); ok {
			c.Close()
		}
		cancel(err)
	}, body)
	return r, func() { done(); cancel(nil) }
}

func (s *Source) guardWith(key string, cancel context.CancelCauseFunc, body io.Reader) (io.Reader, func()) {
	g := &guard{s: s, key: key, body: body, cancel: cancel, window: s.limits.RateWindow.Std(), mark: s.received.Load()}
	if s.limits.MinimumRate <= 0 {
		g.window = 0
		return g, func() {}
	}
	g.timer = time.AfterFunc(g.window, g.expire)
	g.timer.Stop()
	return g, func() { g.timer.Stop() }
}

// Read implements io.Reader.
func (g *guard) Read(p []byte) (int, error) {
	if g.window > 0 {
		g.mu.Lock()
		g.wait(g.window - g.waited)
		g.mu.Unlock()
	}
	n, err := g.body.Read(p)
	if n > 0 {
		g.s.received.Add(int64(n))
		g.s.last.Store(int64(time.Since(g.s.began)))
		if g.s.o.OnBytes != nil {
			g.s.o.OnBytes(int64(n))
		}
	}
	if g.window == 0 {
		return n, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.timer.Stop()
	g.due = time.Time{}
	g.waited += time.Since(g.began)
	if g.why == nil && g.waited >= g.window && !errors.Is(err, io.EOF) {
		g.judge()
	}
	if g.why != nil {
		return n, g.why
	}
	return n, err
}

// wait begins to count, for a read that ends the window after d.
func (g *guard) wait(d time.Duration) {
	g.began = time.Now()
	g.due = g.began.Add(d)
	g.timer.Reset(d)
}

// expire ends a read that outlasts the window.
func (g *guard) expire() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.due.IsZero() || time.Now().Before(g.due) {
		return // that read came to its end at the same moment, and judged
	}
	if g.judge(); g.why != nil {
		g.cancel(g.why)
		return
	}
	// Others move, or did until now: it gets another window.
	g.wait(g.window)
}

// judge ends a window. A line that goes dead in the middle of it is no trickle,
// though little came: the next window tells.
func (g *guard) judge() {
	total, silent := g.s.received.Load(), time.Since(g.s.began)-time.Duration(g.s.last.Load())
	moved, least := total-g.mark, int64(float64(g.s.limits.MinimumRate)*g.window.Seconds())
	g.mark, g.waited = total, 0
	switch {
	case moved >= least:
		g.low = false
	case moved == 0:
		g.why = objstore.Fail(objstore.OpRead, g.s.Place(), g.key, objstore.ErrTransient, fmt.Errorf("it sent nothing for %s", g.window))
	case silent >= g.window/4 && !g.low:
		g.low = true
	default:
		g.why = release.Refuse(release.TooSlow, "%s sent %d bytes in %s, below the floor of %d bytes a second; it is dropped", g.s.Place(), moved, g.window, g.s.limits.MinimumRate).
			Found(fmt.Sprint(g.s.limits.MinimumRate), fmt.Sprint(int64(float64(moved)/g.window.Seconds())))
	}
}
