package users

import (
	"errors"
	"testing"
)

// A store that fails at any operation, before or after it did its work, lets
// nobody in and calls no password wrong.
func TestDatabaseLost(t *testing.T) {
	s := newSite(t, nil)
	s.user("ann")
	s.spend("ann", 2)
	s.store.reset(0, false)
	if err := s.try("ann", right); err != nil {
		t.Fatalf("control: %v", err)
	}
	work := s.store.reset(0, false)
	if len(work) < 10 {
		t.Fatalf("%d operations: %v", len(work), work)
	}
	for _, persist := range []bool{false, true} {
		for n := range work {
			s.spend("ann", 2)
			s.store.reset(n+1, persist)
			p, err := s.Authenticate(t.Context(), "ann", right, tests)
			_, locked := errors.AsType[*LockedOut](err)
			if p != nil || !errors.Is(err, errStore) || locked || errors.Is(err, ErrCredentials) {
				t.Errorf("operation %d (%s, persists: %v) fails: %+v %v", n+1, work[n], persist, p, err)
			}
			s.store.reset(0, false)
			if err := s.try("ann", right); err != nil {
				t.Errorf("after operation %d: %v", n+1, err)
			}
		}
	}
}

// What the store did not let us check is not counted against anybody.
func TestOutageLocksNobody(t *testing.T) {
	s := newSite(t, nil)
	s.user("ann")
	for range 20 {
		s.store.reset(3, false) // the read of the user
		if err := s.try("ann", right); !errors.Is(err, errStore) {
			t.Fatal(err)
		}
	}
	if n := len(s.records()); n != 0 {
		t.Errorf("%d attempts were counted", n)
	}
	if last := s.seen[len(s.seen)-1]; last != Failed {
		t.Errorf("it was observed as %s", last)
	}
	s.store.reset(0, false)
	if err := s.try("ann", right); err != nil {
		t.Error(err)
	}
}
