package storetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/authority/store"
)

// RunOnce runs the part of the suite that is about store.Once, with kinds "k",
// "other" and "race" and ends within two minutes. open is as for Run. Whether a
// sweep makes room is shown by Run alone: a store may also forget by itself,
// some time after the end.
func RunOnce(t *testing.T, open func(t *testing.T) func() store.Once) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, func() store.Once){"Once": once, "OnceRace": onceRace} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

// use demands an outcome of one use.
func use(t *testing.T, s store.Once, kind, id string, until time.Time, want bool) {
	t.Helper()
	got, err := s.Once(t.Context(), kind, id, until)
	must(t, err)
	if got != want {
		t.Fatalf("Once(%s, %s) = %v", kind, id, got)
	}
}

func once(t *testing.T, open func() store.Once) {
	a, b := open(), open()
	now := time.Now().UTC().Truncate(time.Second)
	use(t, a, "k", "x", now.Add(time.Minute), true)
	use(t, b, "k", "x", now.Add(time.Minute), false)
	use(t, b, "other", "x", now.Add(time.Minute), true)
	use(t, a, "k", "y", now.Add(-time.Minute), true)
	use(t, b, "k", "y", now.Add(time.Minute), false) // its end alone frees nothing
	must(t, a.SweepOnce(t.Context(), now))
	use(t, a, "k", "x", now.Add(time.Minute), false)
}

func onceRace(t *testing.T, open func() store.Once) {
	for round := range 5 {
		id := fmt.Sprint("id", round)
		if n := race(t, open, func(ctx context.Context, s store.Once, _ int) (bool, error) {
			return s.Once(ctx, "race", id, time.Now().Add(time.Minute))
		}); n != 1 {
			t.Fatalf("%d winners", n)
		}
	}
}

// onceSweep shows that a sweep forgets what has ended and nothing else.
func onceSweep(t *testing.T, open func() store.Store) {
	a, b := open(), open()
	now := time.Now().UTC().Truncate(time.Second)
	use(t, a, "k", "live", now.Add(time.Minute), true)
	use(t, a, "k", "over", now.Add(-time.Minute), true)
	must(t, a.SweepOnce(t.Context(), now))
	use(t, b, "k", "over", now.Add(time.Minute), true)
	use(t, b, "k", "live", now.Add(time.Minute), false)
}
