package httpd

import (
	"context"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/stella-ops/stella/internal/fault"
)

// profileTime bounds an answer of the admin listener; a CPU profile takes 30 s.
const profileTime = 2 * time.Minute

func (s *Server) listenAdmin(ctx context.Context) (*listener, error) {
	a := s.cfg.Admin
	ln, err := open(ctx, a.Address)
	if err != nil {
		return nil, err
	}
	tcp, ok := ln.Addr().(*net.TCPAddr)
	if !a.AllowAnywhere && (!ok || !tcp.IP.IsLoopback()) {
		ln.Close()
		return nil, fault.Errorf(fault.Config, "the admin listener %q is not loopback", a.Address).
			Hint("profiles and metrics are not for everyone: use 127.0.0.1, or allow it by name")
	}
	h := s.adminMux()
	if !a.AllowAnywhere {
		h = localOnly(h)
	}
	srv := s.httpServer(ctx, s.headers(h, false))
	srv.WriteTimeout = profileTime
	return &listener{name: "admin", ln: ln, srv: srv, url: urlOf(a.Address, ln.Addr(), false)}, nil
}

// adminMux is a mux of its own: importing net/http/pprof also registers on the
// default one, which nothing serves.
func (s *Server) adminMux() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) { s.health.answer(w, r, true, true) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) { s.health.answer(w, r, false, true) })
	if s.cfg.Gauge != nil {
		mux.Handle("GET /metrics", promhttp.HandlerFor(s.cfg.Gauge, promhttp.HandlerOpts{}))
	}
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	for pattern, h := range s.cfg.Admin.Handlers {
		mux.Handle(pattern, h)
	}
	return mux
}

// localOnly refuses requests whose Host is a name other than localhost: a web
// page cannot reach the listener by pointing its own name at 127.0.0.1.
func localOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			WriteProblem(w, r, http.StatusMisdirectedRequest, "misdirected", "this listener answers to localhost only")
			return
		}
		next.ServeHTTP(w, r)
	})
}
