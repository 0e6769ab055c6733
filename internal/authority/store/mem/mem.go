// Package mem is a store.Store in memory, for tests, benchmarks and throw-away
// labs.
//
// It guarantees what the interfaces of package store say within one process,
// and that it never forgets a single-use identifier early: when its bound is
// reached it answers store.ErrFull.
package mem

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/stella-ops/stella/internal/authority/store"
)

// Store is an in-memory store. Safe for concurrent use. Restarting loses all.
type Store struct {
	// Now is the clock that makes room in a full store; set before first use.
	Now func() time.Time

	once    onceSet
	clients table[store.Client]
	users   table[store.User]

	mu       sync.RWMutex
	records  map[store.Kind]map[string]store.Record
	secrets  map[string][]byte
	counts   map[countKey]int64
	writers  map[string]time.Time
	sighting map[string]*sighting
}

type countKey struct {
	writer, kid string
	expiry      int64
}

// New makes a store that remembers at most capacity single-use identifiers at
// a time (0 means one million).
func New(capacity int) *Store {
	if capacity <= 0 {
		capacity = 1 << 20
	}
	s := &Store{
		Now:      time.Now,
		clients:  newTable(cloneClient),
		users:    newTable(cloneUser),
		records:  map[store.Kind]map[string]store.Record{},
		secrets:  map[string][]byte{},
		counts:   map[countKey]int64{},
		writers:  map[string]time.Time{},
		sighting: map[string]*sighting{},
	}
	s.once.init(capacity)
	return s
}

var _ store.Store = (*Store)(nil)

// Ping implements store.Store.
func (s *Store) Ping(ctx context.Context) error { return ctx.Err() }

// Close implements store.Store.
func (s *Store) Close(context.Context) error { return nil }

// Once implements store.Once.
func (s *Store) Once(ctx context.Context, kind, id string, until time.Time) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	return s.once.add(newOnceKey(kind, id), until, s.Now())
}

// SweepOnce implements store.Once.
func (s *Store) SweepOnce(_ context.Context, now time.Time) error {
	s.once.sweep(now)
	return nil
}

// Secret implements store.Secrets.
func (s *Store) Secret(_ context.Context, name string, candidate []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.secrets[name]; !ok {
		s.secrets[name] = bytes.Clone(candidate)
	}
	return bytes.Clone(s.secrets[name]), nil
}

// PutCounts implements store.Counts.
func (s *Store) PutCounts(_ context.Context, w store.Writer, counts []store.Count) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range counts {
		s.counts[countKey{w.Name, c.KID, c.Expiry}] = c.Tokens
	}
	s.writers[w.Name] = w.At
	return nil
}

// EndWriter implements store.Counts.
func (s *Store) EndWriter(_ context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.writers, name)
	return nil
}

// ReadCounts implements store.Counts.
func (s *Store) ReadCounts(_ context.Context, now time.Time) ([]store.Count, []store.Writer, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	sums := map[countKey]int64{}
	for k, n := range s.counts {
		if k.expiry > now.Unix() {
			sums[countKey{"", k.kid, k.expiry}] += n
		}
	}
	counts := make([]store.Count, 0, len(sums))
	for k, n := range sums {
		counts = append(counts, store.Count{KID: k.kid, Expiry: k.expiry, Tokens: n})
	}
	slices.SortFunc(counts, func(a, b store.Count) int {
		return cmp.Or(cmp.Compare(a.KID, b.KID), cmp.Compare(a.Expiry, b.Expiry))
	})
	writers := make([]store.Writer, 0, len(s.writers))
	for name, at := range s.writers {
		writers = append(writers, store.Writer{Name: name, At: at})
	}
	return counts, writers, nil
}

// SweepCounts implements store.Counts.
func (s *Store) SweepCounts(_ context.Context, now, dead time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := range s.counts {
		if k.expiry < now.Unix() {
			delete(s.counts, k)
		}
	}
	for name, at := range s.writers {
		if at.Before(dead) {
			delete(s.writers, name)
		}
	}
	return nil
}
