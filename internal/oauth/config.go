// Package oauth gets access tokens for clients and attaches them to requests
// (RFC 6749, 7009, 7521, 7523, 8414, 8628, 8705, 8707, 9449).
//
// It guarantees that a token is only taken from the issuer that was
// configured, byte for byte, over TLS; that a token which was asked to be
// bound to a key or a certificate is bound to it; that of several processes
// sharing a cache directory one refreshes and the others wait; that a refresh
// which fails leaves the last good token as it was; that a rotated refresh
// token is on disk before the access token that came with it is used; that
// nothing but a passing failure is tried again; and that no secret, token or key reaches an error or an event.
// In offline mode it opens no socket.
package oauth

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/secret"
	"github.com/stella-ops/stella/internal/signals"
)

// Limits and defaults.
const (
	DefaultAttemptTimeout = 15 * time.Second // one request, body included
	DefaultClockTolerance = 30 * time.Second // contracts: the skew that a DPoP check allows
	DefaultMetadataLife   = 5 * time.Minute  // when the answer names no max-age
	DefaultOffline        = 10 * time.Minute // added to the life of metadata while the issuer is down
	DefaultLockWait       = time.Minute      // for another process that is refreshing
	refreshPause          = 10 * time.Second // after a refresh failed in passing, while the token at hand is valid
	maxMetadataBytes      = 256 << 10
	maxResponseBytes      = 64 << 10
	maxTokenBytes         = 16 << 10
	maxOpaqueBytes        = 4 << 10
	maxReplayBytes        = 8 << 20
)

// Config says who asks whom for what. Issuer is always required; ClientID and
// Credential are for tokens, unless StaticToken is set.
type Config struct {
	// Issuer is the Authority's URL: https, or http on loopback only. The
	// metadata must name exactly this issuer.
	Issuer string
	// Origins are further origins (scheme://host:port) on which endpoints of
	// the metadata may lie; the issuer's own is always allowed.
	Origins []string

	ClientID   string
	Credential Credential // nil: only cached tokens are of use

	Scopes   []string // order and repetition do not matter
	Audience string
	Tenant   string
	Reason   string // sent along and not part of the cache key; see Client.Mint
	Bearer   bool   // ask for a token without DPoP binding
	// Device makes the tokens those of a person, who logs in once by Device;
	// Token then refreshes them, and asks for none by client_credentials. Such
	// tokens have cache entries of their own.
	Device bool

	// StaticToken is a ready bearer token (STELLA_TOKEN). It is used as it
	// is: no discovery, no cache, no refresh.
	StaticToken secret.Bytes

	// CacheDir holds tokens and metadata between runs: mode 0700, made if
	// missing. Empty: memory only.
	CacheDir string
	LockWait time.Duration // 0: DefaultLockWait
	Offline  bool          // open no socket

	HTTP           *http.Client    // TLS settings; redirects are never followed. nil: the system's roots
	AttemptTimeout time.Duration   // 0: DefaultAttemptTimeout
	RetryDelays    []time.Duration // nil: 1 s, 2 s, 5 s; empty: no second attempt
	ClockTolerance time.Duration   // 0: DefaultClockTolerance

	Now func() time.Time // nil: time.Now
	// Sleep waits between two polls of Device; nil waits by the real clock.
	Sleep  func(context.Context, time.Duration) error
	Events func(Event) // nil: nobody listens. Called from the goroutine that asked
}

// Client gets, keeps and uses tokens of one kind: one client, audience,
// tenant, set of scopes and binding. It is safe for concurrent use.
type Client struct {
	cfg     Config
	http    *http.Client
	ladder  ladder
	nonces  *nonces
	origins map[string]bool

	tokenSem chan struct{} // held while a token is looked for; a mutex that a context can leave
	token    *Token        // guarded by tokenSem
	pauseTo  time.Time     // guarded by tokenSem: no refresh before, while token is valid

	metaSem  chan struct{}
	metadata *Metadata // guarded by metaSem

	clock clockWatch

	warnMu sync.Mutex
	warned map[string]bool // guarded by warnMu: a warning is given once
}

// New checks cfg and makes a Client. It opens no socket and no file. Errors
// are of kind Config.
func New(cfg Config) (*Client, error) {
	if err := checkIssuer(cfg.Issuer); err != nil {
		return nil, err
	}
	for i, d := range cfg.RetryDelays {
		if d < 0 {
			return nil, fault.Errorf(fault.Config, "retry delay %d is negative", i+1)
		}
	}
	cfg.Scopes = normalScopes(cfg.Scopes)
	for _, s := range cfg.Scopes {
		if !isScopeToken(s) {
			return nil, fault.Errorf(fault.Input, "%q is not a scope (RFC 6749 section 3.3)", s)
		}
	}
	c := newClient(cfg)
	for _, o := range cfg.Origins {
		if err := checkIssuer(o); err != nil {
			return nil, fmt.Errorf("checking allowed origin: %w", err)
		}
		c.origins[originOf(o)] = true
	}
	return c, nil
}

func newClient(cfg Config) *Client {
	orDefault(&cfg.AttemptTimeout, DefaultAttemptTimeout)
	orDefault(&cfg.ClockTolerance, DefaultClockTolerance)
	orDefault(&cfg.LockWait, DefaultLockWait)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Sleep == nil {
		cfg.Sleep = signals.Sleep
	}
	c := &Client{
		cfg:      cfg,
		http:     noRedirects(cfg.HTTP),
		nonces:   newNonces(),
		origins:  map[string]bool{originOf(cfg.Issuer): true},
		tokenSem: make(chan struct{}, 1),
		metaSem:  make(chan struct{}, 1),
		warned:   map[string]bool{},
	}
	c.ladder = ladder{delays: cfg.RetryDelays, events: c.emit}
	if cfg.RetryDelays == nil {
		c.ladder.delays = DefaultRetryDelays()
	}
	return c
}

// Issuer returns the configured issuer.
func (c *Client) Issuer() string { return c.cfg.Issuer }

func orDefault(d *time.Duration, def time.Duration) {
	if *d == 0 {
		*d = def
	}
}

// noRedirects copies base so that a redirect is an answer, not an order: a
// token or a credential must never follow one to another host.
func noRedirects(base *http.Client) *http.Client {
	hc := http.Client{}
	if base != nil {
		hc = *base
	}
	hc.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	hc.Jar = nil
	return &hc
}
