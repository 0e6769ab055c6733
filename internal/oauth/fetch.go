package oauth

import (
	"context"
	"net/http"
	"time"

	"github.com/stella-ops/stella/internal/fault"
)

// Fetcher gets public documents with the manners of a Client: bounded, no
// redirects, retries for passing failures, no socket in offline mode. It
// sends no credential, so it does not insist on https; judging the URL is the
// caller's.
type Fetcher struct {
	HTTP           *http.Client
	AttemptTimeout time.Duration   // 0: DefaultAttemptTimeout
	RetryDelays    []time.Duration // nil: 1 s, 2 s, 5 s; empty: no second attempt
	Offline        bool
	Now            func() time.Time
	Events         func(Event)
}

// Answer is one answer, whatever its status.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Get asks for url and reads at most limit bytes. Errors are of kind
// Transient (no answer after the retries, or 5xx, 408, 429), Trust
// (certificate, redirect, oversized), Offline, or Input for a bad URL.
func (f Fetcher) Get(ctx context.Context, url string, header http.Header, limit int64) (*Answer, error) {
	c := newClient(Config{
		HTTP: f.HTTP, AttemptTimeout: f.AttemptTimeout, RetryDelays: f.RetryDelays,
		Offline: f.Offline, Now: f.Now, Events: f.Events, Issuer: url,
	})
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, fault.Errorf(fault.Input, "%.200q is not a URL that can be asked", url)
	}
	for k, v := range header {
		req.Header[k] = v
	}
	where := req.URL.Redacted()
	r, err := climb(ctx, c.ladder, "asking "+where, where, func(ctx context.Context) (*reply, error) {
		return c.send(ctx, req, limit)
	})
	if err != nil {
		return nil, err
	}
	return &Answer{r.status, r.header, r.body}, nil
}
