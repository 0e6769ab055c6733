package authority

import (
	"context"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/stella-ops/stella/internal/authority/audit"
	"github.com/stella-ops/stella/internal/authority/limit"
	"github.com/stella-ops/stella/internal/authority/wire"
	"github.com/stella-ops/stella/internal/httpd"
)

// newLimiter makes the limits of 1.7 of the platform's contracts, shared by all
// replicas where there is a Redis.
func (s *Server) newLimiter() {
	o := limit.Options{
		Rules: func() limit.Rules { return s.set.Load().rates }, Now: s.now, Log: s.log,
		Rejected: func(_ context.Context, e limit.Endpoint) { s.metrics.rejected("authority-" + string(e)) },
	}
	if s.redis != nil {
		o.Shared, o.Timeout = s.redis, s.cfg.Redis.Timeout.Std()
		o.SharedUp = s.metrics.redisUp
		s.metrics.redisUp(true)
	}
	s.limiter = limit.New(o)
}

// remote is where a request comes from.
func (s *Server) remote(r *http.Request) netip.Addr {
	return httpd.RemoteAddr(r, s.set.Load().proxies)
}

func (s *Server) remoteText(r *http.Request) string { return s.remote(r).String() }

// admit holds the callers of an OAuth endpoint to the limits.
func (s *Server) admit(r *http.Request, clientID string) error {
	e := limit.Token
	if strings.HasPrefix(r.URL.Path, pathDevice) {
		e = limit.Authorize
	}
	return s.limiter.Admit(r, e, s.remote(r), clientID)
}

// internalLimit holds the callers of the operators' API to the limits.
func (s *Server) internalLimit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/internal/") && !s.limiter.Allow(w, r, limit.Internal, s.remote(r), "") {
			ev := audit.Of(r.Context())
			ev.Set(audit.TypeInternal)
			ev.Outcome(audit.RateLimited, wire.RateLimited)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// bypass lets callers from configured networks read the keyring, and tells.
func (s *Server) bypass(r *http.Request, scope string) (string, bool) {
	remote, proxies := s.remote(r), s.set.Load().proxies
	if slices.ContainsFunc(proxies, func(p netip.Prefix) bool { return p.Contains(remote) }) {
		return "", false // a proxy that does not say for whom it asks
	}
	for _, n := range s.set.Load().bypass {
		if n.Contains(remote) {
			s.metrics.bypassed()
			s.log.WarnContext(r.Context(), audit.TemplateBypass, "RemoteIp", remote.String(), "RequiredScopes", scope)
			ev := audit.Of(r.Context())
			ev.Set(audit.TypeBypass)
			ev.Outcome(audit.Success, "")
			ev.Prop("required_scopes", scope, audit.None)
			return remote.String(), true
		}
	}
	return "", false
}
