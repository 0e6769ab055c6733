package users

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/authority/store"
	"github.com/stella-ops/stella/internal/authority/store/mem"
	"github.com/stella-ops/stella/internal/authority/store/mongostore"
	"github.com/stella-ops/stella/internal/testenv"
)

func TestLockout(t *testing.T) {
	s := newSite(t, nil)
	s.user("ann")
	s.user("bob")
	s.spend("ann", 4)
	if err := s.try("ann", right); err != nil {
		t.Fatalf("control: one attempt is left: %v", err)
	}
	s.spend("ann", 4) // success began anew
	s.clock = s.clock.Add(3*time.Minute + 123*time.Millisecond)
	s.wantLocked(s.try("ann", wrong), 15*time.Minute)
	at := s.clock
	if err := s.try("bob", right); err != nil {
		t.Errorf("control: another name: %v", err)
	}
	// Exact to the millisecond, in the next window too, whatever the password.
	for _, gone := range []time.Duration{time.Millisecond, 11 * time.Minute, 14*time.Minute + 59*time.Second, 15*time.Minute - time.Millisecond} {
		s.clock = at.Add(gone)
		for _, password := range []string{right, wrong} {
			s.wantLocked(s.try("ann", password), 15*time.Minute-gone)
		}
	}
	s.clock = at.Add(15 * time.Minute)
	if err := s.try("ann", right); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestLockedOutText(t *testing.T) {
	for retry, want := range map[time.Duration]string{
		time.Millisecond: "in 1 minute", time.Minute: "in 1 minute", time.Minute + 1: "in 2 minutes", 15 * time.Minute: "in 15 minutes",
	} {
		if got := (&LockedOut{retry}).Error(); !strings.HasSuffix(got, want) {
			t.Errorf("%v: %s", retry, got)
		}
	}
}

// Attempts count within their own window only.
func TestWindows(t *testing.T) {
	s := newSite(t, nil)
	s.user("ann")
	s.clock = time.Date(2026, 11, 22, 4, 14, 59, 0, time.UTC)
	s.spend("ann", 4)
	s.clock = s.clock.Add(time.Second)
	s.spend("ann", 4)
	s.wantLocked(s.try("ann", wrong), 15*time.Minute)
}

func TestUnlock(t *testing.T) {
	s := newSite(t, nil)
	doc := s.user("ann")
	s.spend("ann", 4)
	s.wantLocked(s.try("ann", wrong), 15*time.Minute)
	s.clock = s.clock.Add(14 * time.Minute) // the next window
	got, err := s.Get(t.Context(), "ann")
	if err != nil || got.LockedUntil == nil || !got.LockedUntil.Equal(s.clock.Add(time.Minute)) {
		t.Fatalf("%+v %v", got, err)
	}
	s.wantLocked(s.try("ann", right), time.Minute)
	if subject, err := s.Unlock(t.Context(), " ANN"); err != nil || subject != doc.Subject {
		t.Fatal(subject, err)
	}
	if got, err = s.Get(t.Context(), "ann"); err != nil || got.LockedUntil != nil {
		t.Errorf("%+v %v", got, err)
	}
	if err := s.try("ann", right); err != nil {
		t.Error(err)
	}
	if _, err := s.Unlock(t.Context(), "nobody"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("unknown: %v", err)
	}
}

// A policy that has changed holds for what was counted before.
func TestPolicyChanges(t *testing.T) {
	s := newSite(t, nil)
	s.user("ann")
	s.spend("ann", 3)
	s.policy.Lockout.MaxAttempts = 3
	s.wantLocked(s.try("ann", right), 15*time.Minute)
	s.policy.Lockout.MaxAttempts = 4
	s.wantLocked(s.try("ann", wrong), 15*time.Minute)
	s.policy.Lockout.Enabled = false
	s.spend("ann", 20)
	if err := s.try("ann", right); err != nil {
		t.Errorf("without lockout: %v", err)
	}
	if n := len(s.records()); n != 4 {
		t.Errorf("%d records, want the 4 of before", n)
	}
}

// What strangers make the store keep ends with the lockout, and names are not
// in it.
func TestRecordsEnd(t *testing.T) {
	s := newSite(t, nil)
	for i := range 20 {
		s.spend(fmt.Sprintf("stranger-%d", i), 1)
	}
	if n := len(s.records()); n != 20 {
		t.Fatalf("%d records", n)
	}
	for _, r := range s.records() {
		if !r.Until.Equal(s.clock.Add(15*time.Minute)) || strings.Contains(r.ID+string(r.Data), "stranger") {
			t.Errorf("%+v", r)
		}
	}
	if err := s.store.Store.SweepRecords(t.Context(), s.clock.Add(15*time.Minute+time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n := len(s.records()); n != 0 {
		t.Errorf("%d records stay", n)
	}
}

// Fifty wrong passwords at once over two replicas: five reach the hash. For a
// name that nobody has it is the same.
func TestRace(t *testing.T) {
	t.Run("mem", func(t *testing.T) {
		st := mem.New(0)
		race(t, func() Store { return st })
	})
	t.Run("mongo", func(t *testing.T) {
		uri, database := testenv.Mongo(t)
		race(t, func() Store {
			st, err := mongostore.Open(mongostore.Options{URI: uri, Database: database, Timeout: time.Minute})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = st.Close(t.Context()) })
			if err := st.Ping(t.Context()); err != nil {
				t.Fatal(err)
			}
			return st
		})
	})
}

func race(t *testing.T, open func() Store) {
	replicas := []*site{newSite(t, open()), newSite(t, open())}
	replicas[0].user("known")
	replicas[0].user("other")
	for _, name := range []string{"known", "unknown"} {
		var all sync.WaitGroup
		start, errs := make(chan bool), make(chan error, 50)
		before := replicas[0].hashes.Load() + replicas[1].hashes.Load()
		for i := range 50 {
			all.Go(func() {
				<-start
				_, err := replicas[i%2].Authenticate(t.Context(), name, wrong, tests)
				errs <- err
			})
		}
		close(start)
		all.Wait()
		close(errs)
		refused, locked := 0, 0
		for err := range errs {
			if _, ok := errors.AsType[*LockedOut](err); ok {
				locked++
			} else if errors.Is(err, ErrCredentials) {
				refused++
			} else {
				t.Error(err)
			}
		}
		hashes := replicas[0].hashes.Load() + replicas[1].hashes.Load() - before
		if hashes != 5 || refused != 4 || locked != 46 {
			t.Errorf("%s: %d hashes, %d refused, %d locked out", name, hashes, refused, locked)
		}
		replicas[1].wantLocked(replicas[1].try(name, right), 15*time.Minute)
	}
	if err := replicas[1].try("other", right); err != nil {
		t.Errorf("control: %v", err)
	}
}
