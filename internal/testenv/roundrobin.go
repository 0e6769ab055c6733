package testenv

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptrace"
	"net/http/httputil"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// LostHeader is in the proxy's answer to a request that a backend had taken
// and did not answer. Its value is the backend's URL.
const LostHeader = "X-Testenv-Lost"

// maxProxied bounds a body that goes through the proxy, in bytes.
const maxProxied = 32 << 20

// Loss is a request that a backend had taken and did not answer.
type Loss struct {
	Backend string    // its URL
	Request string    // method and path
	Began   time.Time // before the connection was opened, with Fresh
	Failed  time.Time
}

// RoundRobin is a reverse proxy that spreads requests over backends. A backend
// that does not take a request is skipped for the next one; a request is never
// sent a second time once a backend has taken it, for nobody knows what that
// did with it. Such a request is answered with 502 and LostHeader.
type RoundRobin struct {
	// Fresh opens a connection for each request, so that none is sent on one
	// whose end the proxy has not noticed yet. Set it before the first request.
	Fresh bool

	client   *http.Client
	fresh    *http.Transport
	next     atomic.Uint64
	mu       sync.Mutex
	backends []*url.URL
	losses   []Loss
}

// NewRoundRobin makes a proxy; Set names its backends.
func NewRoundRobin(client *http.Client) *RoundRobin {
	p := &RoundRobin{client: client}
	if t, ok := client.Transport.(*http.Transport); ok {
		p.fresh = t.Clone()
		p.fresh.DisableKeepAlives = true
	}
	return p
}

// Set replaces the backends.
func (p *RoundRobin) Set(urls ...string) error {
	var parsed []*url.URL
	for _, raw := range urls {
		u, err := url.Parse(raw)
		if err != nil {
			return err
		}
		parsed = append(parsed, u)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.backends = parsed
	return nil
}

// Losses are the requests that were lost so far.
func (p *RoundRobin) Losses() []Loss {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.losses)
}

// ServeHTTP implements http.Handler.
func (p *RoundRobin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rp := &httputil.ReverseProxy{
		Rewrite:   func(*httputil.ProxyRequest) {},
		Transport: spread{p},
		ErrorLog:  log.New(io.Discard, "", 0),
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			if lost, ok := errors.AsType[*lostError](err); ok {
				w.Header().Set(LostHeader, lost.Backend)
			}
			http.Error(w, err.Error(), http.StatusBadGateway)
		},
	}
	rp.ServeHTTP(w, r)
}

type lostError struct {
	Loss
	err error
}

func (e *lostError) Error() string { return fmt.Sprintf("%s did not answer: %v", e.Backend, e.err) }

// spread sends a request to the next backend that takes it.
type spread struct{ p *RoundRobin }

// RoundTrip implements http.RoundTripper.
func (s spread) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = bounded(r.Body); err != nil {
			return nil, err
		}
	}
	s.p.mu.Lock()
	backends := s.p.backends
	s.p.mu.Unlock()
	err := errors.New("no backend")
	first := s.p.next.Add(1)
	for i := range uint64(len(backends)) {
		to := backends[(first+i)%uint64(len(backends))]
		var resp *http.Response
		var taken bool
		began := time.Now()
		resp, taken, err = s.p.send(r, to, body)
		if err == nil {
			return resp, nil
		}
		if taken && r.Context().Err() == nil {
			l := Loss{to.String(), r.Method + " " + r.URL.Path, began, time.Now()}
			s.p.mu.Lock()
			s.p.losses = append(s.p.losses, l)
			s.p.mu.Unlock()
			return nil, &lostError{l, err}
		}
		if taken {
			break
		}
	}
	return nil, err
}

// send makes one attempt; taken reports whether any of the request was sent.
func (p *RoundRobin) send(r *http.Request, to *url.URL, body []byte) (resp *http.Response, taken bool, err error) {
	trace := &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { taken = true }}
	out := r.Clone(httptrace.WithClientTrace(r.Context(), trace))
	out.URL.Scheme, out.URL.Host, out.Host = to.Scheme, to.Host, ""
	out.Body, out.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	if len(body) == 0 {
		out.Body = http.NoBody
	}
	transport := p.client.Transport
	if p.Fresh && p.fresh != nil {
		transport = p.fresh
	}
	if resp, err = transport.RoundTrip(out); err != nil {
		return nil, taken, err
	}
	defer resp.Body.Close()
	data, err := bounded(resp.Body) // whole, or the caller would get half an answer
	if err != nil {
		return nil, taken, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(data))
	return resp, taken, nil
}

func bounded(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxProxied+1))
	if err == nil && len(data) > maxProxied {
		err = fmt.Errorf("more than %d bytes", maxProxied)
	}
	return data, err
}
