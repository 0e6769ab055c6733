package mem

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/stella-ops/stella/internal/authority/store"
)

// Insert implements store.Records.
func (s *Store) Insert(ctx context.Context, r store.Record) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.records[r.Kind]
	if all == nil {
		all = map[string]store.Record{}
		s.records[r.Kind] = all
	}
	if _, ok := all[r.ID]; ok {
		return store.ErrExists
	}
	all[r.ID] = cloneRecord(r)
	return nil
}

// Record implements store.Records.
func (s *Store) Record(_ context.Context, kind store.Kind, id string) (*store.Record, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	r, ok := s.records[kind][id]
	if !ok {
		return nil, store.ErrNotFound
	}
	r = cloneRecord(r)
	return &r, nil
}

// List implements store.Records.
func (s *Store) List(_ context.Context, kind store.Kind) ([]store.Record, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := make([]store.Record, 0, len(s.records[kind]))
	for _, r := range s.records[kind] {
		all = append(all, cloneRecord(r))
	}
	slices.SortFunc(all, func(a, b store.Record) int { return cmp.Compare(a.ID, b.ID) })
	return all, nil
}

// Remove implements store.Records.
func (s *Store) Remove(_ context.Context, kind store.Kind, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.records[kind][id]; !ok {
		return store.ErrNotFound
	}
	delete(s.records[kind], id)
	return nil
}

// SweepRecords implements store.Records.
func (s *Store) SweepRecords(_ context.Context, now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, all := range s.records {
		for id, r := range all {
			if r.Until.Before(now) {
				delete(all, id)
			}
		}
	}
	return nil
}

func cloneRecord(r store.Record) store.Record {
	r.Data, r.Until = bytes.Clone(r.Data), r.Until.UTC().Truncate(time.Millisecond)
	return r
}
