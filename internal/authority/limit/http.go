package limit

import (
	"log/slog"
	"net/http"
	"net/netip"

	"github.com/stella-ops/stella/internal/authority/audit"
	"github.com/stella-ops/stella/internal/authority/wire"
	"github.com/stella-ops/stella/internal/httpd"
)

// maxPath bounds the path in a log line, in bytes.
const maxPath = 256

// Admit takes a permit for r, as Take does. Without one it logs and returns a
// Refusal: rate_limit_exceeded (429, with Retry-After), which tells nothing
// about the budget; or temporarily_unavailable when the request ended while it
// waited.
func (l *Limiter) Admit(r *http.Request, e Endpoint, remote netip.Addr, client string) error {
	d, err := l.Take(r.Context(), e, remote, client)
	if err != nil {
		return wire.Unavailable(err)
	}
	if d.Allowed {
		return nil
	}
	tags := []slog.Attr{
		slog.String("authority.endpoint", string(e)), slog.String("authority.client_id", client),
		slog.String("authority.remote_ip", remote.Unmap().String()),
	}
	httpd.Annotate(r.Context(), tags...)
	l.o.Log.LogAttrs(r.Context(), slog.LevelWarn, audit.TemplateRateLimited, append(tags,
		slog.String("Path", r.URL.Path[:min(len(r.URL.Path), maxPath)]), slog.String("RemoteIp", remote.Unmap().String()),
		slog.String("request_id", httpd.RequestID(r.Context())))...)
	return d.Refusal()
}

// Allow is Admit that answers itself; it returns false when it did.
func (l *Limiter) Allow(w http.ResponseWriter, r *http.Request, e Endpoint, remote netip.Addr, client string) bool {
	err := l.Admit(r, e, remote, client)
	if err != nil {
		wire.WriteError(w, err)
	}
	return err == nil
}

// Refusal is the error that tells a refused caller when to come back, for
// endpoints that answer themselves.
func (d Decision) Refusal() error {
	return &wire.Refusal{Code: wire.RateLimited, Description: "too many requests; come back after the time in Retry-After", RetryAfter: d.RetryAfter}
}
