// Package redisstore keeps single-use identifiers and counters of all replicas
// in one Redis (or Valkey) server.
//
// It guarantees that an identifier is used once across all replicas, or that
// the caller gets an error and must refuse: when the server is out of reach,
// full, or set to evict; and when it has lost its memory (a restart, a
// failover, a flush) and may therefore have forgotten an identifier that is
// still good. It looks at no clock of the server's. No error repeats the
// password.
//
// The server must be one process at a time (no cluster; a failover counts as a
// loss of memory) with maxmemory-policy noeviction. Its user needs eval,
// evalsha, info, get, set, incr and pexpire on the keys of the prefix. Whoever
// can write there can have proofs accepted twice and budgets refilled.
package redisstore

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/secret"
)

// Defaults of Options.
const (
	DefaultPrefix  = "stella-authority:"
	DefaultTimeout = 2 * time.Second
)

// Options of a Store.
type Options struct {
	// URL is redis://[user@]host:port[/db], or rediss:// for TLS, which asks
	// for 1.2 or newer and the host's name in the certificate. It holds no
	// password.
	URL string
	// Password authenticates; empty for none.
	Password secret.Bytes
	// CAFile holds the CAs of a rediss server in PEM; "" for the system's.
	CAFile string
	// Prefix begins all keys; "" for DefaultPrefix.
	Prefix string
	// Issuer goes into all keys, hashed, so that two issuers may share a
	// server.
	Issuer string
	// Timeout bounds each operation; 0 for DefaultTimeout.
	Timeout time.Duration
	// Spans says for each kind of identifier how much time there is at most
	// between the first moment at which it is accepted and the end that Once
	// is told. Once refuses other kinds, and ends that are further away.
	Spans map[string]time.Duration
	// Now is the replica's clock; nil for time.Now.
	Now func() time.Time
	// Log is told when the server has lost its memory; nil for none.
	Log *slog.Logger
}

// Store is a connection to the server. Safe for concurrent use.
type Store struct {
	client  *redis.Client
	scripts scripts
	prefix  string
	spans   map[string]time.Duration
	now     func() time.Time
	log     *slog.Logger
}

// Open makes a Store. It does not wait for the server: Ping tells whether it
// is there and fit for use. An error is of kind fault.Config.
func Open(o Options) (*Store, error) {
	opts, err := o.client()
	if err != nil {
		return nil, err
	}
	redis.SetLogger(quiet{})
	s := &Store{client: redis.NewClient(opts), scripts: newScripts(), spans: o.Spans, now: o.Now, log: o.Log}
	if s.now == nil {
		s.now = time.Now
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.prefix = o.Prefix
	if s.prefix == "" {
		s.prefix = DefaultPrefix
	}
	s.prefix += short(o.Issuer) + ":"
	return s, nil
}

// quiet keeps the driver from writing to standard error what it also returns.
type quiet struct{}

// Printf implements the driver's logger.
func (quiet) Printf(context.Context, string, ...any) {}

// Close ends the connections.
func (s *Store) Close() error { return s.client.Close() }

// client translates o for the driver. The driver's own parser is not used: it
// takes passwords and "skip_verify" from the URL.
func (o *Options) client() (*redis.Options, error) {
	bad := func(why string) (*redis.Options, error) {
		return nil, fault.Errorf(fault.Config, "the Redis URL %s (text withheld)", why).
			Hint("write redis://HOST:PORT or rediss://HOST:PORT, and the password as a reference of its own")
	}
	u, err := url.Parse(o.URL)
	if err != nil {
		return bad("cannot be parsed")
	}
	_, withPassword := u.User.Password()
	db, dbErr := database(u.Path)
	switch {
	case u.Scheme != "redis" && u.Scheme != "rediss":
		return bad("has another scheme than redis and rediss")
	case withPassword:
		return bad("holds a password")
	case u.RawQuery != "" || u.Fragment != "" || u.Opaque != "":
		return bad("has more than a host, a port and a database number")
	case u.Hostname() == "":
		return bad("has no host")
	case dbErr != nil:
		return bad("has a path that is no database number")
	}
	port := u.Port()
	if port == "" {
		port = "6379"
	}
	timeout := o.Timeout
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	opts := &redis.Options{
		Addr: net.JoinHostPort(u.Hostname(), port), DB: db, Username: u.User.Username(), Password: string(o.Password.Reveal()),
		// RESP2 and nothing optional: what is not asked for cannot fail.
		Protocol: 2, DisableIdentity: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		DialTimeout:              timeout, ReadTimeout: timeout, WriteTimeout: timeout, PoolTimeout: timeout,
		ContextTimeoutEnabled: true,
		// Never again by itself: the first try may have used the identifier up.
		MaxRetries: -1, DialerRetries: 1,
	}
	if u.Scheme == "rediss" {
		if opts.TLSConfig, err = o.tls(u.Hostname()); err != nil {
			return nil, err
		}
	}
	return opts, nil
}

func database(path string) (int, error) {
	path = strings.TrimPrefix(path, "/")
	if path == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(path, 10, 16)
	return int(n), err
}

func (o *Options) tls(host string) (*tls.Config, error) {
	c := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	if o.CAFile == "" {
		return c, nil
	}
	pem, err := os.ReadFile(o.CAFile)
	if err != nil {
		return nil, fault.Errorf(fault.Config, "the CAs of the Redis server: %w", err)
	}
	if c.RootCAs = x509.NewCertPool(); !c.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fault.Errorf(fault.Config, "the CAs of the Redis server: no certificate in %q", o.CAFile)
	}
	return c, nil
}
