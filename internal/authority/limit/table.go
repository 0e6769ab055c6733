package limit

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"time"
)

// caller is whose budget it is.
type caller struct {
	network netip.Addr
	client  string
}

// spill is how many budgets the callers share that find a full table.
const spill = 1024

// window is a stretch of time by its number since 1970.
type window int64

func windowOf(now time.Time, length time.Duration) window {
	return window(now.Unix() / int64(length/time.Second))
}

func (w window) end(length time.Duration) time.Time {
	return time.Unix((int64(w)+1)*int64(length/time.Second), 0).UTC()
}

// table counts the callers of one endpoint in the current window. A new window
// begins with a new table, so nothing needs to be swept.
type table struct {
	mu      sync.Mutex
	limit   int
	seed    maphash.Seed
	window  window
	counts  map[caller]int64
	spilled [spill]int64
	waiting map[caller]int
}

func newTable(limit int) *table {
	return &table{limit: limit, seed: maphash.MakeSeed(), counts: map[caller]int64{}, waiting: map[caller]int{}}
}

// add counts one request and returns the caller's count in the window. Not
// exact means that the caller shares it with others. A clock that is set back
// by a little gives nobody a window twice; one that is set right after it ran
// far ahead does not lock the budgets up until then. (Windows of another length
// have numbers that are far away, so a new rule begins with a new table too.)
func (t *table) add(k caller, rule Rule, now time.Time) (n int64, w window, exact bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	w = windowOf(now, rule.Window)
	if w > t.window || w < t.window-1 {
		t.window, t.counts, t.spilled = w, map[caller]int64{}, [spill]int64{}
	}
	if _, known := t.counts[k]; known || len(t.counts) < t.limit {
		t.counts[k]++
		return t.counts[k], t.window, true
	}
	s := &t.spilled[maphash.Comparable(t.seed, k)%spill]
	*s++
	return *s, t.window, false
}

// enter takes a place in the caller's queue, if there is one.
func (t *table) enter(k caller, limit int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.waiting[k] >= limit {
		return false
	}
	t.waiting[k]++
	return true
}

func (t *table) leave(k caller) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.waiting[k]--; t.waiting[k] == 0 {
		delete(t.waiting, k)
	}
}
