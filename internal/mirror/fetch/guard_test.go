package fetch_test

import (
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/mirror/fetch"
	"github.com/stella-ops/stella/internal/objstore"
	"github.com/stella-ops/stella/internal/release"
)

// TestGuard: who trickles is refused, who is silent fails for now, and nobody
// else; each as soon as its window ends.
func TestGuard(t *testing.T) {
	const size, rate, window = 200_000, 1000, 30 * time.Second
	pace := func(n int, every time.Duration, after int) func(int, objstore.Get, io.Reader) (io.Reader, error) {
		return func(_ int, _ objstore.Get, body io.Reader) (io.Reader, error) {
			return &paced{Reader: body, n: n, every: every, after: after}, nil
		}
	}
	for name, c := range map[string]struct {
		say  func(int, objstore.Get, io.Reader) (io.Reader, error)
		kind fault.Kind
		why  release.Reason
		took time.Duration
	}{
		"at once":                             {pace(size, 0, 0), fault.None, "", 0},
		"a little above the floor":            {pace(1100, time.Second, 0), fault.None, "", 182 * time.Second},
		"in bursts above the floor":           {pace(20_000, 19*time.Second, 0), fault.None, "", 190 * time.Second},
		"one byte a second":                   {pace(1, time.Second, 0), fault.Trust, release.TooSlow, window},
		"a little below the floor":            {pace(990, time.Second, 0), fault.Trust, release.TooSlow, window},
		"much at first, then a trickle":       {pace(1, time.Second, 100_000), fault.Trust, release.TooSlow, 2 * window},
		"one byte in most of a window":        {pace(1, 25*time.Second, 0), fault.Trust, release.TooSlow, window},
		"one byte early in each window":       {pace(1, 21*time.Second, 0), fault.Trust, release.TooSlow, 2 * window},
		"silent":                              {pace(0, 0, 0), fault.Transient, "", window},
		"a little at first, then silence":     {pace(0, 0, 100), fault.Transient, "", 2 * window},
		"much at first, then silence":         {pace(0, 0, 100_000), fault.Transient, "", 2 * window},
		"a byte in more than a window":        {pace(1, window+time.Second, 0), fault.Transient, "", window},
		"silence for less than a window":      {pace(size, window-time.Second, 1000), fault.None, "", window - time.Second},
		"silence for less than two, too much": {pace(size, 2*window-time.Second, 40_000), fault.None, "", 2*window - time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := small(size)
				o.say = c.say
				s := fetch.New(o, limits(rate, window), fetch.Options{Delays: []time.Duration{}})
				began := time.Now()
				err := s.Member(t.Context(), "k", o.member(), new(staged), nil, 1)
				took := time.Since(began)
				if fault.KindOf(err) != c.kind || release.ReasonOf(err) != c.why {
					t.Errorf("kind %v, reason %q, want %v, %q: %v", fault.KindOf(err), release.ReasonOf(err), c.kind, c.why, err)
				}
				if took < c.took || took > c.took+2*time.Second {
					t.Errorf("took %s, want %s", took, c.took)
				}
			})
		})
	}
}

// TestGuardOff: without a floor nobody is dropped.
func TestGuardOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := small(100)
		o.say = func(_ int, _ objstore.Get, body io.Reader) (io.Reader, error) {
			return &paced{Reader: body, n: 1, every: time.Hour}, nil
		}
		s := fetch.New(o, limits(0, 0), fetch.Options{})
		if err := s.Member(t.Context(), "k", o.member(), new(staged), nil, 1); err != nil {
			t.Error(err)
		}
	})
}

// TestGuardTogether: the rate is that of all requests. Each of twenty is below
// the floor; together they are above it.
func TestGuardTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := small(10_000)
		o.say = func(_ int, _ objstore.Get, body io.Reader) (io.Reader, error) {
			return &paced{Reader: body, n: 100, every: time.Second}, nil
		}
		s := fetch.New(o, limits(1000, 30*time.Second), fetch.Options{})
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if err := s.Member(t.Context(), "k", o.member(), new(staged), nil, 1); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		// The control: one of them alone.
		if err := s.Member(t.Context(), "k", o.member(), new(staged), nil, 1); release.ReasonOf(err) != release.TooSlow {
			t.Error(err)
		}
	})
}

// TestGuardSmall: small objects are guarded too.
func TestGuardSmall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := small(100_000)
		gone := make(chan struct{})
		o.say = func(_ int, _ objstore.Get, body io.Reader) (io.Reader, error) {
			return &closing{paced{Reader: body, n: 1, every: time.Second}, gone}, nil
		}
		s := fetch.New(o, limits(1000, 30*time.Second), fetch.Options{})
		_, _, err := s.Small(t.Context(), "k", 1<<20, "")
		if release.ReasonOf(err) != release.TooSlow {
			t.Error(err)
		}
	})
}
