// Package https reads objects from a web server: a mirror, a CDN, a plain file
// server. It is an objstore.Reader that cannot list.
//
// It guarantees what objstore promises of Open; that no redirect is followed
// and no cookie kept; that credentials are put on requests to the configured
// place alone; that plain http is spoken to loopback only; and that a body that
// the server transformed (Content-Encoding) is refused.
package https

import (
	"context"
	"net/http"
	"net/url"

	"github.com/stella-ops/stella/internal/buildinfo"
	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/objstore"
	"github.com/stella-ops/stella/internal/objstore/internal/httpget"
)

// Options shape a Store; the zero value is strict and anonymous.
type Options struct {
	MaxConns int    // idle connections kept; 0: 32
	CAFile   string // PEM of the only CAs to trust; "" for the system's
	// Authorize adds credentials to a request: Basic, a bearer token, a
	// proof. It is called for each request, at the same time from several
	// goroutines; its error is that of Open. May be nil.
	Authorize func(*http.Request) error
}

// Store reads below one base address. It is safe for concurrent use.
type Store struct {
	client    httpget.Client
	transport *http.Transport
}

var _ objstore.Reader = (*Store)(nil)

// New prepares to read from an https:// place, or an http:// one on loopback.
// It opens no connection.
func New(place objstore.Place, o Options) (*Store, error) {
	base := url.URL{Scheme: string(place.Scheme), Host: place.Host}
	if place.Path != "" {
		base.Path = "/" + place.Path
	}
	if place.Scheme != objstore.HTTPS && (place.Scheme != objstore.HTTP || !objstore.Loopback(base.Hostname())) {
		return nil, fault.Errorf(fault.Input, "place %s: want https://, or http:// on loopback", place)
	}
	t, err := httpget.NewTransport(httpget.TransportOptions{MaxConns: o.MaxConns, CAFile: o.CAFile})
	if err != nil {
		return nil, err
	}
	return &Store{transport: t, client: httpget.Client{
		Transport: t, Place: place.String(), Agent: "stella/" + buildinfo.Read().Version,
		Base: base, Web: true, Authorize: o.Authorize,
	}}, nil
}

// Open implements objstore.Reader. Servers that know no ranges answer with the
// whole object.
func (s *Store) Open(ctx context.Context, key string, g objstore.Get) (*objstore.Object, error) {
	return s.client.Open(ctx, key, g)
}

// List implements objstore.Reader: it fails with ErrUnsupported.
func (s *Store) List(_ context.Context, prefix string, _ func(objstore.Info) error) error {
	return objstore.Fail(objstore.OpList, s.Place(), prefix, objstore.ErrUnsupported, nil).
		Hint("a web server has no listing that could be trusted to be complete: use s3:// or file://, or a layout with an index")
}

// Place implements objstore.Reader.
func (s *Store) Place() string { return s.client.Place }

// Close gives up idle connections. The store may still be used.
func (s *Store) Close() error { s.transport.CloseIdleConnections(); return nil }
