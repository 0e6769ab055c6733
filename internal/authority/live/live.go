// Package live counts unexpired tokens by signing key and expiry second.
//
// It guarantees that a token is counted before it is handed out, that each
// process writes only documents of its own, replacing them whole, so no count
// is lost between replicas, and that a reader is told how fresh the counts
// are. Tokens themselves are never stored.
package live

import (
	"cmp"
	"context"
	"crypto/rand"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/stella-ops/stella/internal/authority/store"
	"github.com/stella-ops/stella/internal/keyring"
)

// FlushEvery is how often counts are written, and so how stale they may be
// while the store is well.
const FlushEvery = time.Second

type key struct {
	kid    string
	expiry int64
}

// Counter counts the tokens of this process. Safe for concurrent use.
type Counter struct {
	store store.Counts
	name  string // of this process, never used again
	now   func() time.Time
	log   *slog.Logger

	mu     sync.Mutex
	counts map[key]int64
	dirty  map[key]bool

	flushing sync.Mutex // one flush at a time, so an older one never overwrites a newer
}

// New makes a Counter for a replica. Two processes may share the replica's
// name: each adds a random part of its own.
func New(s store.Counts, replica string, now func() time.Time, log *slog.Logger) *Counter {
	return &Counter{
		store: s, name: replica + "/" + rand.Text()[:16], now: now, log: log,
		counts: map[key]int64{}, dirty: map[key]bool{},
	}
}

// Add counts one token.
func (c *Counter) Add(kid string, expiry int64) {
	k := key{kid, expiry}
	c.mu.Lock()
	c.counts[k]++
	c.dirty[k] = true
	c.mu.Unlock()
}

// Flush writes what has changed since the last successful flush and forgets
// what has expired.
func (c *Counter) Flush(ctx context.Context) error {
	c.flushing.Lock()
	defer c.flushing.Unlock()
	now := c.now()
	c.mu.Lock()
	var changed []store.Count
	for k := range c.dirty {
		changed = append(changed, store.Count{KID: k.kid, Expiry: k.expiry, Tokens: c.counts[k]})
	}
	clear(c.dirty)
	for k := range c.counts {
		if k.expiry < now.Unix() {
			delete(c.counts, k)
		}
	}
	c.mu.Unlock()
	err := c.store.PutCounts(ctx, store.Writer{Name: c.name, At: now}, changed)
	if err != nil {
		c.mu.Lock()
		for _, n := range changed {
			if k := (key{n.KID, n.Expiry}); c.counts[k] > 0 {
				c.dirty[k] = true
			}
		}
		c.mu.Unlock()
	}
	return err
}

// Run flushes every FlushEvery until ctx ends, then one last time. Failures
// are logged once per outage.
func (c *Counter) Run(ctx context.Context, timeout time.Duration) {
	tick := time.NewTicker(FlushEvery)
	defer tick.Stop()
	down := false
	for {
		select {
		case <-ctx.Done():
			end, cancel := context.WithTimeout(context.WithoutCancel(ctx), min(timeout, 5*time.Second))
			defer cancel()
			if err := c.Flush(end); err != nil {
				c.log.WarnContext(end, "live counts not stored at shutdown", "err", err)
			} else if err := c.store.EndWriter(end, c.name); err != nil {
				c.log.WarnContext(end, "end of live counts not noted", "err", err)
			}
			return
		case <-tick.C:
		}
		op, cancel := context.WithTimeout(ctx, timeout)
		err := c.Flush(op)
		cancel()
		switch {
		case err != nil && !down && ctx.Err() == nil:
			c.log.WarnContext(ctx, "live counts cannot be stored; they are kept and tried again", "err", err)
			down = true
		case err == nil && down:
			c.log.InfoContext(ctx, "live counts are stored again")
			down = false
		}
	}
}

// Local returns this process's own unexpired counts by kid.
func (c *Counter) Local() map[string]int64 {
	now := c.now().Unix()
	sums := map[string]int64{}
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, n := range c.counts {
		if k.expiry > now {
			sums[k.kid] += n
		}
	}
	return sums
}

// Live sums the counts of all replicas by kid. asOf is when the stalest of
// them was complete; the counts of this process are complete now.
func (c *Counter) Live(ctx context.Context) (live []keyring.Live, asOf time.Time, err error) {
	if err := c.Flush(ctx); err != nil {
		return nil, time.Time{}, err
	}
	counts, writers, err := c.store.ReadCounts(ctx, c.now())
	if err != nil {
		return nil, time.Time{}, err
	}
	byKID := map[string]*keyring.Live{}
	for _, n := range counts {
		l := byKID[n.KID]
		if l == nil {
			l = &keyring.Live{KID: n.KID}
			byKID[n.KID] = l
		}
		l.Tokens += n.Tokens
		if at := time.Unix(n.Expiry, 0).UTC(); at.After(l.LastExpiry) {
			l.LastExpiry = at
		}
	}
	live = make([]keyring.Live, 0, len(byKID))
	for _, l := range byKID {
		live = append(live, *l)
	}
	slices.SortFunc(live, func(a, b keyring.Live) int { return cmp.Compare(a.KID, b.KID) })
	for _, w := range writers {
		if asOf.IsZero() || w.At.Before(asOf) {
			asOf = w.At
		}
	}
	return live, asOf, nil
}
