// Package httpd runs the HTTP side of every server, and makes the HTTP client
// of every program that is one.
//
// It guarantees for servers: bounds on time, header and body for each request;
// TLS 1.2 or newer with certificates that follow their files and never go from
// good to bad; a request id in every answer and log line; no stack, query
// string or credential in an answer or an access log; metrics, health and
// profiles on a second listener that is loopback unless told otherwise; READY=1
// only when it is true; and an end of bounded length that drops no request it
// can still answer. For clients: no unbounded wait or answer, no redirect to
// another host, no plain HTTP unless allowed.
package httpd

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net/http"
	"regexp"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/stella-ops/stella/internal/fault"
)

// Config says what a Server serves. Zero values mean the defaults named here.
type Config struct {
	Name      string     // of the service, for logs and metrics
	Listeners []Listener // at least one; the first is what URL tells
	Admin     Admin
	Checks    []Check // more may be added by AddCheck before Run
	Limits    Limits

	// ReadyWhenListening sends READY=1 once every listener is open, for
	// services that must start while their database is down; /readyz still
	// answers 503 with the reason. Otherwise READY=1 waits until all checks pass.
	ReadyWhenListening bool

	// Reload is called on SIGHUP after the certificates were looked at. An
	// error is logged; the service must then have kept its old state.
	Reload func(context.Context) error

	Log   *slog.Logger        // default: discard
	Level *slog.LevelVar      // toggled between info and debug by SIGUSR1; may be nil
	Gauge prometheus.Gatherer // served as /metrics; may be nil

	// Observe is told about every answered request; for metrics. Pattern is the
	// ServeMux pattern that matched, or "".
	Observe func(r *http.Request, pattern string, status int, elapsed time.Duration)
}

// Listener is one address with its handler.
type Listener struct {
	Name    string // "" for the first; others tell X_STELLA_<NAME>_URL and log it
	Address string // host:port; port 0 takes any free one
	TLS     *TLS   // nil for plain HTTP
	Handler http.Handler
}

// TLS names the files of a listener's identity.
type TLS struct {
	CertFile, KeyFile string // PEM; the certificate file holds the chain, leaf first
	ClientCAFile      string // PEM; required when ClientAuth verifies
	ClientAuth        tls.ClientAuthType
}

// Admin is the second listener: /metrics, /healthz, /readyz, /debug/pprof/.
type Admin struct {
	Address       string // "" for none; "127.0.0.1:0" is usual
	AllowAnywhere bool   // without it an address that is not loopback is refused
	Handlers      map[string]http.Handler
}

// Limits bounds requests and the end of the server.
type Limits struct {
	ReadHeader time.Duration // 5 s
	Read       time.Duration // 30 s, whole request
	Write      time.Duration // 60 s, until the answer is written
	Idle       time.Duration // 120 s between requests of a connection
	Drain      time.Duration // 15 s for requests under way at the end
	Check      time.Duration // 3 s for one health check
	Header     int           // 32 KiB
	Body       int64         // 1 MiB; negative for none
}

func (l *Limits) fill() {
	set := func(d *time.Duration, def time.Duration) {
		if *d == 0 {
			*d = def
		}
	}
	set(&l.ReadHeader, 5*time.Second)
	set(&l.Read, 30*time.Second)
	set(&l.Write, time.Minute)
	set(&l.Idle, 2*time.Minute)
	set(&l.Drain, 15*time.Second)
	set(&l.Check, 3*time.Second)
	if l.Header == 0 {
		l.Header = 32 << 10
	}
	if l.Body == 0 {
		l.Body = 1 << 20
	}
}

func (c *Config) fill() error {
	c.Limits.fill()
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if len(c.Listeners) == 0 {
		return errors.New("no listener configured")
	}
	names := regexp.MustCompile(`^[A-Z][A-Z0-9_]*$`)
	for i, l := range c.Listeners {
		switch {
		case l.Handler == nil:
			return errors.New("listener without a handler")
		case i > 0 && !names.MatchString(l.Name):
			return fault.Errorf(fault.Config, "listener %d needs an upper-case name, has %q", i, l.Name)
		}
	}
	return nil
}
