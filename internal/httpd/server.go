package httpd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/stella-ops/stella/internal/fault"
)

// Server is a set of listeners that start, reload and end together.
type Server struct {
	cfg      Config
	health   *health
	open     []*listener // in the order of Config.Listeners
	admin    *listener
	draining atomic.Bool
}

// listener is one open socket with its server.
type listener struct {
	name  string
	ln    net.Listener
	srv   *http.Server
	certs *certs // nil for plain HTTP
	url   string
}

// New checks cfg and makes a server. It opens nothing.
func New(cfg Config) (*Server, error) {
	if err := cfg.fill(); err != nil {
		return nil, fmt.Errorf("setting up %s: %w", cfg.Name, err)
	}
	s := &Server{cfg: cfg}
	s.health = &health{timeout: cfg.Limits.Check, checks: cfg.Checks, draining: &s.draining}
	return s, nil
}

// AddCheck adds a check to those of the configuration. It must not be called
// after Run.
func (s *Server) AddCheck(c Check) { s.health.checks = append(s.health.checks, c) }

// Listen opens all sockets and reads all certificates. After it Addr and URL
// answer. A socket that cannot be opened and a certificate that cannot be read
// are of kind Config; an address that another process has, Transient. Run calls it if the caller did not.
func (s *Server) Listen(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			s.closeAll()
		}
	}()
	for _, l := range s.cfg.Listeners {
		opened, err := s.listen(ctx, l)
		if err != nil {
			return err
		}
		s.open = append(s.open, opened)
	}
	if s.cfg.Admin.Address != "" {
		s.admin, err = s.listenAdmin(ctx)
	}
	return err
}

func (s *Server) listen(ctx context.Context, l Listener) (*listener, error) {
	out := &listener{name: l.Name}
	var err error
	if l.TLS != nil {
		if out.certs, err = loadCerts(*l.TLS, s.cfg.Log); err != nil {
			return nil, err
		}
	}
	if out.ln, err = open(ctx, l.Address); err != nil {
		return nil, err
	}
	out.url = urlOf(l.Address, out.ln.Addr(), l.TLS != nil)
	out.srv = s.httpServer(ctx, s.wrap(l.Handler, l.TLS != nil))
	if out.certs != nil {
		out.srv.TLSConfig = out.certs.config()
	}
	return out, nil
}

func open(ctx context.Context, address string) (net.Listener, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		err := fault.Errorf(fault.Config, "listening on %q: %w", address, err)
		if errors.Is(err, syscall.EADDRINUSE) {
			// Not the configuration's fault: who has it may be about to end, so a
			// service manager should try again.
			err = fault.Errorf(fault.Transient, "%w", err).Hint("find out who has it: ss -ltnp")
		}
		return nil, err
	}
	return ln, nil
}

func (s *Server) httpServer(ctx context.Context, h http.Handler) *http.Server {
	l := s.cfg.Limits
	// A request outlives the signal that ends the server: draining bounds it.
	base := context.WithoutCancel(ctx)
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: l.ReadHeader,
		ReadTimeout:       l.Read,
		WriteTimeout:      l.Write,
		IdleTimeout:       l.Idle,
		MaxHeaderBytes:    l.Header,
		ErrorLog:          slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelWarn),
		BaseContext:       func(net.Listener) context.Context { return base },
	}
}

// Addr returns where the first listener listens. It may be called after Listen.
func (s *Server) Addr() net.Addr { return s.open[0].ln.Addr() }

// URL returns the base URL of the first listener, with the host as configured
// (an unspecified one becomes localhost) and the real port.
func (s *Server) URL() string { return s.open[0].url }

// AdminURL returns the base URL of the admin listener, or "".
func (s *Server) AdminURL() string {
	if s.admin == nil {
		return ""
	}
	return s.admin.url
}

// URLOf returns the base URL of the named listener, or "".
func (s *Server) URLOf(name string) string {
	for _, l := range s.open {
		if l.name == name {
			return l.url
		}
	}
	return ""
}

func urlOf(configured string, addr net.Addr, secure bool) string {
	host, _, err := net.SplitHostPort(configured)
	if ip := net.ParseIP(host); err != nil || host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	_, port, _ := net.SplitHostPort(addr.String())
	scheme := "http://"
	if secure {
		scheme = "https://"
	}
	return scheme + net.JoinHostPort(strings.TrimSpace(host), port)
}

// Run serves until ctx ends, then lets requests under way finish within
// Limits.Drain. It returns nil after a clean end, whatever ended ctx; an error
// when a listener failed or requests had to be cut off.
func (s *Server) Run(ctx context.Context) error {
	if s.open == nil {
		if err := s.Listen(ctx); err != nil {
			return err
		}
	}
	// Before READY=1, and until the end of draining, or SIGHUP would kill.
	hup := make(chan os.Signal, 4)
	signal.Notify(hup, syscall.SIGHUP, syscall.SIGUSR1)
	defer signal.Stop(hup)
	run, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	all := s.all()
	for _, l := range all {
		wg.Go(func() {
			if err := l.serve(); !errors.Is(err, http.ErrServerClosed) {
				cancel(fmt.Errorf("serving %s: %w", l.url, err))
			}
		})
	}
	wg.Go(func() { s.announce(run) })
	wg.Go(func() { s.hear(run, hup) })
	s.cfg.Log.LogAttrs(ctx, slog.LevelInfo, "listening", slog.String("service", s.cfg.Name),
		slog.String("url", s.URL()), slog.String("admin_url", s.AdminURL()))

	<-run.Done()
	failed := context.Cause(run)
	if ctx.Err() != nil {
		failed = nil // asked to end, which is not a failure
	}
	err := s.drain(ctx)
	wg.Wait()
	return errors.Join(failed, err)
}

func (s *Server) all() []*listener {
	if s.admin == nil {
		return s.open
	}
	return append(append([]*listener(nil), s.open...), s.admin)
}

func (l *listener) serve() error {
	if l.certs != nil {
		return l.srv.ServeTLS(l.ln, "", "")
	}
	return l.srv.Serve(l.ln)
}

// drain ends the public listeners first, so that the admin listener can tell
// about it until nothing is left.
func (s *Server) drain(ctx context.Context) error {
	s.draining.Store(true)
	s.notify(ctx, "STOPPING=1")
	bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.Limits.Drain)
	defer cancel()
	start := time.Now()
	errs := make([]error, len(s.open))
	var wg sync.WaitGroup
	for i, l := range s.open {
		wg.Go(func() {
			if errs[i] = l.srv.Shutdown(bound); errs[i] != nil {
				l.srv.Close()
				errs[i] = fmt.Errorf("draining %s: requests cut off after %s: %w", l.url, s.cfg.Limits.Drain, errs[i])
			}
		})
	}
	wg.Wait()
	if s.admin != nil {
		s.admin.srv.Close()
	}
	s.cfg.Log.LogAttrs(ctx, slog.LevelInfo, "stopped", slog.String("service", s.cfg.Name),
		slog.Duration("drained_in", time.Since(start)))
	return errors.Join(errs...)
}

func (s *Server) closeAll() {
	for _, l := range s.all() {
		l.ln.Close()
	}
	s.open, s.admin = nil, nil
}
