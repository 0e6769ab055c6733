package store_test

import (
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/fault"
)

// TestHold: what is held is neither planned to go nor removed by a plan that
// was made before.
func TestHold(t *testing.T) {
	s := create(t)
	for _, id := range []string{"20260301T010000Z", "20260301T020000Z", "20260301T030000Z"} {
		place(t, s, id, map[string]string{"a": id})
	}
	later := time.Now().Add(time.Hour)
	before, err := book(t, s).PlanPrune(1, later)
	if err != nil || len(before.Releases) != 2 {
		t.Fatalf("%+v %v", before, err)
	}
	free, err := s.Hold("20260301T010000Z")
	if err != nil {
		t.Fatal(err)
	}
	second, err := s.Hold("20260301T010000Z")
	if err != nil {
		t.Fatalf("two readers: %v", err)
	}
	second()
	if plan, err := book(t, s).PlanPrune(1, later); err != nil || len(plan.Releases) != 1 || plan.Releases[0] != "20260301T020000Z" {
		t.Errorf("%+v %v", plan, err)
	}
	if err := s.Prune(t.Context(), before); fault.KindOf(err) != fault.Locked || !s.HasRelease("20260301T010000Z") {
		t.Errorf("an older plan: %v", err)
	}
	free()
	if err := s.Prune(t.Context(), before); err != nil || s.HasRelease("20260301T010000Z") {
		t.Errorf("control: %v", err)
	}
	if _, err := s.Hold("20260301T010000Z"); fault.KindOf(err) != fault.NotFound {
		t.Errorf("a release that is gone: %v", err)
	}
}
