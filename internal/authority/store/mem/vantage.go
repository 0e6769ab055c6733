package mem

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/stella-ops/stella/internal/authority/store"
)

type sighting struct {
	url      string
	lastSeen time.Time
	maxAges  map[time.Duration]time.Time // cache lifetime: when last seen
	since    map[string]time.Time
}

// Look implements store.Vantage.
func (s *Store) Look(_ context.Context, at time.Time, l store.Look) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.sighting[l.Name]
	if v == nil {
		v = &sighting{maxAges: map[time.Duration]time.Time{}, since: map[string]time.Time{}}
		s.sighting[l.Name] = v
	}
	if v.url != l.URL {
		clear(v.since) // seen elsewhere, which says nothing about this place
	}
	v.url, v.lastSeen = l.URL, at
	if l.MaxAge > 0 {
		v.maxAges[l.MaxAge] = at
	}
	maps.DeleteFunc(v.maxAges, func(d time.Duration, seen time.Time) bool { return at.After(store.MaxAgeEnd(d, seen)) })
	maps.DeleteFunc(v.since, func(kid string, _ time.Time) bool { return !slices.Contains(l.KIDs, kid) })
	for _, kid := range l.KIDs {
		if _, ok := v.since[kid]; !ok {
			v.since[kid] = at
		}
	}
	return nil
}

// Sightings implements store.Vantage.
func (s *Store) Sightings(_ context.Context, now time.Time) ([]store.Sighting, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := make([]store.Sighting, 0, len(s.sighting))
	for name, v := range s.sighting {
		g := store.Sighting{Name: name, URL: v.url, LastSeen: v.lastSeen, Since: maps.Clone(v.since)}
		for d, seen := range v.maxAges {
			if d > g.MaxAge && !now.After(store.MaxAgeEnd(d, seen)) {
				g.MaxAge = d
			}
		}
		all = append(all, g)
	}
	slices.SortFunc(all, func(a, b store.Sighting) int { return cmp.Compare(a.Name, b.Name) })
	return all, nil
}

// Forget implements store.Vantage.
func (s *Store) Forget(_ context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.sighting[name]; !ok {
		return store.ErrNotFound
	}
	delete(s.sighting, name)
	return nil
}
