package authority

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stella-ops/stella/internal/authority/audit"
	"github.com/stella-ops/stella/internal/authority/clientauth"
	"github.com/stella-ops/stella/internal/authority/clients"
	"github.com/stella-ops/stella/internal/authority/device"
	"github.com/stella-ops/stella/internal/authority/limit"
	"github.com/stella-ops/stella/internal/authority/live"
	"github.com/stella-ops/stella/internal/authority/mint"
	"github.com/stella-ops/stella/internal/authority/refresh"
	"github.com/stella-ops/stella/internal/authority/revoke"
	"github.com/stella-ops/stella/internal/authority/store"
	"github.com/stella-ops/stella/internal/authority/store/mem"
	"github.com/stella-ops/stella/internal/authority/store/mongostore"
	"github.com/stella-ops/stella/internal/authority/store/redisstore"
	"github.com/stella-ops/stella/internal/authority/token"
	"github.com/stella-ops/stella/internal/authority/users"
	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/httpd"
	"github.com/stella-ops/stella/internal/keyring"
)

// Deps are what a Server gets from outside. All may be left out.
type Deps struct {
	Store  store.Store             // nil: as the configuration says
	Keys   keyring.Store           // nil: the configured directory
	Reload func() (*Config, error) // reads the configuration again; nil: only certificates are reloaded
	Now    func() time.Time        // nil: time.Now
	Log    *slog.Logger            // nil: discard
	Level  *slog.LevelVar          // nil: fixed
}

// Server is one replica of the Authority.
type Server struct {
	cfg  *Config
	deps Deps
	now  func() time.Time
	log  *slog.Logger

	store     store.Store
	keys      *keyring.Keyring
	providers map[string]keyring.Provider
	clients   *clients.Register
	counter   *live.Counter
	metrics   *metrics
	db        *database
	http      *httpd.Server

	redis     *redisstore.Store // nil without
	once      singleUse         // of proofs
	limiter   *limit.Limiter
	trust     *clientauth.Trust
	people    *users.Directory
	sinks     audit.Sinks
	auditFile *audit.File // nil without

	// Made once the issuer is final.
	revocations *revoke.Register
	families    *refresh.Families
	codes       *device.Codes
	minter      *mint.Minter
	handler     http.Handler
	mtlsHandler http.Handler

	lastTest selfTestResult
	set      atomic.Pointer[settings]
	nonces   atomic.Pointer[token.Nonces]
	issuer   string // final only after Listen
	mtlsURL  string // final only after Listen; empty without
	listened bool
	advance  func(ctx context.Context, every time.Duration)
}

// settings are what a reload may change, taken from one Config.
type settings struct {
	cfg     *Config
	secrets *secrets
	token   *token.Settings
	auth    *clientauth.Settings
	rates   limit.Rules
	proxies []netip.Prefix // whose X-Forwarded-For is believed
	bypass  []netip.Prefix // who may read without a token
}

// singleUse remembers single-use identifiers.
type singleUse interface {
	Once(ctx context.Context, kind, id string, until time.Time) (bool, error)
	SweepOnce(ctx context.Context, now time.Time) error
}

// maxCachedClients bounds the cache of client documents.
const maxCachedClients = 10_000

// New makes a replica from a checked Config. It reads the secrets and opens
// the key directory; it listens to nothing yet and changes nothing.
func New(cfg *Config, deps Deps) (*Server, error) {
	s := &Server{cfg: cfg, deps: deps, now: deps.Now, issuer: cfg.Issuer}
	if s.now == nil {
		s.now = time.Now
	}
	s.metrics = newMetrics(s)
	s.log = slog.New(s.metrics.countTemplates(discardLog(deps.Log).Handler()))
	sec, err := loadSecrets(cfg)
	if err != nil {
		return nil, err
	}
	keyStore := deps.Keys
	if keyStore == nil {
		if keyStore, err = keyring.OpenDir(cfg.Signing.KeyDirectory); err != nil {
			return nil, err
		}
	}
	if s.store, err = openStore(cfg, sec, deps.Store); err != nil {
		return nil, err
	}
	sg := &cfg.Signing
	if s.providers, err = openProviders(sg); err != nil {
		return nil, err
	}
	newKeys := string(sg.KeySource)
	if newKeys == keysInFiles {
		newKeys = ""
	}
	s.keys = keyring.New(keyStore, keyring.Options{
		Policy: keyring.Policy{
			CacheLifetime: keyring.Seconds(sg.JWKSCacheLifetime), Skew: keyring.Seconds(sg.ClockSkew),
			TokenLifetime: keyring.Seconds(cfg.AccessTokenLifetime), SignLease: keyring.Seconds(sg.SignLease),
		},
		CreateIfMissing: sg.CreateIfMissing, Replica: cfg.Replica, Now: s.now, Log: s.log,
		Providers: s.providers, NewKeys: newKeys, TakeKeysIn: sg.TakeKeysIn,
	})
	s.clients = clients.NewRegister(s.store, cfg.Storage.ClientCache.Std(), maxCachedClients, s.now)
	s.counter = live.New(s.store, cfg.Replica, s.now, s.log)
	s.db = &database{s: s}
	s.db.set(errors.New("not yet reached"))
	if err := s.openParts(sec); err != nil {
		return nil, err
	}
	s.http, err = httpd.New(s.httpConfig())
	if err != nil {
		return nil, err
	}
	s.adopt(cfg, sec)
	if _, err := s.firstDocument(cfg); err != nil {
		return nil, err
	}
	return s, nil
}

func openStore(cfg *Config, sec *secrets, given store.Store) (store.Store, error) {
	switch {
	case given != nil:
		return given, nil
	case sec.mongoURI == memoryStore:
		return mem.New(0), nil
	}
	st, err := mongostore.Open(mongostore.Options{
		URI: sec.mongoURI, Database: cfg.Storage.DatabaseName, Timeout: cfg.Storage.CommandTimeout.Std(),
		AppName: "stella-authority/" + cfg.Replica,
	})
	if err != nil {
		return nil, fault.Errorf(fault.Config, "storage: %w", err)
	}
	return st, nil
}

// Listen opens the sockets and reads the keyring, creating it if that is
// configured. After it URL and Handler answer. Run calls it if nobody did.
func (s *Server) Listen(ctx context.Context) error {
	if err := s.http.Listen(ctx); err != nil {
		return err
	}
	s.listened = true
	return s.Prepare(ctx)
}

// Prepare is Listen without sockets, for callers that serve Handler
// themselves.
func (s *Server) Prepare(ctx context.Context) error {
	if err := s.settleURLs(); err != nil {
		return err
	}
	if err := s.keys.Load(ctx); err != nil {
		if errors.Is(err, keyring.ErrMissing) {
			return fault.Errorf(fault.Config, "key directory %q: %w", s.cfg.Signing.KeyDirectory, err).
				Hint("for a first start: signing.createIfMissing: true").
				Hint("if there was a keyring, restore it from the backup instead: a new one makes every verifier wait")
		}
		return fmt.Errorf("key directory %q: %w", s.cfg.Signing.KeyDirectory, err)
	}
	if err := s.openAudit(); err != nil {
		return err
	}
	return s.routes()
}

// MTLSURL returns the base URL of the listener for clients with certificates,
// or ""; only after Listen.
func (s *Server) MTLSURL() string { return s.mtlsURL }

// URL returns the base URL of the public listener; only after Listen.
func (s *Server) URL() string { return s.http.URL() }

// AdminURL returns the base URL of the admin listener, or ""; only after
// Listen.
func (s *Server) AdminURL() string { return s.http.AdminURL() }

// Issuer returns the issuer; only after Listen.
func (s *Server) Issuer() string { return s.issuer }

// Reload does what SIGHUP does: it takes in certificates and configuration, or
// logs what is wrong and keeps the old state.
func (s *Server) Reload(ctx context.Context) { s.http.Reload(ctx) }

// Handler returns the public handler without the listener's own limits and
// log; only after Listen or Prepare.
func (s *Server) Handler() http.Handler { return s.handler }

// Run serves until ctx ends, then lets requests under way finish and stores
// the last counts.
func (s *Server) Run(ctx context.Context) error {
	if !s.listened {
		if err := s.Listen(ctx); err != nil {
			return err
		}
	}
	if s.cfg.InsecureHTTP {
		s.log.WarnContext(ctx, "serving without TLS: credentials and tokens can be read on the way")
	}
	if _, ok := s.store.(*mem.Store); ok {
		s.log.WarnContext(ctx, "storage is in memory: every client is forgotten when this process ends")
	}
	// What runs in the background outlives the signal: requests that are
	// being drained still need it.
	bg, stop := context.WithCancel(context.WithoutCancel(ctx))
	wait := s.Background(bg)
	err := s.http.Run(ctx)
	stop()
	wait()
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if cerr := s.store.Close(end); cerr != nil {
		s.log.WarnContext(end, "closing the database connection", "err", cerr)
	}
	if s.redis != nil {
		_ = s.redis.Close()
	}
	if s.auditFile != nil {
		if cerr := s.auditFile.Close(end); cerr != nil {
			s.log.WarnContext(end, "closing the audit file", "err", cerr)
		}
	}
	for name, p := range s.providers {
		if c, ok := p.(io.Closer); ok {
			if cerr := c.Close(); cerr != nil {
				s.log.WarnContext(end, "closing the provider of keys", "provider", name, "err", cerr)
			}
		}
	}
	return err
}

// Background starts what a replica does beside answering requests, until ctx
// ends, and returns a function that waits for its end.
func (s *Server) Background(ctx context.Context) (wait func()) {
	var wg sync.WaitGroup
	every := s.cfg.Signing.PollInterval.Std()
	s.db.look(ctx) // so that a replica whose database is up is ready at once
	wg.Go(func() { s.db.watch(ctx) })
	wg.Go(func() { s.keys.Follow(ctx, every) })
	wg.Go(func() { s.advance(ctx, every) })
	wg.Go(func() { s.counter.Run(ctx, s.cfg.Storage.CommandTimeout.Std()) })
	wg.Go(func() { s.sweep(ctx) })
	return wg.Wait
}
