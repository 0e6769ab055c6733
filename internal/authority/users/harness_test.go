package users

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/authority/store"
	"github.com/stella-ops/stella/internal/authority/store/mem"
)

const (
	right = "correct horse battery"
	wrong = "wrong horse battery"
	tests = "192.0.2.7"
)

// cheap stands in for argon2id where a test counts hashes.
func cheap(password, salt []byte, h Hashing, size int) []byte {
	sum := sha256.Sum256(fmt.Appendf(nil, "%x|%x|%v|%d", password, salt, h, size))
	return sum[:size]
}

var errStore = errors.New("the database is away")

// faulty records what a Store is asked and can fail at it: before (vanish) or
// after (persist) it was done.
type faulty struct {
	Store
	mu      sync.Mutex
	trace   []string
	failAt  int // 1 is the first operation from now; 0: never
	persist bool
	before  func(op string)
}

func do[T any](f *faulty, op string, act func() (T, error)) (T, error) {
	f.mu.Lock()
	f.trace = append(f.trace, op)
	fail := len(f.trace) == f.failAt
	persist, before := f.persist, f.before
	f.mu.Unlock()
	var none T
	if before != nil {
		before(op)
	}
	if fail && !persist {
		return none, errStore
	}
	v, err := act()
	if fail {
		return none, errStore
	}
	return v, err
}

// reset forgets the trace and plans a fault.
func (f *faulty) reset(failAt int, persist bool) (was []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	was, f.trace, f.failAt, f.persist = f.trace, nil, failAt, persist
	return was
}

func (f *faulty) act(op string, act func() error) error {
	_, err := do(f, op, func() (struct{}, error) { return struct{}{}, act() })
	return err
}

func (f *faulty) User(ctx context.Context, name string) (*store.User, error) {
	return do(f, "User", func() (*store.User, error) { return f.Store.User(ctx, name) })
}

func (f *faulty) CreateUser(ctx context.Context, u *store.User) error {
	return f.act("CreateUser", func() error { return f.Store.CreateUser(ctx, u) })
}

func (f *faulty) ReplaceUser(ctx context.Context, u *store.User) error {
	return f.act("ReplaceUser", func() error { return f.Store.ReplaceUser(ctx, u) })
}

func (f *faulty) DeleteUser(ctx context.Context, name string) error {
	return f.act("DeleteUser", func() error { return f.Store.DeleteUser(ctx, name) })
}

func (f *faulty) Insert(ctx context.Context, r store.Record) error {
	return f.act("Insert", func() error { return f.Store.Insert(ctx, r) })
}

func (f *faulty) Record(ctx context.Context, kind store.Kind, id string) (*store.Record, error) {
	return do(f, "Record", func() (*store.Record, error) { return f.Store.Record(ctx, kind, id) })
}

func (f *faulty) Remove(ctx context.Context, kind store.Kind, id string) error {
	return f.act("Remove", func() error { return f.Store.Remove(ctx, kind, id) })
}

// site is a Directory with everything around it in the hands of a test.
type site struct {
	*Directory
	t       testing.TB
	store   *faulty
	policy  Policy
	hashes  atomic.Int64
	onHash  func()
	mu      sync.Mutex
	seen    []Outcome
	revoked []string
	refuse  error // what OnRevoke answers
	clock   time.Time
	logged  bytes.Buffer
}

// The clock stands at a second of no window's border.
func newSite(t testing.TB, st Store) *site {
	if st == nil {
		st = mem.New(0)
	}
	s := &site{t: t, store: &faulty{Store: st}, policy: DefaultPolicy(), clock: time.Date(2026, 11, 22, 4, 3, 20, 5e6, time.UTC)}
	s.Directory = New(Options{
		Store: s.store, Policy: func() Policy { return s.policy }, Now: func() time.Time { return s.clock }, Hashes: 64,
		Hash: func(password, salt []byte, h Hashing, size int) []byte {
			s.hashes.Add(1)
			if s.onHash != nil {
				s.onHash()
			}
			return cheap(password, salt, h, size)
		},
		Observe: func(o Outcome) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.seen = append(s.seen, o)
		},
		OnRevoke: func(_ context.Context, subject, reason string) error {
			s.revoked = append(s.revoked, subject+" "+reason)
			return s.refuse
		},
		Log: slog.New(slog.NewJSONHandler(&s.logged, nil)),
	})
	return s
}

func any1(string) bool { return true }

// user stores a person with the right password.
func (s *site) user(name string) *Document {
	s.t.Helper()
	doc, _, err := s.Put(s.t.Context(), &Document{Username: name, Password: right, Tenant: "t", Scopes: []string{"b", "a"}}, any1)
	if err != nil {
		s.t.Fatal(err)
	}
	return doc
}

// try logs in and returns what a person would be told.
func (s *site) try(name, password string) error {
	p, err := s.Authenticate(s.t.Context(), name, password, tests)
	if (p == nil) == (err == nil) {
		s.t.Fatalf("person %v with error %v", p, err)
	}
	return err
}

// spend fails n times and wants to be told so.
func (s *site) spend(name string, n int) {
	s.t.Helper()
	for i := range n {
		if err := s.try(name, wrong); !errors.Is(err, ErrCredentials) {
			s.t.Fatalf("attempt %d: %v", i+1, err)
		}
	}
}

func (s *site) wantLocked(err error, retry time.Duration) {
	s.t.Helper()
	l, ok := errors.AsType[*LockedOut](err)
	if !ok || l.RetryAfter != retry {
		s.t.Fatalf("want a lockout of %v: %v (%+v)", retry, err, l)
	}
}

func (s *site) records() []store.Record {
	s.t.Helper()
	all, err := s.store.Store.List(s.t.Context(), store.Attempts)
	if err != nil {
		s.t.Fatal(err)
	}
	return all
}
