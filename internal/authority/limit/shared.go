package limit

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// again is how long the shared counter is left alone after it did not answer,
// so that an outage does not cost each request a timeout.
const again = time.Second

// Limiter takes decisions. Safe for concurrent use.
type Limiter struct {
	o       Options
	tables  map[Endpoint]*table
	waiting atomic.Int64

	mu    sync.Mutex
	down  bool      // the last call of the shared counter failed
	until time.Time // not asked before
}

// New makes a Limiter; Rules is required.
func New(o Options) *Limiter {
	if o.Timeout <= 0 {
		o.Timeout = 250 * time.Millisecond
	}
	if o.MaxWait <= 0 {
		o.MaxWait = 30 * time.Second
	}
	if o.MaxCallers <= 0 {
		o.MaxCallers = 1 << 16
	}
	if o.MaxWaiting <= 0 {
		o.MaxWaiting = 1024
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	l := &Limiter{o: o, tables: map[Endpoint]*table{}}
	for _, e := range []Endpoint{Token, Authorize, Internal} {
		l.tables[e] = newTable(o.MaxCallers)
	}
	return l
}

// enter takes a place in a queue; leave gives it back.
func (l *Limiter) enter(e Endpoint, k caller, limit int) bool {
	if l.waiting.Add(1) <= int64(l.o.MaxWaiting) && l.tables[e].enter(k, limit) {
		return true
	}
	l.waiting.Add(-1)
	return false
}

func (l *Limiter) leave(e Endpoint, k caller) {
	l.waiting.Add(-1)
	l.tables[e].leave(k)
}

// shared counts one request for all replicas and returns the count, or 0 when
// the counter is out of reach: then this replica's own count decides. The
// window's number is part of the name, so all replicas mean the same window
// and the server's clock has no say.
func (l *Limiter) shared(ctx context.Context, e Endpoint, rule Rule, k caller, w window, now time.Time) int64 {
	l.mu.Lock()
	asleep := l.down && now.Before(l.until)
	if l.down && !asleep {
		l.until = now.Add(again) // this request finds out for the others
	}
	l.mu.Unlock()
	if asleep {
		return 0
	}
	op, cancel := context.WithTimeout(ctx, l.o.Timeout)
	defer cancel()
	name := fmt.Sprintf("%s\x00%d\x00%d\x00%s\x00%s", e, rule.Window/time.Second, w, k.network, k.client)
	n, err := l.o.Shared.Count(op, name, 2*rule.Window)
	if err != nil && ctx.Err() != nil {
		return 0 // the caller's end says nothing about the counter
	}
	l.note(ctx, err, now)
	if err != nil {
		return 0
	}
	return n
}

// note logs when the shared counter goes and when it comes back.
func (l *Limiter) note(ctx context.Context, err error, now time.Time) {
	l.mu.Lock()
	changed := l.down != (err != nil)
	l.down = err != nil
	if err != nil {
		l.until = now.Add(again)
	}
	l.mu.Unlock()
	if !changed {
		return
	}
	if err != nil {
		l.o.Log.LogAttrs(ctx, slog.LevelError, "the shared counter of rate limits is out of reach; each replica counts for itself", slog.Any("err", err))
	} else {
		l.o.Log.LogAttrs(ctx, slog.LevelInfo, "the shared counter of rate limits is back")
	}
	if l.o.SharedUp != nil {
		l.o.SharedUp(err == nil)
	}
}
