package limit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/authority/store/redisstore"
	"github.com/stella-ops/stella/internal/testenv"
)

// counter is a Counter whose answers a test can see and spoil.
type counter struct {
	mu    sync.Mutex
	n     map[string]int64
	calls int
	err   error
}

func (c *counter) Count(_ context.Context, name string, _ time.Duration) (int64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls++
	if c.err != nil {
		return 0, c.err
	}
	if c.n == nil {
		c.n = map[string]int64{}
	}
	c.n[name]++
	return c.n[name], nil
}

func redisCounter(t *testing.T, r *testenv.RedisServer) *redisstore.Store {
	t.Helper()
	s, err := redisstore.Open(redisstore.Options{URL: r.URL()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// TestRedisRace: two replicas on one Redis hand out exactly the permits of one,
// in each window.
func TestRedisRace(t *testing.T) {
	r := testenv.Redis(t)
	c := newClock(noon())
	rules := fixed(Rules{Token: {Enabled: true, PermitLimit: 17, Window: time.Minute}})
	var both []*Limiter
	for range 2 {
		both = append(both, New(Options{Rules: rules, Shared: redisCounter(t, r), Now: c.Now, Timeout: 30 * time.Second}))
	}
	for range 3 {
		if n := race(t, both); n != 17 {
			t.Errorf("%d permits", n)
		}
		c.Advance(time.Minute)
	}
}

// TestRedisApart: what makes a budget one's own makes it so in Redis too.
func TestRedisApart(t *testing.T) {
	r := testenv.Redis(t)
	s := redisCounter(t, r)
	rules := three()
	rules[Authorize] = Rule{Enabled: true, PermitLimit: 3, Window: time.Minute}
	l := func() *Limiter {
		return New(Options{Rules: fixed(rules), Shared: s, Now: newClock(noon()).Now, Timeout: 30 * time.Second})
	}
	if n, _ := exhaust(t, l(), home, "c"); n != 3 {
		t.Fatalf("%d permits", n)
	}
	if n, _ := exhaust(t, l(), home, "c"); n != 0 {
		t.Errorf("%d permits at a second replica", n)
	}
	if n, _ := exhaust(t, l(), home, "d"); n != 3 {
		t.Errorf("%d permits of another client", n)
	}
	if n, _ := exhaust(t, l(), home.Next(), "c"); n != 3 {
		t.Errorf("%d permits at another address", n)
	}
	if d, err := l().Take(t.Context(), Authorize, home, "c"); err != nil || d.Remaining != 2 {
		t.Errorf("another endpoint: %+v %v", d, err)
	}
}

// TestRedisAway: a server that is gone, or hangs, costs one timeout a second
// and leaves each replica with its own count: never closed, never open.
func TestRedisAway(t *testing.T) {
	for name, hang := range map[string]bool{"gone": false, "hangs": true} {
		t.Run(name, func(t *testing.T) {
			r := testenv.Redis(t)
			c := newClock(noon())
			var log bytes.Buffer
			var up []bool
			l := New(Options{
				Rules: fixed(three()), Shared: redisCounter(t, r), Now: c.Now, Timeout: 100 * time.Millisecond,
				Log: slog.New(slog.NewTextHandler(&log, nil)), SharedUp: func(b bool) { up = append(up, b) },
			})
			first := take(t, l, home, "")
			var resume func()
			if hang {
				resume = r.Pause(t)
			} else {
				r.Kill()
			}
			start := time.Now()
			n, _ := exhaust(t, l, home, "")
			if !first.Allowed || n != 2 {
				t.Errorf("%v and then %d permits", first.Allowed, n)
			}
			if d := time.Since(start); d > 5*time.Second {
				t.Errorf("the outage cost %s", d)
			}
			if hang {
				resume()
			} else if err := r.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
			for end := time.Now().Add(20 * time.Second); len(up) < 2 && time.Now().Before(end); {
				c.Advance(2 * time.Second)
				take(t, l, home, "")
			}
			if fmt.Sprint(up) != "[false true]" {
				t.Errorf("told %v", up)
			}
			if strings.Count(log.String(), "out of reach") != 1 || strings.Count(log.String(), "is back") != 1 {
				t.Error(log.String())
			}
		})
	}
}

// TestSharedIsSpared: refusals that this replica can make alone, callers beyond
// the table and a counter that just failed are not asked for.
func TestSharedIsSpared(t *testing.T) {
	c := newClock(noon())
	shared := &counter{}
	l := New(Options{Rules: fixed(three()), Shared: shared, Now: c.Now, MaxCallers: 2})
	for range 10 {
		take(t, l, home, "")
	}
	if shared.calls != 3 {
		t.Errorf("%d calls for 3 permits", shared.calls)
	}
	take(t, l, home.Next(), "")
	take(t, l, home.Next().Next(), "")
	if shared.calls != 4 {
		t.Errorf("%d calls with a full table", shared.calls)
	}
	c.Advance(time.Minute)
	shared.calls, shared.err = 0, errors.New("away")
	for range 3 {
		take(t, l, home, "")
		c.Advance(again / 4)
	}
	if shared.calls != 1 {
		t.Errorf("%d calls within a second of a failure", shared.calls)
	}
	c.Advance(again)
	shared.err = nil
	take(t, l, home.Next(), "")
	take(t, l, home.Next(), "")
	if shared.calls != 3 {
		t.Errorf("%d calls once it is back", shared.calls)
	}
}

// TestSharedIsTaken: the shared count decides where it is higher.
func TestSharedIsTaken(t *testing.T) {
	shared := &counter{}
	l := func() *Limiter {
		return New(Options{Rules: fixed(three()), Shared: shared, Now: newClock(noon()).Now})
	}
	a, b := l(), l()
	take(t, a, home, "")
	if d := take(t, b, home, ""); !d.Allowed || d.Remaining != 1 {
		t.Errorf("%+v", d)
	}
	take(t, a, home, "")
	if d := take(t, b, home, ""); d.Allowed || d.RetryAfter != time.Minute {
		t.Errorf("%+v", d)
	}
}

// TestCallerEnds: a request that ends says nothing about the counter.
func TestCallerEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	told := 0
	l := New(Options{Rules: fixed(three()), Now: newClock(noon()).Now, SharedUp: func(bool) { told++ },
		Shared: countFunc(func(ctx context.Context) (int64, error) { cancel(); return 0, ctx.Err() })})
	if d, err := l.Take(ctx, Token, home, ""); !errors.Is(err, context.Canceled) || told != 0 {
		t.Errorf("%+v %v, told %d", d, err, told)
	}
}

type countFunc func(context.Context) (int64, error)

func (f countFunc) Count(ctx context.Context, _ string, _ time.Duration) (int64, error) {
	return f(ctx)
}
