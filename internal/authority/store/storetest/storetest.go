// Package storetest is the conformance suite of store.Store: every
// implementation passes it, and what it shows holds for all of them.
//
// It guarantees that each single-use and first-writer operation was raced by
// many goroutines and had exactly one winner.
package storetest

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stella-ops/stella/internal/authority/store"
)

// racers is how many goroutines compete in each race.
const racers = 50

// Run runs the suite. open returns a handle on one and the same empty store at
// each call within a test, as replicas have it.
func Run(t *testing.T, open func(t *testing.T) func() store.Store) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, func() store.Store){
		"Users": users, "UserRaces": userRaces, "Records": records, "RecordRaces": recordRaces,
		"Clients": clients, "ClientRaces": clientRaces, "OnceSweep": onceSweep,
		"SecretRace": secretRace, "Counts": counts, "Vantage": vantage, "VantageURL": vantageURL, "VantageRace": vantageRace,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
	RunOnce(t, func(t *testing.T) func() store.Once {
		handle := open(t)
		return func() store.Once { return handle() }
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func client(id string) *store.Client {
	at := time.Date(2026, 11, 22, 4, 0, 0, 1e6, time.UTC)
	return &store.Client{
		ID: id, Name: "n", Method: "client_secret_basic", SecretHash: []byte{1, 2, 3}, JWKS: []byte(`{"keys":[]}`),
		Scopes: []string{"a", "b"}, Audiences: []string{"api://x"}, Tenant: "t", Tenants: []string{"t"},
		Grants: []string{"g"}, Introspects: []string{"api://x"}, CertRequired: true, Service: true,
		DPoPRequired: true, CreatedAt: at, UpdatedAt: at,
	}
}

func clients(t *testing.T, open func() store.Store) {
	a, b, ctx := open(), open(), t.Context()
	if _, err := a.Client(ctx, "c"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("Client before create: %v", err)
	}
	if err := a.ReplaceClient(ctx, client("c")); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("ReplaceClient before create: %v", err)
	}
	want := client("c")
	must(t, a.CreateClient(ctx, want))
	if err := b.CreateClient(ctx, want); !errors.Is(err, store.ErrExists) {
		t.Fatalf("second CreateClient: %v", err)
	}
	got, err := b.Client(ctx, "c")
	must(t, err)
	if d := cmp.Diff(want, got); d != "" {
		t.Fatal(d)
	}
	got.Scopes[0] = "changed by the caller"
	want.DPoPRequired, want.Name = false, "m"
	must(t, b.ReplaceClient(ctx, want))
	got, err = a.Client(ctx, "c")
	must(t, err)
	if d := cmp.Diff(want, got); d != "" {
		t.Fatal(d)
	}
	must(t, a.DeleteClient(ctx, "c"))
	if err := b.DeleteClient(ctx, "c"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("second DeleteClient: %v", err)
	}
}

// race runs f in many goroutines, on two handles, and returns how many said yes.
func race[S any](t *testing.T, open func() S, f func(ctx context.Context, s S, n int) (bool, error)) int {
	t.Helper()
	handles := []S{open(), open()}
	start := make(chan struct{})
	var wins atomic.Int64
	var wg sync.WaitGroup
	for n := range racers {
		wg.Go(func() {
			<-start
			won, err := f(t.Context(), handles[n%2], n)
			if err != nil {
				t.Error(err)
			}
			if won {
				wins.Add(1)
			}
		})
	}
	close(start)
	wg.Wait()
	return int(wins.Load())
}

// winner turns "somebody else was first" into a loss.
func winner(err, loss error) (bool, error) {
	if errors.Is(err, loss) {
		return false, nil
	}
	return err == nil, err
}

func clientRaces(t *testing.T, open func() store.Store) {
	if n := race(t, open, func(ctx context.Context, s store.Store, _ int) (bool, error) {
		return winner(s.CreateClient(ctx, client("raced")), store.ErrExists)
	}); n != 1 {
		t.Errorf("%d winners of a create", n)
	}
	if n := race(t, open, func(ctx context.Context, s store.Store, _ int) (bool, error) {
		return winner(s.DeleteClient(ctx, "raced"), store.ErrNotFound)
	}); n != 1 {
		t.Errorf("%d winners of a delete", n)
	}
}

func secretRace(t *testing.T, open func() store.Store) {
	var mu sync.Mutex
	seen := map[string]int{}
	race(t, open, func(ctx context.Context, s store.Store, n int) (bool, error) {
		got, err := s.Secret(ctx, "name", []byte{byte(n), 0, 255})
		mu.Lock()
		defer mu.Unlock()
		seen[string(got)]++
		return false, err
	})
	if len(seen) != 1 {
		t.Fatalf("%d different secrets", len(seen))
	}
	other, err := open().Secret(t.Context(), "other name", []byte("mine"))
	must(t, err)
	if string(other) != "mine" {
		t.Fatalf("another name got %q", other)
	}
}

func counts(t *testing.T, open func() store.Store) {
	a, b, ctx := open(), open(), t.Context()
	now := time.Date(2026, 11, 22, 4, 0, 0, 0, time.UTC)
	exp := now.Unix() + 60
	must(t, a.PutCounts(ctx, store.Writer{Name: "a", At: now}, []store.Count{{KID: "k", Expiry: exp, Tokens: 3}, {KID: "l", Expiry: exp, Tokens: 1}}))
	must(t, b.PutCounts(ctx, store.Writer{Name: "b", At: now.Add(time.Second)}, []store.Count{{KID: "k", Expiry: exp, Tokens: 4}}))
	must(t, a.PutCounts(ctx, store.Writer{Name: "a", At: now.Add(2 * time.Second)}, []store.Count{{KID: "k", Expiry: exp, Tokens: 5}}))
	got, writers, err := b.ReadCounts(ctx, now)
	must(t, err)
	if d := cmp.Diff([]store.Count{{KID: "k", Expiry: exp, Tokens: 9}, {KID: "l", Expiry: exp, Tokens: 1}}, got); d != "" {
		t.Fatal(d)
	}
	if len(writers) != 2 {
		t.Fatalf("writers %v", writers)
	}
	must(t, a.EndWriter(ctx, "a"))
	_, writers, err = a.ReadCounts(ctx, now)
	must(t, err)
	if d := cmp.Diff([]store.Writer{{Name: "b", At: now.Add(time.Second)}}, writers); d != "" {
		t.Fatal(d)
	}
	if got, _, err = a.ReadCounts(ctx, now.Add(60*time.Second)); err != nil || len(got) != 0 {
		t.Fatalf("expired counts %v %v", got, err)
	}
	must(t, a.SweepCounts(ctx, now.Add(2*time.Minute), now.Add(time.Hour)))
	got, writers, err = b.ReadCounts(ctx, now)
	if err != nil || len(got)+len(writers) != 0 {
		t.Fatalf("after the sweep: %v %v %v", got, writers, err)
	}
}

func vantage(t *testing.T, open func() store.Store) {
	a, b, ctx := open(), open(), t.Context()
	t0 := time.Date(2026, 11, 22, 4, 0, 0, 0, time.UTC)
	at := func(s int) time.Time { return t0.Add(time.Duration(s) * time.Second) }
	look := func(s store.Store, sec int, maxAge time.Duration, kids ...string) {
		t.Helper()
		must(t, s.Look(ctx, at(sec), store.Look{Name: "edge", URL: "https://e", KIDs: kids, MaxAge: maxAge}))
	}
	check := func(sec int, maxAge time.Duration, last int, since map[string]int) {
		t.Helper()
		got, err := b.Sightings(ctx, at(sec))
		must(t, err)
		want := store.Sighting{Name: "edge", URL: "https://e", LastSeen: at(last), MaxAge: maxAge, Since: map[string]time.Time{}}
		for kid, s := range since {
			want.Since[kid] = at(s)
		}
		if d := cmp.Diff([]store.Sighting{want}, got); d != "" {
			t.Fatal(d)
		}
	}
	look(a, 0, 100*time.Second, "k1")
	look(b, 10, 5*time.Second, "k1", "k2")
	check(10, 100*time.Second, 10, map[string]int{"k1": 0, "k2": 10})
	look(a, 20, 5*time.Second, "k1") // k2 is gone: its clock restarts
	check(20, 100*time.Second, 20, map[string]int{"k1": 0})
	look(b, 30, 5*time.Second, "k1", "k2")
	check(30, 100*time.Second, 30, map[string]int{"k1": 0, "k2": 30})
	look(a, 300, 5*time.Second, "k2") // nothing cached for 100 s can be left
	check(300, 5*time.Second, 300, map[string]int{"k2": 30})
	look(a, 310, 0)
	check(400, 0, 310, nil)
	must(t, a.Forget(ctx, "edge"))
	if err := b.Forget(ctx, "edge"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("second Forget: %v", err)
	}
	if got, err := b.Sightings(ctx, at(500)); err != nil || len(got) != 0 {
		t.Fatalf("after Forget: %v %v", got, err)
	}
}

// What was seen at one URL says nothing about another under the same name.
func vantageURL(t *testing.T, open func() store.Store) {
	a, b, ctx := open(), open(), t.Context()
	t0 := time.Date(2026, 11, 22, 4, 0, 0, 0, time.UTC)
	for i, step := range []struct {
		url   string
		since int
	}{{"https://theirs", 0}, {"https://theirs", 0}, {"https://ours", 2}, {"https://ours", 2}, {"https://theirs", 4}} {
		at := t0.Add(time.Duration(i) * time.Second)
		must(t, a.Look(ctx, at, store.Look{Name: "edge", URL: step.url, KIDs: []string{"k"}}))
		a, b = b, a
		got, err := a.Sightings(ctx, at)
		must(t, err)
		want := store.Sighting{
			Name: "edge", URL: step.url, LastSeen: at,
			Since: map[string]time.Time{"k": t0.Add(time.Duration(step.since) * time.Second)},
		}
		if d := cmp.Diff([]store.Sighting{want}, got); d != "" {
			t.Fatalf("look %d: %s", i, d)
		}
	}
}

func vantageRace(t *testing.T, open func() store.Store) {
	t0 := time.Date(2026, 11, 22, 4, 0, 0, 0, time.UTC)
	race(t, open, func(ctx context.Context, s store.Store, n int) (bool, error) {
		return false, s.Look(ctx, t0.Add(time.Duration(n)*time.Second), store.Look{Name: "e", URL: "u", KIDs: []string{"k"}})
	})
	a, b, ctx := open(), open(), t.Context()
	first, err := a.Sightings(ctx, t0)
	must(t, err)
	since := first[0].Since["k"]
	must(t, b.Look(ctx, t0.Add(time.Hour), store.Look{Name: "e", URL: "u", KIDs: []string{"k"}}))
	again, err := a.Sightings(ctx, t0)
	must(t, err)
	if since.IsZero() || !again[0].Since["k"].Equal(since) {
		t.Fatalf("first seen moved from %v to %v", since, again[0].Since["k"])
	}
}
