package mem

import (
	"hash/maphash"
	"sync"
	"time"

	"github.com/stella-ops/stella/internal/authority/store"
)

const onceShards = 64

type onceKey struct{ kind, id string }

// onceSet is a bounded set of identifiers with an end of life each, sharded so
// that concurrent token requests do not queue at one lock.
type onceSet struct {
	seed   maphash.Seed
	shards [onceShards]onceShard
}

type onceShard struct {
	mu      sync.Mutex
	until   map[onceKey]int64 // Unix nanoseconds
	limit   int
	sweptAt time.Time
}

func (o *onceSet) init(capacity int) {
	o.seed = maphash.MakeSeed()
	for i := range o.shards {
		o.shards[i].until = map[onceKey]int64{}
		o.shards[i].limit = (capacity + onceShards - 1) / onceShards
	}
}

func (o *onceSet) add(k onceKey, until, now time.Time) (bool, error) {
	s := &o.shards[maphash.Comparable(o.seed, k)%onceShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.until[k]; ok {
		return false, nil // even past its end: only a sweep forgets
	}
	if len(s.until) >= s.limit {
		// Look for room at most once a second, or a flood would make every
		// insert walk the whole shard.
		if now.Sub(s.sweptAt) >= time.Second {
			s.sweep(now)
		}
		if len(s.until) >= s.limit {
			return false, store.ErrFull
		}
	}
	s.until[k] = until.UnixNano()
	return true, nil
}

func (o *onceSet) sweep(now time.Time) {
	for i := range o.shards {
		s := &o.shards[i]
		s.mu.Lock()
		s.sweep(now)
		s.mu.Unlock()
	}
}

func (s *onceShard) sweep(now time.Time) {
	s.sweptAt = now
	for k, end := range s.until {
		if end < now.UnixNano() {
			delete(s.until, k)
		}
	}
}
