package redisstore_test

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

	"github.com/redis/go-redis/v9"

	"github.com/stella-ops/stella/internal/authority/store"
	"github.com/stella-ops/stella/internal/authority/store/redisstore"
	"github.com/stella-ops/stella/internal/authority/store/storetest"
	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/secret"
	"github.com/stella-ops/stella/internal/testenv"
)

// span is the span of every kind in these tests.
const span = 2 * time.Minute

func spans() map[string]time.Duration {
	return map[string]time.Duration{"k": span, "other": span, "race": span}
}

func open(t *testing.T, o redisstore.Options) *redisstore.Store {
	t.Helper()
	if o.Spans == nil {
		o.Spans = spans()
	}
	s, err := redisstore.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func at(clock time.Time) func() time.Time { return func() time.Time { return clock } }

// settle makes the server one whose memory is whole since an hour ago.
func settle(t *testing.T, r *testenv.RedisServer) {
	t.Helper()
	ping(t, open(t, redisstore.Options{URL: r.URL(), Now: at(time.Now().Add(-time.Hour))}))
}

func ping(t *testing.T, s *redisstore.Store) {
	t.Helper()
	if err := s.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// admin is a connection of the test's own.
func admin(t *testing.T, r *testenv.RedisServer) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: r.Addr()})
	t.Cleanup(func() { c.Close() })
	return c
}

func do(t *testing.T, c *redis.Client, args ...any) any {
	t.Helper()
	v, err := c.Do(t.Context(), args...).Result()
	if err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return v
}

func TestConformance(t *testing.T) {
	r := testenv.Redis(t)
	storetest.RunOnce(t, func(t *testing.T) func() store.Once {
		do(t, admin(t, r), "FLUSHALL")
		settle(t, r)
		return func() store.Once { return open(t, redisstore.Options{URL: r.URL()}) }
	})
}

// TestForgets: the server keeps an identifier for ten minutes past its end by
// the replica's clock, and then lets it go by itself.
func TestForgets(t *testing.T) {
	r := testenv.Redis(t)
	settle(t, r)
	c := admin(t, r)
	s := open(t, redisstore.Options{URL: r.URL()})
	for _, left := range []time.Duration{-time.Minute, time.Minute} {
		before := keys(t, c)
		if ok, err := s.Once(t.Context(), "k", fmt.Sprint(left), time.Now().Add(left)); !ok || err != nil {
			t.Fatal(ok, err)
		}
		fresh := 0
		for key := range keys(t, c) {
			if before[key] {
				continue
			}
			fresh++
			ttl, err := c.PTTL(t.Context(), key).Result()
			if want := max(left, 0) + 10*time.Minute; err != nil || ttl > want || ttl < want-10*time.Second {
				t.Errorf("an identifier that ends in %s is kept for %s, %v", left, ttl, err)
			}
		}
		if fresh != 1 {
			t.Errorf("%d keys", fresh)
		}
	}
}

func keys(t *testing.T, c *redis.Client) map[string]bool {
	t.Helper()
	all, err := c.Keys(t.Context(), "*").Result()
	if err != nil {
		t.Fatal(err)
	}
	set := map[string]bool{}
	for _, k := range all {
		set[k] = true
	}
	return set
}

// TestForgotten: whatever way the server loses its memory, an identifier that
// was used before is not taken again, and one that cannot have been is.
func TestForgotten(t *testing.T) {
	for name, lose := range map[string]func(*testing.T, *testenv.RedisServer){
		"restart": func(t *testing.T, r *testenv.RedisServer) { restart(t, r) },
		"crash":   func(t *testing.T, r *testenv.RedisServer) { r.Kill(); restart(t, r) },
		"flush":   func(t *testing.T, r *testenv.RedisServer) { do(t, admin(t, r), "FLUSHALL") },
		"old snapshot": func(t *testing.T, r *testenv.RedisServer) {
			// What the test used is not in the snapshot, but the mark is.
			do(t, admin(t, r), "CONFIG", "SET", "save", "3600 1000000")
			r.Kill()
			restart(t, r)
			if len(keys(t, admin(t, r))) == 0 {
				t.Fatal("the snapshot was not loaded")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := testenv.Redis(t)
			settle(t, r)
			if name == "old snapshot" {
				do(t, admin(t, r), "SAVE")
			}
			clock := time.Now()
			var log bytes.Buffer
			s := open(t, redisstore.Options{URL: r.URL(), Now: func() time.Time { return clock }, Log: slog.New(slog.NewTextHandler(&log, nil))})
			until := clock.Add(time.Minute)
			if ok, err := s.Once(t.Context(), "k", "used", until); !ok || err != nil {
				t.Fatal(ok, err)
			}
			if log.Len() > 0 {
				t.Fatal(log.String())
			}
			lose(t, r)
			clock = clock.Add(5 * time.Second)
			eventually(t, func() error { return s.Ping(t.Context()) })
			if ok, err := s.Once(t.Context(), "k", "used", until); ok || !errors.Is(err, redisstore.ErrForgotten) {
				t.Errorf("replayed after the loss: %v %v", ok, err)
			}
			if !strings.Contains(log.String(), "has lost its memory") {
				t.Error("nobody was told")
			}
			// Accepted from two minutes before its end at the earliest: that
			// must lie after the loss, and apart must two replicas' clocks be.
			edge := clock.Add(span + 2*time.Second)
			clock = clock.Add(3 * time.Second)
			if ok, err := s.Once(t.Context(), "k", "edge", edge.Add(-time.Millisecond)); ok || !errors.Is(err, redisstore.ErrForgotten) {
				t.Errorf("may have been used before the loss: %v %v", ok, err)
			}
			if ok, err := s.Once(t.Context(), "k", "edge", edge); !ok || err != nil {
				t.Errorf("cannot have been used before the loss: %v %v", ok, err)
			}
			if ok, err := s.Once(t.Context(), "k", "edge", edge); ok || err != nil {
				t.Errorf("used twice: %v %v", ok, err)
			}
			if n := strings.Count(log.String(), "has lost its memory"); n != 1 {
				t.Errorf("told %d times", n)
			}
		})
	}
}

func restart(t *testing.T, r *testenv.RedisServer) {
	t.Helper()
	if err := r.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// eventually waits for the driver to find out that its connections are dead.
func eventually(t *testing.T, f func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
		if err = f(); err == nil {
			return
		}
	}
	t.Fatal(err)
}

// TestFull: no room is said as such, and nothing is forgotten to make some.
func TestFull(t *testing.T) {
	r := testenv.Redis(t)
	settle(t, r)
	c := admin(t, r)
	s := open(t, redisstore.Options{URL: r.URL()})
	until := time.Now().Add(time.Minute)
	if ok, err := s.Once(t.Context(), "k", "before", until); !ok || err != nil {
		t.Fatal(ok, err)
	}
	do(t, c, "CONFIG", "SET", "maxmemory", "1")
	if ok, err := s.Once(t.Context(), "k", "new", until); ok || !errors.Is(err, store.ErrFull) {
		t.Errorf("no room, and yet: %v %v", ok, err)
	}
	if _, err := s.Count(t.Context(), "n", time.Minute); !errors.Is(err, store.ErrFull) {
		t.Errorf("no room for a counter, and yet: %v", err)
	}
	do(t, c, "CONFIG", "SET", "maxmemory", "0")
	if ok, err := s.Once(t.Context(), "k", "before", until); ok || err != nil {
		t.Errorf("forgotten: %v %v", ok, err)
	}
	if ok, err := s.Once(t.Context(), "k", "new", until); !ok || err != nil {
		t.Errorf("with room again: %v %v", ok, err)
	}
}

// TestEviction: a server that may evict is refused, at the start and later.
func TestEviction(t *testing.T) {
	r := testenv.Redis(t)
	c, s := admin(t, r), open(t, redisstore.Options{URL: r.URL()})
	for _, policy := range []string{"allkeys-lru", "volatile-ttl", "volatile-lru", "allkeys-random"} {
		ping(t, s)
		do(t, c, "CONFIG", "SET", "maxmemory-policy", policy)
		if err := s.Ping(t.Context()); fault.KindOf(err) != fault.Config || !strings.Contains(err.Error(), policy) {
			t.Errorf("%s: %v", policy, err)
		}
		do(t, c, "CONFIG", "SET", "maxmemory-policy", "noeviction")
	}
	ping(t, s)
}

// TestAway: no answer means an error within the timeout, never a yes.
func TestAway(t *testing.T) {
	r := testenv.Redis(t)
	settle(t, r)
	s := open(t, redisstore.Options{URL: r.URL(), Timeout: 100 * time.Millisecond})
	ping(t, s)
	resume := r.Pause(t)
	start := time.Now()
	ok, err := s.Once(t.Context(), "k", "x", time.Now().Add(time.Minute))
	if ok || err == nil || errors.Is(err, store.ErrFull) {
		t.Errorf("a server that hangs: %v %v", ok, err)
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("it took %s", d)
	}
	resume()
	eventually(t, func() error { return s.Ping(t.Context()) })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if ok, err := s.Once(ctx, "k", "y", time.Now().Add(time.Minute)); ok || !errors.Is(err, context.Canceled) {
		t.Errorf("a request that has ended: %v %v", ok, err)
	}
	r.Kill()
	if ok, err := s.Once(t.Context(), "k", "z", time.Now().Add(time.Minute)); ok || err == nil {
		t.Errorf("a server that is gone: %v %v", ok, err)
	}
	if err := s.Ping(t.Context()); err == nil || fault.KindOf(err) == fault.Config {
		t.Errorf("Ping of a server that is gone: %v", err)
	}
}

// TestSpans: what the store cannot guard it does not take.
func TestSpans(t *testing.T) {
	r := testenv.Redis(t)
	settle(t, r)
	now := time.Now()
	s := open(t, redisstore.Options{URL: r.URL(), Now: at(now)})
	if ok, err := s.Once(t.Context(), "unheard of", "x", now.Add(time.Second)); ok || err == nil {
		t.Errorf("a kind without a span: %v %v", ok, err)
	}
	if ok, err := s.Once(t.Context(), "k", "x", now.Add(span+1)); ok || err == nil {
		t.Errorf("an end too far away: %v %v", ok, err)
	}
	if ok, err := s.Once(t.Context(), "k", "x", now.Add(span)); !ok || err != nil {
		t.Errorf("the furthest end: %v %v", ok, err)
	}
}

// TestApart: issuers and prefixes on one server do not see each other.
func TestApart(t *testing.T) {
	r := testenv.Redis(t)
	until := time.Now().Add(time.Minute)
	for _, o := range []redisstore.Options{{}, {Issuer: "https://a"}, {Issuer: "https://b"}, {Prefix: "other:"}} {
		o.URL, o.Now = r.URL(), at(time.Now().Add(-time.Hour))
		ping(t, open(t, o))
		o.Now = nil
		s := open(t, o)
		for _, want := range []bool{true, false} {
			if ok, err := s.Once(t.Context(), "k", "same", until); ok != want || err != nil {
				t.Errorf("%+v: %v %v", o, ok, err)
			}
		}
	}
	for key := range keys(t, admin(t, r)) {
		if !strings.HasPrefix(key, redisstore.DefaultPrefix) && !strings.HasPrefix(key, "other:") || strings.Contains(key, "same") {
			t.Errorf("key %q", key)
		}
	}
}

func TestCount(t *testing.T) {
	r := testenv.Redis(t)
	a, b := open(t, redisstore.Options{URL: r.URL()}), open(t, redisstore.Options{URL: r.URL()})
	var mu sync.Mutex
	seen := map[int64]int{}
	var wg sync.WaitGroup
	for n := range 100 {
		wg.Go(func() {
			got, err := []*redisstore.Store{a, b}[n%2].Count(t.Context(), "c", time.Minute)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			seen[got]++
		})
	}
	wg.Wait()
	if len(seen) != 100 || seen[1] != 1 || seen[100] != 1 {
		t.Errorf("%d numbers: %v", len(seen), seen)
	}
	if n, err := a.Count(t.Context(), "another", time.Minute); n != 1 || err != nil {
		t.Errorf("another counter: %d %v", n, err)
	}
	c := admin(t, r)
	for key := range keys(t, c) {
		if ttl, err := c.PTTL(t.Context(), key).Result(); err != nil || ttl <= 0 || ttl > time.Minute {
			t.Errorf("%s ends in %s, %v", key, ttl, err)
		}
	}
}

// TestPassword: with it, without it, with another, and never in an error.
func TestPassword(t *testing.T) {
	const password = "correct-horse-9f2"
	r := testenv.Redis(t, "--requirepass", password)
	ping(t, open(t, redisstore.Options{URL: r.URL(), Password: secret.New([]byte(password))}))
	ping(t, open(t, redisstore.Options{URL: strings.Replace(r.URL(), "redis://", "redis://default@", 1) + "/3", Password: secret.New([]byte(password))}))
	for _, wrong := range []string{"", password + "x"} {
		s := open(t, redisstore.Options{URL: r.URL(), Password: secret.New([]byte(wrong))})
		err := s.Ping(t.Context())
		if err == nil || strings.Contains(err.Error(), password) {
			t.Errorf("%d bytes of password: %v", len(wrong), err)
		}
		if ok, err := s.Once(t.Context(), "k", "x", time.Now()); ok || err == nil {
			t.Errorf("%d bytes of password: %v %v", len(wrong), ok, err)
		}
	}
}
