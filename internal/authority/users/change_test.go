package users

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/authority/problem"
	"github.com/stella-ops/stella/internal/authority/store"
	"github.com/stella-ops/stella/internal/authority/store/mem"
)

func (s *site) stored(name string) *store.User {
	s.t.Helper()
	u, err := s.store.Store.User(s.t.Context(), name)
	if err != nil {
		s.t.Fatal(err)
	}
	return u
}

// A login stores the password under the parameters of a changed policy, and a
// login without a change stores nothing.
func TestRehash(t *testing.T) {
	s := newSite(t, nil)
	s.user("ann")
	old := s.stored("ann")
	if err := s.try("ann", right); err != nil || s.stored("ann").PasswordHash != old.PasswordHash {
		t.Fatalf("control: %v", err)
	}
	s.policy.Hashing.Iterations = 3
	if err := s.try("ann", wrong); err == nil || s.stored("ann").PasswordHash != old.PasswordHash {
		t.Fatalf("a wrong password: %v", err)
	}
	if err := s.try("ann", right); err != nil {
		t.Fatal(err)
	}
	now := s.stored("ann")
	if !strings.Contains(now.PasswordHash, "t=3,") || !now.UpdatedAt.Equal(old.UpdatedAt) || now.Subject != old.Subject {
		t.Errorf("stored: %+v", now)
	}
	if err := s.try("ann", right); err != nil {
		t.Error(err)
	}
	if n := len(s.records()); n != 0 {
		t.Errorf("%d records stay", n)
	}
}

// A better hash of the old password never undoes a change.
func TestRehashYields(t *testing.T) {
	for name, change := range map[string]func(*site) error{
		"password": func(s *site) error { _, err := s.SetPassword(t.Context(), "ann", "another good password"); return err },
		"disabled": func(s *site) error {
			_, _, err := s.Put(t.Context(), &Document{Username: "ann", Tenant: "t", Disabled: true}, any1)
			return err
		},
		"deleted": func(s *site) error { _, err := s.Delete(t.Context(), "ann"); return err },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, nil)
			s.user("ann")
			s.policy.Hashing.Iterations = 3
			s.onHash = func() {
				if s.hashes.Load() == 3 { // put, login, and now the new one
					s.onHash = nil
					if err := change(s); err != nil {
						t.Error(err)
					}
				}
			}
			_ = s.try("ann", right) // the change came too late for it
			if s.onHash != nil {
				t.Fatal("there was no second hash")
			}
			if err := s.try("ann", right); !errors.Is(err, ErrCredentials) {
				t.Errorf("the old password works: %v", err)
			}
		})
	}
}

// While one changes a user another is told to wait; not so for another user.
func TestLease(t *testing.T) {
	s := newSite(t, nil)
	s.user("ann")
	s.user("bob")
	var inside error
	s.store.before = func(op string) {
		if op == "ReplaceUser" {
			s.store.before = nil
			_, inside = s.Delete(t.Context(), "ann")
			if _, err := s.SetPassword(t.Context(), "bob", "another good password"); err != nil {
				t.Errorf("control: %v", err)
			}
		}
	}
	if _, err := s.SetPassword(t.Context(), "ann", "another good password"); err != nil {
		t.Fatal(err)
	}
	if p, ok := errors.AsType[*problem.Error](inside); !ok || p.Code != problem.Conflict {
		t.Errorf("second change: %v", inside)
	}
	if _, err := s.Delete(t.Context(), "ann"); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// A lease that nobody ended stands in the way for two minutes at most.
func TestLeaseEnds(t *testing.T) {
	s := newSite(t, nil)
	s.user("ann")
	s.store.reset(4, false) // insert, two reads, and the removal
	if err := s.lease(t.Context(), "ann", func(context.Context) error { return nil }); err != nil {
		t.Fatal(err)
	}
	s.store.reset(0, false)
	if n := len(s.records()); n != 1 {
		t.Fatalf("%d records", n)
	}
	free := func() bool {
		_, err := s.SetPassword(t.Context(), "ann", "another good password")
		if err != nil && !errors.Is(err, errChanging) {
			t.Fatal(err)
		}
		return err == nil
	}
	if free() {
		t.Error("it did not hold")
	}
	s.clock = s.clock.Add(2 * time.Minute)
	if !free() {
		t.Error("it holds too long")
	}
}

// At the border of two minutes, seen at different times by many: never two.
func TestLeaseRace(t *testing.T) {
	st := mem.New(0)
	border := time.Date(2026, 11, 22, 4, 3, 0, 0, time.UTC)
	var inside, most, won atomic.Int64
	var all sync.WaitGroup
	for i := range 40 {
		s := newSite(t, st)
		s.clock = border.Add(time.Duration(i%2*2-1) * time.Millisecond)
		all.Go(func() {
			for range 50 {
				_ = s.lease(t.Context(), "ann", func(context.Context) error {
					won.Add(1)
					if n := inside.Add(1); n > 1 {
						most.Store(n)
					}
					runtime.Gosched()
					inside.Add(-1)
					return nil
				})
			}
		})
	}
	all.Wait()
	if most.Load() != 0 || won.Load() == 0 {
		t.Errorf("%d at once, %d in all", most.Load(), won.Load())
	}
}

func TestRevocation(t *testing.T) {
	s := newSite(t, nil)
	doc := s.user("ann")
	put := func(d Document) {
		t.Helper()
		d.Username, d.Tenant = "ann", "t"
		if _, _, err := s.Put(t.Context(), &d, any1); err != nil {
			t.Fatal(err)
		}
	}
	put(Document{DisplayName: "Ann", Scopes: []string{"a", "b", "c"}, Roles: []string{"r"}, Tenants: []string{"u"}})
	if len(s.revoked) != 0 {
		t.Errorf("control: %v", s.revoked)
	}
	put(Document{Password: "another good password", Scopes: []string{"a", "b", "c"}, Roles: []string{"r"}, Tenants: []string{"u"}})
	put(Document{Scopes: []string{"a", "c"}, Roles: []string{"r"}, Tenants: []string{"u"}})
	put(Document{Scopes: []string{"a", "c"}, Tenants: []string{"u"}})
	put(Document{Scopes: []string{"a", "c"}})
	put(Document{Disabled: true})
	if _, err := s.SetPassword(t.Context(), "ann", right); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Delete(t.Context(), "ann"); err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, reason := range []string{
		ReasonPassword, ReasonRights, ReasonRights, ReasonRights, ReasonRights, ReasonRights, ReasonRights, ReasonDisabled, ReasonPassword, ReasonDeleted,
	} {
		want = append(want, doc.Subject+" "+reason)
	}
	if !slices.Equal(s.revoked, want) {
		t.Errorf("%v", s.revoked)
	}
	if again := s.user("ann"); again.Subject == doc.Subject {
		t.Error("a new person has the subject of the old one")
	}
}

// Rights are not taken away without a revocation, however often it fails.
func TestRevocationStopped(t *testing.T) {
	s := newSite(t, nil)
	s.user("ann")
	s.refuse = errors.New("no revocation")
	for range 2 {
		if _, _, err := s.Put(t.Context(), &Document{Username: "ann", Tenant: "t"}, any1); !errors.Is(err, s.refuse) {
			t.Fatal(err)
		}
	}
	s.refuse, s.revoked = nil, nil
	if _, _, err := s.Put(t.Context(), &Document{Username: "ann", Tenant: "t"}, any1); err != nil || len(s.revoked) == 0 {
		t.Errorf("%v %v", s.revoked, err)
	}
}

// A deletion that was stopped anywhere leaves nobody who can log in, once it
// began to change anything, and is finished by doing it again.
func TestDeleteStopped(t *testing.T) {
	s := newSite(t, nil)
	s.user("ann")
	s.refuse = errors.New("no revocation")
	if _, err := s.Delete(t.Context(), "ann"); !errors.Is(err, s.refuse) {
		t.Fatal(err)
	}
	if err := s.try("ann", right); !errors.Is(err, ErrCredentials) {
		t.Errorf("half deleted: %v", err)
	}
	s.refuse, s.revoked = nil, nil
	if _, err := s.Delete(t.Context(), "ann"); err != nil || len(s.revoked) != 1 {
		t.Errorf("again: %v %v", err, s.revoked)
	}
	if _, err := s.Delete(t.Context(), "ann"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("nobody left: %v", err)
	}
}

func TestEnsure(t *testing.T) {
	st := mem.New(0)
	doc := &Document{Username: "Admin", Password: right, Tenant: "t", Scopes: []string{"authority:admin"}}
	var created atomic.Int64
	var all sync.WaitGroup
	for range 10 {
		s := newSite(t, st)
		all.Go(func() {
			made, err := s.Ensure(t.Context(), doc, any1)
			if err != nil {
				t.Error(err)
			}
			if made {
				created.Add(1)
			}
		})
	}
	all.Wait()
	s := newSite(t, st)
	if err := s.try("admin", right); err != nil || created.Load() != 1 {
		t.Fatalf("%v, created by %d", err, created.Load())
	}
	was := s.stored("admin")
	doc.Password, doc.Scopes = "another good password", nil
	if made, err := s.Ensure(t.Context(), doc, any1); made || err != nil || s.stored("admin").PasswordHash != was.PasswordHash {
		t.Errorf("it was overwritten: %v %v", made, err)
	}
	doc.Username, doc.Password = "second", "short"
	if _, err := s.Ensure(t.Context(), doc, any1); err == nil || strings.Contains(err.Error(), "short") {
		t.Errorf("weak password: %v", err)
	}
	if err := doc.Check(s.policy.Password, any1); err == nil {
		t.Error("Check accepts what Ensure refuses")
	}
	doc.Password = right
	if err := doc.Check(s.policy.Password, any1); err != nil {
		t.Errorf("control: %v", err)
	}
	s.store.reset(1, false)
	if _, err := s.Ensure(t.Context(), doc, any1); !errors.Is(err, errStore) {
		t.Errorf("no database: %v", err)
	}
}
