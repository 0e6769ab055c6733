package httpd

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
)

// RequestIDHeader carries the request id in both directions.
const RequestIDHeader = "X-Request-Id"

type infoKey struct{}

// info travels with a request.
type info struct {
	id    string
	mu    sync.Mutex
	attrs []slog.Attr
}

func infoOf(ctx context.Context) *info {
	i, _ := ctx.Value(infoKey{}).(*info)
	return i
}

// RequestID returns the id of the request that ctx belongs to, or "".
func RequestID(ctx context.Context) string {
	if i := infoOf(ctx); i != nil {
		return i.id
	}
	return ""
}

// Annotate adds attributes (client_id, kid, …) to the access log line of the
// request that ctx belongs to. Never pass a secret.
func Annotate(ctx context.Context, attrs ...slog.Attr) {
	if i := infoOf(ctx); i != nil {
		i.mu.Lock()
		i.attrs = append(i.attrs, attrs...)
		i.mu.Unlock()
	}
}

func (i *info) all() []slog.Attr {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.Clone(i.attrs)
}

// requestID accepts the caller's id when it is short and plain.
func requestID(r *http.Request) string {
	values := r.Header.Values(RequestIDHeader)
	if len(values) == 1 && plainID(values[0]) {
		return values[0]
	}
	return rand.Text()
}

// plainID reports whether id matches [A-Za-z0-9._-]{1,64}.
func plainID(id string) bool {
	if id == "" || len(id) > 64 {
		return false
	}
	for _, c := range []byte(id) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}

// RemoteHost returns the address of r's peer without its port.
func RemoteHost(r *http.Request) string {
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		return host
	}
	return r.RemoteAddr
}
