// Package jwks keeps a remote JWK set for verifiers.
//
// It guarantees that a verifier neither hammers the issuer nor goes without a
// new key for long: one fetch at a time, the issuer's cache lifetime obeyed (but
// never below a second), one refetch a cooldown for unknown key ids however many
// there are, and the last good set kept, for a bounded time, when the issuer is
// down or answers with something else than a JWK set.
package jwks

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/jose"
)

// ErrUnknownKey means that the issuer's current set has no such kid.
var ErrUnknownKey = errors.New("unknown kid")

// Defaults of Options, and the fixed bounds beside them.
const (
	defaultCooldown  = 10 * time.Second
	defaultLifetime  = 5 * time.Minute
	defaultTolerance = 10 * time.Minute
	minInterval      = time.Second // the shortest lifetime, and the pause after a failure
	staleWait        = time.Second // how long a caller waits for a refresh while a usable set is at hand
)

// Options of a Remote; zero values are the defaults named.
type Options struct {
	Client           *http.Client
	Cooldown         time.Duration   // between refetches for unknown kids; 10 s
	DefaultLifetime  time.Duration   // when the answer has no max-age; 5 min
	OfflineTolerance time.Duration   // added to the lifetime when the issuer is down; 10 min; negative: none
	RetryDelays      []time.Duration // while nothing usable is cached; nil: 1 s, 2 s, 5 s; empty non-nil: no retries
	Now              func() time.Time
}

// Remote is a JWK set behind a URL. Safe for concurrent use; one fetch at a time.
//
// A set is fresh for max-age minus Age (for one second when the answer may not
// be kept, or is stale on arrival). A stale set is refetched before it is used
// again, conditionally if there is an ETag. If that fails, or takes longer than
// a second, the old set is served through OfflineTolerance while further tries
// run in the background, at most one a Cooldown. Past the tolerance, and before
// the first set, callers wait for the fetch and its retries.
type Remote struct {
	url string
	o   Options

	mu      sync.Mutex
	set     jose.Set
	etag    string
	have    bool          // set holds an answer of the issuer
	fresh   time.Time     // the set needs no refetch before
	usable  time.Time     // the set may not be used from here on
	maxAge  time.Duration // as last said by the issuer; -1 for nothing
	noStore bool
	lastTry time.Time // start of the last fetch
	lastNew time.Time // start of the last fetch made for an unknown kid, or that did not bring one
	lastErr error     // of the last fetch; nil after a good one
	flight  *flight   // the fetch under way
}

// flight is one fetch that any number of callers wait for.
type flight struct {
	done chan struct{}
	err  error // set before done is closed
	slow bool  // a caller gave up on it; guarded by Remote.mu
}

// New makes a Remote; nothing is fetched yet.
func New(url string, o Options) *Remote {
	if o.Cooldown <= 0 {
		o.Cooldown = defaultCooldown
	}
	if o.DefaultLifetime <= 0 {
		o.DefaultLifetime = defaultLifetime
	}
	if o.OfflineTolerance == 0 {
		o.OfflineTolerance = defaultTolerance
	}
	o.OfflineTolerance = max(o.OfflineTolerance, 0)
	if o.RetryDelays == nil {
		o.RetryDelays = []time.Duration{1 * time.Second, 2 * time.Second, 5 * time.Second}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Remote{url: url, o: o}
}

// Set returns the current set. Errors have the kinds of Fetch, or that of ctx.
func (r *Remote) Set(ctx context.Context) (jose.Set, error) {
	set, _, err := r.current(ctx)
	return set, err
}

// Key returns the key with that kid, refetching for an unknown one at most once
// a Cooldown. Errors wrap ErrUnknownKey (kind Trust) when the issuer's set does
// not have it; when the issuer could not be asked they have the kinds of Fetch.
func (r *Remote) Key(ctx context.Context, kid string) (jose.Key, error) {
	if kid == "" {
		return jose.Key{}, unknown(kid)
	}
	set, fetched, err := r.current(ctx)
	if err != nil {
		return jose.Key{}, err
	}
	if k, ok := set.Key(kid); ok {
		return k, nil
	}
	set, err = r.refetch(ctx, fetched)
	if err != nil {
		return jose.Key{}, err
	}
	if k, ok := set.Key(kid); ok {
		return k, nil
	}
	return jose.Key{}, unknown(kid)
}

func unknown(kid string) error {
	return fault.Errorf(fault.Trust, "%w %q", ErrUnknownKey, kid)
}
