package mem

import (
	"crypto/sha256"
	"sync"
	"time"

	"github.com/stella-ops/stella/internal/authority/store"
)

const onceShards = 64

// onceKey is a hash of an identifier: of fixed size whatever the identifier,
// and without a pointer, so the garbage collector need not look at each.
type onceKey [16]byte

func newOnceKey(kind, id string) onceKey {
	sum := sha256.Sum256([]byte(kind + "\x00" + id))
	return onceKey(sum[:16])
}

// onceSet is a bounded set of identifiers with an end of life each, sharded so
// that concurrent token requests do not queue at one lock.
type onceSet struct {
	shards [onceShards]onceShard
}

type onceShard struct {
	mu      sync.Mutex
	until   map[onceKey]int64 // Unix nanoseconds
	limit   int
	sweptAt time.Time
}

func (o *onceSet) init(capacity int) {
	for i := range o.shards {
		o.shards[i].until = map[onceKey]int64{}
		o.shards[i].limit = (capacity + onceShards - 1) / onceShards
	}
}

func (o *onceSet) add(k onceKey, until, now time.Time) (bool, error) {
	s := &o.shards[k[0]%onceShards]
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
