package jwks_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/jose/jwks"
)

const endpoint = "https://a.example/jwks"

var errDown = errors.New("connection refused")

// issuer is the other side of the wire: an http.RoundTripper that answers from
// its fields and counts. No network, so that synctest can hold the clock.
type issuer struct {
	mu      sync.Mutex
	keys    map[string]jose.Key // by kid
	header  http.Header
	etag    string
	status  int           // 0: 200
	body    string        // not empty: instead of the set
	down    bool          // connections fail
	delay   time.Duration // before the answer
	fetches int
	full    int // answers with a body
	times   []time.Time
}

func newIssuer(t testing.TB, kids ...string) *issuer {
	t.Helper()
	i := &issuer{keys: make(map[string]jose.Key), header: http.Header{
		"Cache-Control": {"max-age=300"}, "Content-Type": {"application/json"}, "Date": {"Thu, 01 Jan 2026 00:00:00 GMT"},
	}}
	i.publish(t, kids...)
	return i
}

// publish replaces the set, keeping keys that stay.
func (i *issuer) publish(t testing.TB, kids ...string) {
	t.Helper()
	i.change(func() {
		old := i.keys
		i.keys = make(map[string]jose.Key)
		for _, kid := range kids {
			if k, ok := old[kid]; ok {
				i.keys[kid] = k
				continue
			}
			pub, _, err := ed25519.GenerateKey(rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			if i.keys[kid], err = jose.NewKey(pub, kid, jose.EdDSA); err != nil {
				t.Fatal(err)
			}
		}
		i.etag = `"` + strings.Join(kids, "-") + `"`
	})
}

func (i *issuer) change(f func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	f()
}

func (i *issuer) count() (fetches, full int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.fetches, i.full
}

// RoundTrip implements http.RoundTripper.
func (i *issuer) RoundTrip(req *http.Request) (*http.Response, error) {
	i.mu.Lock()
	i.fetches++
	i.times = append(i.times, time.Now())
	delay := i.delay
	i.mu.Unlock()
	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-req.Context().Done():
			return nil, req.Context().Err()
		}
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.down {
		return nil, errDown
	}
	resp := &http.Response{StatusCode: 200, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: i.header.Clone(), Request: req}
	if i.etag != "" {
		resp.Header.Set("ETag", i.etag)
	}
	body := i.body
	switch {
	case i.status != 0:
		resp.StatusCode = i.status
	case body == "" && i.etag != "" && req.Header.Get("If-None-Match") == i.etag:
		resp.StatusCode = http.StatusNotModified
	default:
		i.full++
		if body == "" {
			var set jose.Set
			for _, k := range i.keys {
				set.Keys = append(set.Keys, k)
			}
			raw, err := json.Marshal(set)
			if err != nil {
				return nil, err
			}
			body = string(raw)
		}
	}
	resp.Body = io.NopCloser(strings.NewReader(body))
	return resp, nil
}

func (i *issuer) remote(o jwks.Options) *jwks.Remote {
	o.Client = &http.Client{Transport: i}
	return jwks.New(endpoint, o)
}

func (i *issuer) wantFetches(t *testing.T, want int) {
	t.Helper()
	if got, _ := i.count(); got != want {
		t.Errorf("%d fetches, want %d", got, want)
	}
}

func wantKey(t *testing.T, r *jwks.Remote, kid string) {
	t.Helper()
	k, err := r.Key(context.Background(), kid)
	if err != nil || k.KeyID != kid {
		t.Errorf("key %q: %q, %v", kid, k.KeyID, err)
	}
}

func wantUnknown(t *testing.T, r *jwks.Remote, kid string) {
	t.Helper()
	if _, err := r.Key(context.Background(), kid); !errors.Is(err, jwks.ErrUnknownKey) {
		t.Errorf("key %q: %v, want ErrUnknownKey", kid, err)
	}
}
