package mem_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/authority/store"
	"github.com/stella-ops/stella/internal/authority/store/mem"
	"github.com/stella-ops/stella/internal/authority/store/storetest"
)

func TestConformance(t *testing.T) {
	storetest.Run(t, func(*testing.T) func() store.Store {
		s := mem.New(0)
		return func() store.Store { return s }
	})
}

// A full store refuses; it forgets only what has ended.
func TestFull(t *testing.T) {
	s := mem.New(64) // one identifier for each shard
	clock := time.Now()
	s.Now = func() time.Time { return clock }
	var used []string
	full := false
	for n := 0; !full && n < 10_000; n++ {
		id := fmt.Sprint(n)
		switch ok, err := s.Once(t.Context(), "k", id, clock.Add(time.Minute)); {
		case errors.Is(err, store.ErrFull):
			full = true
		case err != nil || !ok:
			t.Fatal(ok, err)
		default:
			used = append(used, id)
		}
	}
	if !full {
		t.Fatal("never full")
	}
	for _, id := range used {
		if ok, err := s.Once(t.Context(), "k", id, clock.Add(time.Minute)); ok || err != nil {
			t.Fatalf("%s was forgotten: %v %v", id, ok, err)
		}
	}
	clock = clock.Add(2 * time.Minute)
	if ok, err := s.Once(t.Context(), "k", "new", clock.Add(time.Minute)); !ok || err != nil {
		t.Fatalf("no room after all have ended: %v %v", ok, err)
	}
}
