package limit

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stella-ops/stella/internal/fault"
)

// clock is a clock that stands still until it is moved.
type clock struct{ at atomic.Int64 }

func newClock(at time.Time) *clock {
	c := &clock{}
	c.at.Store(at.UnixNano())
	return c
}

func (c *clock) Now() time.Time          { return time.Unix(0, c.at.Load()) }
func (c *clock) Set(at time.Time)        { c.at.Store(at.UnixNano()) }
func (c *clock) Advance(d time.Duration) { c.at.Add(int64(d)) }

func noon() time.Time { return time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC) }

func fixed(r Rules) func() Rules { return func() Rules { return r } }

func three() Rules {
	return Rules{Token: {Enabled: true, PermitLimit: 3, Window: time.Minute}}
}

var home = netip.MustParseAddr("198.51.100.7")

func take(t *testing.T, l *Limiter, remote netip.Addr, client string) Decision {
	t.Helper()
	d, err := l.Take(t.Context(), Token, remote, client)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// exhaust takes all permits of a caller and returns how many there were.
func exhaust(t *testing.T, l *Limiter, remote netip.Addr, client string) (n int, last Decision) {
	t.Helper()
	for n = range 10_000 {
		if last = take(t, l, remote, client); !last.Allowed {
			return n, last
		}
	}
	t.Fatal("no limit")
	return
}

func TestDefaults(t *testing.T) {
	for e, want := range map[Endpoint]Rule{
		Token:     {true, 30, time.Minute, 0},
		Authorize: {true, 60, time.Minute, 10},
		Internal:  {false, 5, time.Minute, 0},
	} {
		if got := Defaults()[e]; got != want || got.Check() != nil {
			t.Errorf("%s: %+v, %v", e, got, got.Check())
		}
	}
}

func TestCheck(t *testing.T) {
	good := Rule{true, 1, time.Second, 0}
	for name, c := range map[string]struct {
		change func(*Rule)
		ok     bool
	}{
		"smallest":          {func(*Rule) {}, true},
		"largest":           {func(r *Rule) { *r = Rule{true, MaxPermits, time.Hour, MaxQueue} }, true},
		"no permits":        {func(r *Rule) { r.PermitLimit = 0 }, false},
		"many permits":      {func(r *Rule) { r.PermitLimit = MaxPermits + 1 }, false},
		"no window":         {func(r *Rule) { r.Window = 0 }, false},
		"window with parts": {func(r *Rule) { r.Window = 1500 * time.Millisecond }, false},
		"long window":       {func(r *Rule) { r.Window = time.Hour + time.Second }, false},
		"negative queue":    {func(r *Rule) { r.QueueLimit = -1 }, false},
		"long queue":        {func(r *Rule) { r.QueueLimit = MaxQueue + 1 }, false},
	} {
		r := good
		c.change(&r)
		if err := r.Check(); (err == nil) != c.ok || err != nil && fault.KindOf(err) != fault.Config {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRetryAfter: a call at the time told passes, one second before it does
// not, wherever in whatever window.
func TestRetryAfter(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, window := range []time.Duration{time.Second, 7 * time.Second, time.Minute, time.Hour} {
		for range 50 {
			c := newClock(noon().Add(time.Duration(rng.Int64N(int64(2 * time.Hour)))))
			start := c.Now()
			l := New(Options{Rules: fixed(Rules{Token: {Enabled: true, PermitLimit: 1, Window: window}}), Now: c.Now})
			if d := take(t, l, home, ""); !d.Allowed || d.Limit != 1 || d.Remaining != 0 || d.RetryAfter != 0 {
				t.Fatalf("%+v", d)
			}
			d := take(t, l, home, "")
			if d.Allowed || d.RetryAfter < time.Second || d.RetryAfter > window || d.RetryAfter%time.Second != 0 || d.Reset.After(start.Add(d.RetryAfter)) {
				t.Fatalf("%+v", d)
			}
			c.Set(start.Add(d.RetryAfter - time.Second))
			if take(t, l, home, "").Allowed {
				t.Fatalf("window %s, %s in: passes a second before", window, start)
			}
			c.Set(start.Add(d.RetryAfter))
			if !take(t, l, home, "").Allowed {
				t.Fatalf("window %s, %s in: waited as told in vain", window, start)
			}
		}
	}
}

func TestRemaining(t *testing.T) {
	l := New(Options{Rules: fixed(three()), Now: newClock(noon()).Now})
	for want := 2; want >= 0; want-- {
		if d := take(t, l, home, ""); !d.Allowed || d.Remaining != want || d.Limit != 3 || !d.Reset.Equal(noon().Add(time.Minute)) {
			t.Errorf("%+v", d)
		}
	}
	if d := take(t, l, home, ""); d.Allowed || d.Remaining != 0 || d.RetryAfter != time.Minute {
		t.Errorf("%+v", d)
	}
}

// TestCallers: who shares a budget with whom.
func TestCallers(t *testing.T) {
	for name, c := range map[string]struct {
		a, b   string
		ca, cb string
		same   bool
	}{
		"same address":             {a: "198.51.100.7", b: "198.51.100.7", same: true},
		"other address":            {a: "198.51.100.7", b: "198.51.100.8"},
		"mapped into IPv6":         {a: "198.51.100.7", b: "::ffff:198.51.100.7", same: true},
		"other, mapped into IPv6":  {a: "198.51.100.7", b: "::ffff:198.51.100.8"},
		"same /64":                 {a: "2001:db8:0:1::1", b: "2001:db8:0:1:ffff::2", same: true},
		"other /64":                {a: "2001:db8:0:1::1", b: "2001:db8:0:2::1"},
		"zone":                     {a: "fe80::1%eth0", b: "fe80::1%eth1", same: true},
		"same client":              {a: "198.51.100.7", b: "198.51.100.7", ca: "c", cb: "c", same: true},
		"other client":             {a: "198.51.100.7", b: "198.51.100.7", ca: "c", cb: "d"},
		"nobody beside a client":   {a: "198.51.100.7", b: "198.51.100.7", cb: "victim"},
		"the client elsewhere":     {a: "198.51.100.66", b: "198.51.100.7", ca: "victim", cb: "victim"},
		"an address like a client": {a: "198.51.100.7", b: "198.51.100.7", ca: "198.51.100.7"},
	} {
		l := New(Options{Rules: fixed(three()), Now: newClock(noon()).Now})
		if n, _ := exhaust(t, l, netip.MustParseAddr(c.a), c.ca); n != 3 {
			t.Errorf("%s: %d permits", name, n)
		}
		if got := !take(t, l, netip.MustParseAddr(c.b), c.cb).Allowed; got != c.same {
			t.Errorf("%s: one budget: %v", name, got)
		}
	}
	l := New(Options{Rules: fixed(three()), Now: newClock(noon()).Now})
	if n, _ := exhaust(t, l, netip.Addr{}, ""); n != 3 {
		t.Errorf("no address: %d permits", n)
	}
}

// TestEndpoints: budgets are apart, and a rule that is absent or off limits
// nobody.
func TestEndpoints(t *testing.T) {
	rules := three()
	rules[Authorize] = rules[Token]
	l := New(Options{Rules: fixed(rules), Now: newClock(noon()).Now})
	exhaust(t, l, home, "")
	if d, err := l.Take(t.Context(), Authorize, home, ""); !d.Allowed || d.Remaining != 2 || err != nil {
		t.Errorf("%+v %v", d, err)
	}
	off := Rules{Token: {PermitLimit: 1, Window: time.Minute}}
	for name, r := range map[string]Rules{"off": off, "absent": nil} {
		l := New(Options{Rules: fixed(r), Now: newClock(noon()).Now})
		for range 5 {
			if d := take(t, l, home, ""); !d.Allowed || d.Limit != 0 {
				t.Errorf("%s: %+v", name, d)
			}
		}
	}
}

// TestReload: new rules hold at once, also for who has used up the old budget.
func TestReload(t *testing.T) {
	rules := three()
	c := newClock(noon().Add(time.Second))
	l := New(Options{Rules: func() Rules { return rules }, Now: c.Now})
	exhaust(t, l, home, "") // 4 counted
	rules = Rules{Token: {Enabled: true, PermitLimit: 7, Window: time.Minute}}
	if n, _ := exhaust(t, l, home, ""); n != 3 {
		t.Errorf("%d permits more", n)
	}
	for _, window := range []time.Duration{5 * time.Minute, 59 * time.Second, 61 * time.Second} {
		rules = Rules{Token: {Enabled: true, PermitLimit: 2, Window: window}}
		if n, d := exhaust(t, l, home, ""); n != 2 || d.Reset.Sub(c.Now()) > window {
			t.Errorf("%d permits in the new window, %+v", n, d)
		}
	}
}

// TestClockSetBack: a small step back does not hand out a window twice; the
// repair of a large one does not lock callers out.
func TestClockSetBack(t *testing.T) {
	c := newClock(noon().Add(time.Second))
	l := New(Options{Rules: fixed(three()), Now: c.Now})
	exhaust(t, l, home, "")
	c.Advance(-2 * time.Second)
	if d := take(t, l, home, ""); d.Allowed || d.RetryAfter != 61*time.Second {
		t.Errorf("back in the last window: %+v", d)
	}
	c.Set(noon().Add(24 * time.Hour))
	exhaust(t, l, home, "")
	c.Set(noon().Add(time.Minute))
	if n, d := exhaust(t, l, home, ""); n != 3 || d.RetryAfter != time.Minute {
		t.Errorf("after the repair: %d permits, %+v", n, d)
	}
}

// TestManyCallers: a full table stays bounded, harms none of those in it, and
// gives nobody more than a budget.
func TestManyCallers(t *testing.T) {
	c := newClock(noon())
	l := New(Options{Rules: fixed(three()), Now: c.Now, MaxCallers: 100})
	addr := func(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}) }
	early := take(t, l, addr(0), "")
	allowed := 0
	const flood = 20_000
	for n := 1; n < flood; n++ {
		if take(t, l, addr(n), "").Allowed {
			allowed++
		}
	}
	if most := 99 + spill*3; !early.Allowed || allowed > most || allowed < 99+3 {
		t.Errorf("%d of %d allowed, at most %d may be", allowed, flood, most)
	}
	if len(l.tables[Token].counts) != 100 {
		t.Errorf("%d callers are remembered", len(l.tables[Token].counts))
	}
	if n, _ := exhaust(t, l, addr(0), ""); n != 2 {
		t.Errorf("the flood changed the budget of a caller that came before it: %d more", n)
	}
	if n, _ := exhaust(t, l, addr(flood), ""); n > 3 {
		t.Errorf("a newcomer got %d permits", n)
	}
	c.Advance(time.Minute)
	if n, _ := exhaust(t, l, addr(flood), ""); n != 3 {
		t.Errorf("%d permits in the next window", n)
	}
	for n := range 100 {
		take(t, l, addr(n), "")
	}
	if n, _ := exhaust(t, l, addr(flood+1), ""); n != 3 {
		t.Errorf("%d permits of the only newcomer in the next window", n)
	}
}

// TestRace: however many ask at once, the permits are exact.
func TestRace(t *testing.T) {
	l := New(Options{Rules: fixed(Rules{Token: {Enabled: true, PermitLimit: 17, Window: time.Hour}}), Now: newClock(noon()).Now})
	if n := race(t, []*Limiter{l}); n != 17 {
		t.Errorf("%d permits", n)
	}
}

// race lets 50 goroutines ask four times each and returns the permits.
func race(t *testing.T, limiters []*Limiter) int {
	t.Helper()
	var allowed atomic.Int64
	var wg sync.WaitGroup
	start := make(chan struct{})
	for n := range 50 {
		wg.Go(func() {
			<-start
			for range 4 {
				d, err := limiters[n%len(limiters)].Take(t.Context(), Token, home, "c")
				if err != nil {
					t.Error(err)
				}
				if d.Allowed {
					allowed.Add(1)
				}
			}
		})
	}
	close(start)
	wg.Wait()
	return int(allowed.Load())
}

func queued(permits, queue int) Rules {
	return Rules{Token: {Enabled: true, PermitLimit: permits, Window: time.Minute, QueueLimit: queue}}
}

// TestQueue: as many as the queue holds wait for the next window and get
// through there; one more is refused at once.
func TestQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(40 * time.Second) // synctest begins at midnight; be 20 s from the window's end
		l := New(Options{Rules: fixed(queued(3, 2))})
		for range 3 {
			if !take(t, l, home, "").Allowed {
				t.Fatal("no permit")
			}
		}
		start := time.Now()
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				if d := take(t, l, home, ""); !d.Allowed || time.Since(start) != 20*time.Second {
					t.Errorf("after %s: %+v", time.Since(start), d)
				}
			})
		}
		synctest.Wait()
		if d := take(t, l, home, ""); d.Allowed || d.RetryAfter != 20*time.Second || time.Since(start) != 0 {
			t.Errorf("the queue has no end: %+v after %s", d, time.Since(start))
		}
		if d := take(t, l, netip.MustParseAddr("198.51.100.8"), ""); !d.Allowed {
			t.Errorf("others suffer: %+v", d)
		}
		wg.Wait()
		if d := take(t, l, home, ""); !d.Allowed || d.Remaining != 0 {
			t.Errorf("in the next window: %+v", d)
		}
		if len(l.tables[Token].waiting) != 0 || l.waiting.Load() != 0 {
			t.Error("places were not given back")
		}
	})
}

// TestQueueEnds: a request that ends gives its place back and has no permit; a
// wait that would be too long is none; all queues together are bounded.
func TestQueueEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(40 * time.Second)
		l := New(Options{Rules: fixed(queued(1, 1)), MaxWaiting: 1})
		other := netip.MustParseAddr("198.51.100.8")
		exhaustNow := func(a netip.Addr) {
			if !take(t, l, a, "").Allowed {
				t.Fatal("no permit")
			}
		}
		exhaustNow(home)
		exhaustNow(other)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if d, err := l.Take(ctx, Token, home, ""); d.Allowed || !errors.Is(err, context.Canceled) {
				t.Errorf("a request that ended: %+v %v", d, err)
			}
		})
		synctest.Wait()
		start := time.Now()
		if d := take(t, l, other, ""); d.Allowed || time.Since(start) != 0 {
			t.Errorf("two wait: %+v", d)
		}
		cancel()
		wg.Wait()
		if d := take(t, l, home, ""); !d.Allowed || time.Since(start) != 20*time.Second {
			t.Errorf("the place was not given back: %+v after %s", d, time.Since(start))
		}
		start = time.Now() // 60 s from the end: longer than MaxWait
		if d := take(t, l, home, ""); d.Allowed || time.Since(start) != 0 || d.RetryAfter != time.Minute {
			t.Errorf("waited too long: %+v after %s", d, time.Since(start))
		}
	})
}

// TestRejected: the hook is told once for each refusal.
func TestRejected(t *testing.T) {
	told := map[Endpoint]int{}
	l := New(Options{Rules: fixed(three()), Now: newClock(noon()).Now, Rejected: func(_ context.Context, e Endpoint) { told[e]++ }})
	for range 5 {
		take(t, l, home, "")
	}
	if fmt.Sprint(told) != "map[token:2]" {
		t.Error(told)
	}
}
