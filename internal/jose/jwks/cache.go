package jwks

import (
	"context"
	"errors"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/jose"
)

// errSlow ends the wait of a caller that has a stale set to go on with.
var errSlow = errors.New("issuer is slow")

// current returns a set that may be used now, and whether this call waited for
// a fetch that brought it.
func (r *Remote) current(ctx context.Context) (set jose.Set, fetched bool, err error) {
	r.mu.Lock()
	now := r.o.Now()
	old := r.set
	if r.have && now.Before(r.fresh) {
		r.mu.Unlock()
		return old, false, nil
	}
	stale := r.have && now.Before(r.usable)
	// A failure counts from when the set went stale: before, none was needed.
	failed := r.lastErr != nil && !r.lastTry.Before(r.fresh)
	pause := minInterval
	if stale {
		pause = r.o.Cooldown
	}
	if failed && r.flight == nil && now.Before(r.lastTry.Add(pause)) {
		err = r.lost(r.lastErr)
		r.mu.Unlock()
		if stale {
			return old, false, nil
		}
		return jose.Set{}, false, err
	}
	f := r.start(ctx, now, !stale)
	down := stale && (failed || f.slow)
	r.mu.Unlock()
	if down {
		return old, false, nil
	}
	err = r.wait(ctx, f, stale)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err == nil:
		return r.set, true, nil
	case stale:
		return old, false, nil
	case ctx.Err() != nil:
		return jose.Set{}, false, ctx.Err()
	}
	return jose.Set{}, false, r.lost(err)
}

// lost is a fetch error as callers see it: while an issuer that once answered
// cannot be used, trying later is right whatever it answers now.
func (r *Remote) lost(err error) error {
	if !r.have {
		return err
	}
	return fault.Errorf(fault.Transient, "JWK set is too old to use: %w", err)
}

// refetch asks for a newer set on behalf of an unknown kid unless the cooldown
// forbids it. A set that was fetched for this very call counts as the refetch.
func (r *Remote) refetch(ctx context.Context, fetched bool) (jose.Set, error) {
	r.mu.Lock()
	if fetched {
		r.lastNew = r.lastTry
	}
	now := r.o.Now()
	if fetched || r.flight == nil && now.Before(r.lastNew.Add(r.o.Cooldown)) {
		defer r.mu.Unlock()
		return r.set, r.lastErr
	}
	f := r.start(ctx, now, false)
	r.lastNew = r.lastTry
	r.mu.Unlock()
	if err := r.wait(ctx, f, false); err != nil {
		return jose.Set{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.set, nil
}

// start begins a fetch unless one is under way. The caller holds r.mu. The
// fetch outlives the caller's context, since others may wait for it too.
func (r *Remote) start(ctx context.Context, now time.Time, retry bool) *flight {
	if r.flight == nil {
		r.flight = &flight{done: make(chan struct{})}
		r.lastTry = now
		go r.fly(context.WithoutCancel(ctx), r.flight, r.etag, retry)
	}
	return r.flight
}

// wait waits for the fetch, but only for staleWait when a stale set is at hand.
func (r *Remote) wait(ctx context.Context, f *flight, stale bool) error {
	var giveUp <-chan time.Time
	if stale {
		t := time.NewTimer(staleWait)
		defer t.Stop()
		giveUp = t.C
	}
	select {
	case <-f.done:
		return f.err
	case <-ctx.Done():
		return ctx.Err()
	case <-giveUp:
		r.mu.Lock()
		f.slow = true
		r.mu.Unlock()
		return errSlow
	}
}

// fly fetches, with the retries if asked, and puts the outcome in place.
func (r *Remote) fly(ctx context.Context, f *flight, etag string, retry bool) {
	var delays []time.Duration
	if retry {
		delays = r.o.RetryDelays
	}
	var started time.Time
	got, err := backoff.Retry(ctx, func() (*Fetched, error) {
		started = r.o.Now()
		got, err := fetch(ctx, r.o.Client, r.url, etag)
		if err != nil && fault.KindOf(err) != fault.Transient {
			return nil, backoff.Permanent(err)
		}
		return got, err
	}, backoff.WithBackOff(&ladder{delays: delays}), backoff.WithMaxElapsedTime(0))

	r.mu.Lock()
	defer r.mu.Unlock()
	r.flight, r.lastTry, r.lastErr = nil, started, err
	if err == nil {
		r.accept(got, started)
	}
	f.err = err
	close(f.done)
}

// accept takes an answer over; one without a body says that the set still holds.
func (r *Remote) accept(got *Fetched, started time.Time) {
	if got.Raw != nil {
		r.set, r.have, r.etag = got.Set, true, got.ETag
		r.maxAge, r.noStore = got.MaxAge, got.NoStore
	} else if got.NoStore || got.MaxAge >= 0 {
		r.maxAge, r.noStore = got.MaxAge, got.NoStore
	}
	life := r.o.DefaultLifetime
	switch {
	case r.noStore:
		life = 0
	case r.maxAge >= 0:
		life = r.maxAge - got.Age
	}
	r.fresh = started.Add(max(life, minInterval))
	r.usable = r.fresh.Add(r.o.OfflineTolerance)
}

// ladder is a fixed list of delays, then an end.
type ladder struct {
	delays []time.Duration
	next   int
}

// NextBackOff implements backoff.BackOff.
func (l *ladder) NextBackOff() time.Duration {
	if l.next >= len(l.delays) {
		return backoff.Stop
	}
	l.next++
	return l.delays[l.next-1]
}

// Reset implements backoff.BackOff.
func (l *ladder) Reset() { l.next = 0 }
