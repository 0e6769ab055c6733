// Package jwks keeps a remote JWK set for verifiers.
package jwks

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/stella-ops/stella/internal/jose"
)

// ErrUnknownKey means that the issuer's current set has no such kid.
var ErrUnknownKey = errors.New("unknown kid")

// Options of a Remote; zero values are the defaults named.
type Options struct {
	Client           *http.Client
	Cooldown         time.Duration   // between refetches for unknown kids; 10 s
	DefaultLifetime  time.Duration   // when the answer has no max-age; 5 min
	OfflineTolerance time.Duration   // added to the lifetime when the issuer is down; 10 min; negative: none
	RetryDelays      []time.Duration // nil: 1 s, 2 s, 5 s; empty non-nil: no retries
	Now              func() time.Time
}

// Remote is a JWK set behind a URL. Safe for concurrent use; one fetch at a time.
type Remote struct{}

// New makes a Remote; nothing is fetched yet.
func New(url string, o Options) *Remote { panic("todo") }

// Key returns the key with that kid, fetching or refetching as the rules say.
func (r *Remote) Key(ctx context.Context, kid string) (jose.Key, error) { panic("todo") }

// Set returns the current set.
func (r *Remote) Set(ctx context.Context) (jose.Set, error) { panic("todo") }

// Fetched is one answer of a JWKS endpoint as a checker sees it.
type Fetched struct {
	Set      jose.Set
	Raw      []byte
	MaxAge   time.Duration // from Cache-Control; -1 when absent
	Age      time.Duration // Age header
	NoStore  bool
	ETag     string
	Date     time.Time // zero when absent
	Warnings []string
}

// Fetch gets a set once, bounded, without cache or retry. Errors have fault kinds (Transient when down, Trust when the body is not a JWK set).
func Fetch(ctx context.Context, client *http.Client, url string) (*Fetched, error) { panic("todo") }
