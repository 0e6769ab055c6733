package main

import (
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"

	"github.com/stella-ops/stella/internal/testenv"
)

// meter is a reverse proxy before an S3 server that tells what was asked of
// it. The host stays as the caller wrote it, for that is part of what is signed.
type meter struct {
	http.Handler
	transport http.RoundTripper

	mu       sync.Mutex
	watching map[*[]asked]bool
}

// asked is one request.
type asked struct{ method, path, span string } // span is its Range header

func newMeter(ca *testenv.CA, to string) (*meter, error) {
	u, err := url.Parse(to)
	if err != nil {
		return nil, err
	}
	transport := ca.Client().Transport
	if t, ok := transport.(*http.Transport); ok {
		t.DisableCompression = true // whether that is wanted is part of what is signed, too
	}
	return &meter{watching: map[*[]asked]bool{}, transport: transport, Handler: &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(u)
			r.Out.Host = r.In.Host
		},
		Transport: transport,
		ErrorLog:  log.New(io.Discard, "", 0),
	}}, nil
}

// ServeHTTP implements http.Handler.
func (m *meter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	for list := range m.watching {
		*list = append(*list, asked{r.Method, r.URL.Path, r.Header.Get("Range")})
	}
	m.mu.Unlock()
	m.Handler.ServeHTTP(w, r)
}

// hangUp closes connections that idle; the server would wait for their end.
func (m *meter) hangUp() {
	if t, ok := m.transport.(*http.Transport); ok {
		t.CloseIdleConnections()
	}
}

// watch begins to keep requests, and returns what ends that and tells them.
func (m *meter) watch() (end func() []asked) {
	list := new([]asked)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.watching[list] = true
	return func() []asked {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.watching, list)
		return *list
	}
}
