package jwks_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/jose/jwks"
)

func TestLifetime(t *testing.T) {
	rows := []struct {
		name    string
		control string
		age     string
		want    time.Duration
	}{
		{"max-age", "max-age=60", "", 60 * time.Second},
		{"max-age less Age", "public, max-age=60", "20", 40 * time.Second},
		{"Age past max-age", "max-age=60", "100", time.Second},
		{"unreadable Age", "max-age=60", "-5", 60 * time.Second},
		{"absent", "", "", 5 * time.Minute},
		{"only other directives", "public, must-revalidate", "", 5 * time.Minute},
		{"s-maxage is not for us", "s-maxage=5, max-age=60", "", 60 * time.Second},
		{"no-store", "no-store, max-age=60", "", time.Second},
		{"no-cache", "no-cache", "", time.Second},
		{"max-age 0", "max-age=0", "", time.Second},
		{"unreadable max-age", "max-age=soon", "", time.Second},
		{"a week", "max-age=604800", "", 7 * 24 * time.Hour},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				i := newIssuer(t, "a")
				i.header.Del("Cache-Control")
				if r.control != "" {
					i.header.Set("Cache-Control", r.control)
				}
				if r.age != "" {
					i.header.Set("Age", r.age)
				}
				remote := i.remote(jwks.Options{})
				i.wantFetches(t, 0)
				wantKey(t, remote, "a")
				time.Sleep(r.want - time.Nanosecond)
				wantKey(t, remote, "a")
				i.wantFetches(t, 1)
				time.Sleep(time.Nanosecond)
				wantKey(t, remote, "a")
				i.wantFetches(t, 2)
				if _, full := i.count(); full != 1 {
					t.Errorf("%d full answers: the refetch was not conditional", full)
				}
				time.Sleep(r.want - time.Nanosecond)
				wantKey(t, remote, "a")
				i.wantFetches(t, 2)
			})
		})
	}
}

// K09: a key that left the set is refused once the lifetime is over. K10: until
// then, and as long as it is published, it is accepted.
func TestK09K10Rotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer(t, "old")
		remote := i.remote(jwks.Options{})
		wantKey(t, remote, "old")
		i.publish(t, "old", "new")
		wantKey(t, remote, "new") // by a refetch
		wantKey(t, remote, "old")
		i.wantFetches(t, 2)
		i.publish(t, "new")
		time.Sleep(300*time.Second - time.Nanosecond)
		wantKey(t, remote, "old")
		time.Sleep(time.Nanosecond)
		wantUnknown(t, remote, "old")
		wantKey(t, remote, "new")
		i.wantFetches(t, 3)
	})
}

// K08: unknown kids cost one fetch a cooldown, however many there are.
func TestK08UnknownKidFlood(t *testing.T) {
	for _, warm := range []bool{false, true} {
		t.Run(fmt.Sprintf("warm=%v", warm), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				i := newIssuer(t, "a")
				i.header.Set("Cache-Control", "max-age=86400")
				remote := i.remote(jwks.Options{Cooldown: 10 * time.Second})
				want := 1
				if warm {
					wantKey(t, remote, "a")
					want = 2
				}
				for n := range 1000 {
					wantUnknown(t, remote, fmt.Sprint("random-", n))
				}
				i.wantFetches(t, want)
				time.Sleep(10*time.Second - time.Nanosecond)
				wantUnknown(t, remote, "still-cooling")
				i.wantFetches(t, want)
				time.Sleep(time.Nanosecond)
				var wg sync.WaitGroup
				for n := range 1000 {
					wg.Go(func() { wantUnknown(t, remote, fmt.Sprint("parallel-", n)) })
				}
				wg.Wait()
				i.wantFetches(t, want+1)
				for range 60 { // ten minutes of flood, one every 10 ms
					for n := range 1000 {
						wantUnknown(t, remote, fmt.Sprint("later-", n))
						time.Sleep(10 * time.Millisecond)
					}
				}
				if got, _ := i.count(); got > want+1+60 || got < want+55 {
					t.Errorf("%d fetches in 600 s with a cooldown of 10 s", got)
				}
				wantKey(t, remote, "a")
			})
		})
	}
}

func TestEmptyKidFetchesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer(t, "a")
		remote := i.remote(jwks.Options{})
		wantUnknown(t, remote, "")
		i.wantFetches(t, 0)
		wantKey(t, remote, "a")
	})
}

func TestOneFetchAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer(t, "a")
		i.delay = time.Second
		remote := i.remote(jwks.Options{})
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() { wantKey(t, remote, "a") })
		}
		wg.Wait()
		i.wantFetches(t, 1)
	})
}

// A caller that goes away neither ends the fetch nor waits for it.
func TestCallerGoesAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer(t, "a")
		i.delay = 2 * time.Second
		remote := i.remote(jwks.Options{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := remote.Key(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) || fault.KindOf(err) != fault.Transient {
			t.Error(err)
		}
		wantKey(t, remote, "a")
		i.wantFetches(t, 1)
	})
}

func TestRetryLadder(t *testing.T) {
	rows := []struct {
		name   string
		delays []time.Duration
		want   []time.Duration // of the fetches, from the first
	}{
		{"default", nil, []time.Duration{0, 1 * time.Second, 3 * time.Second, 8 * time.Second}},
		{"none", []time.Duration{}, []time.Duration{0}},
		{"own", []time.Duration{time.Minute}, []time.Duration{0, time.Minute}},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				i := newIssuer(t, "a")
				i.down = true
				remote := i.remote(jwks.Options{RetryDelays: r.delays})
				start := time.Now()
				_, err := remote.Key(t.Context(), "a")
				if fault.KindOf(err) != fault.Transient || !errors.Is(err, errDown) {
					t.Errorf("%v of kind %s", err, fault.KindOf(err))
				}
				if len(i.times) != len(r.want) {
					t.Fatalf("%d fetches, want %d", len(i.times), len(r.want))
				}
				for n, at := range i.times {
					if at.Sub(start) != r.want[n] {
						t.Errorf("fetch %d after %s, want %s", n, at.Sub(start), r.want[n])
					}
				}
				for range 100 { // the failure is remembered for a second
					if _, err := remote.Key(t.Context(), "a"); fault.KindOf(err) != fault.Transient {
						t.Error(err)
					}
				}
				i.wantFetches(t, len(r.want))
				i.change(func() { i.down = false })
				time.Sleep(time.Second)
				wantKey(t, remote, "a")
				i.wantFetches(t, len(r.want)+1)
			})
		})
	}
}

func TestLadderEndsEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer(t, "a")
		i.down = true
		remote := i.remote(jwks.Options{})
		go func() {
			time.Sleep(2 * time.Second)
			i.change(func() { i.down = false })
		}()
		start := time.Now()
		wantKey(t, remote, "a")
		if d := time.Since(start); d != 3*time.Second {
			t.Errorf("took %s", d)
		}
	})
	synctest.Test(t, func(t *testing.T) { // not a passing failure: no retry
		i := newIssuer(t, "a")
		i.body = "<html>"
		_, err := i.remote(jwks.Options{}).Key(t.Context(), "a")
		if fault.KindOf(err) != fault.Trust || !errors.Is(err, jose.ErrMalformed) {
			t.Errorf("%v of kind %s", err, fault.KindOf(err))
		}
		i.wantFetches(t, 1)
	})
}

func TestConditionalRefetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer(t, "a")
		remote := i.remote(jwks.Options{})
		wantKey(t, remote, "a")
		i.change(func() { i.header.Del("Cache-Control") }) // a 304 may leave it out
		time.Sleep(300 * time.Second)
		wantKey(t, remote, "a")
		time.Sleep(300*time.Second - time.Nanosecond)
		wantKey(t, remote, "a")
		if f, full := i.count(); f != 2 || full != 1 {
			t.Errorf("%d fetches, %d full", f, full)
		}
		i.publish(t, "b")
		time.Sleep(time.Nanosecond)
		wantKey(t, remote, "b")
		if f, full := i.count(); f != 3 || full != 2 {
			t.Errorf("%d fetches, %d full", f, full)
		}
	})
}

// A set with no key at all is an answer: it is how an issuer says that nothing
// it ever signed is to be trusted.
func TestEmptySetIsTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer(t, "a")
		remote := i.remote(jwks.Options{})
		wantKey(t, remote, "a")
		i.publish(t)
		time.Sleep(300 * time.Second)
		wantUnknown(t, remote, "a")
		set, err := remote.Set(t.Context())
		if err != nil || len(set.Keys) != 0 {
			t.Error(set, err)
		}
	})
}

func TestOwnClock(t *testing.T) {
	now := time.Unix(1000, 0)
	i := newIssuer(t, "a")
	remote := i.remote(jwks.Options{Now: func() time.Time { return now }})
	wantKey(t, remote, "a")
	now = now.Add(299 * time.Second)
	wantKey(t, remote, "a")
	i.wantFetches(t, 1)
	now = now.Add(time.Second)
	wantKey(t, remote, "a")
	i.wantFetches(t, 2)
}

func TestBadURL(t *testing.T) {
	for _, url := range []string{"", "/jwks", "ftp://a.example/jwks", "https://", "https://a b/"} {
		if _, err := jwks.New(url, jwks.Options{Client: &http.Client{}}).Set(t.Context()); fault.KindOf(err) != fault.Input {
			t.Errorf("%q: %v of kind %s", url, err, fault.KindOf(err))
		}
	}
}
