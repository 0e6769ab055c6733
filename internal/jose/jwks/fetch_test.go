package jwks_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/jose/jwks"
)

func fetch(t *testing.T, i *issuer) (*jwks.Fetched, error) {
	t.Helper()
	return jwks.Fetch(t.Context(), &http.Client{Transport: i}, endpoint)
}

func TestFetch(t *testing.T) {
	i := newIssuer(t, "a")
	i.header.Set("Age", "7")
	f, err := fetch(t, i)
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Set.Keys) != 1 || len(f.Raw) == 0 || f.MaxAge != 300*time.Second || f.Age != 7*time.Second || f.NoStore ||
		f.ETag != `"a"` || !f.Date.Equal(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)) || len(f.Warnings) != 0 {
		t.Errorf("%+v", f)
	}
	i.header = http.Header{"Cache-Control": {"no-store"}}
	i.etag = ""
	if f, err = fetch(t, i); err != nil || f.MaxAge != -1 || !f.NoStore || !f.Date.IsZero() || f.ETag != "" {
		t.Errorf("%+v, %v", f, err)
	}
}

func TestFetchWarnings(t *testing.T) {
	const key = `"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"`
	header := func(name, value string) func(*issuer) {
		return func(i *issuer) {
			if value == "" {
				i.header.Del(name)
				return
			}
			i.header.Set(name, value)
		}
	}
	body := func(s string) func(*issuer) { return func(i *issuer) { i.body = s } }
	rows := []struct {
		name   string
		change func(*issuer)
		says   string // "" for no warning at all
	}{
		{"control", func(*issuer) {}, ""},
		{"jwk-set+json", header("Content-Type", "application/jwk-set+json; charset=utf-8"), ""},
		{"no Content-Type", header("Content-Type", ""), "no Content-Type"},
		{"text", header("Content-Type", "text/plain"), "Content-Type is"},
		{"no Cache-Control", header("Cache-Control", ""), "no Cache-Control"},
		{"no max-age", header("Cache-Control", "public"), "no max-age"},
		{"bad max-age", header("Cache-Control", "max-age=x"), "no single readable max-age"},
		{"two max-age", header("Cache-Control", "max-age=1, max-age=2"), "no single readable max-age"},
		{"max-age 0", header("Cache-Control", "max-age=0"), "max-age is 0"},
		{"no-store", header("Cache-Control", "no-store"), "forbids keeping"},
		{"stale", header("Age", "300"), "already stale"},
		{"bad Age", header("Age", "x"), "Age is not a number"},
		{"no Date", header("Date", ""), "no Date"},
		{"no ETag", func(i *issuer) { i.etag = "" }, "no ETag"},
		{"empty set", body(`{"keys":[]}`), "no usable key"},
		{"full key", body(`{"keys":[{` + key + `,"kid":"k","use":"sig","alg":"ES256"}]}`), ""},
		{"no kid", body(`{"keys":[{` + key + `,"use":"sig","alg":"ES256"}]}`), "no kid"},
		{"no use", body(`{"keys":[{` + key + `,"kid":"k","alg":"ES256"}]}`), "no use"},
		{"no alg", body(`{"keys":[{` + key + `,"kid":"k","use":"sig"}]}`), "no alg"},
		{"skipped", body(`{"keys":[{` + key + `,"kid":"k","use":"sig","alg":"ES256"},{"kty":"new","kid":"n"}]}`), `key "n" skipped`},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			i := newIssuer(t, "a")
			r.change(i)
			f, err := fetch(t, i)
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case r.says == "" && len(f.Warnings) != 0:
				t.Errorf("warnings %q", f.Warnings)
			case r.says != "" && (len(f.Warnings) != 1 || !strings.Contains(f.Warnings[0], r.says)):
				t.Errorf("warnings %q, want just %q", f.Warnings, r.says)
			}
		})
	}
}

func TestFetchErrors(t *testing.T) {
	status := func(n int) func(*issuer) { return func(i *issuer) { i.status = n } }
	for _, r := range []struct {
		name   string
		change func(*issuer)
		want   fault.Kind
	}{
		{"down", func(i *issuer) { i.down = true }, fault.Transient},
		{"500", status(500), fault.Transient},
		{"429", status(429), fault.Transient},
		{"401", status(401), fault.Denied},
		{"404", status(404), fault.NotFound},
		{"304 without a condition", status(304), fault.Trust},
		{"204", status(204), fault.Trust},
		{"HTML", func(i *issuer) { i.body = "<html>" }, fault.Trust},
		{"K07 10 MB", func(i *issuer) { i.body = strings.Repeat(" ", 10<<20) }, fault.Trust},
		{"K04 private member", func(i *issuer) { i.body = `{"keys":[{"kty":"EC","d":"AA"}]}` }, fault.Trust},
	} {
		t.Run(r.name, func(t *testing.T) {
			i := newIssuer(t, "a")
			if _, err := fetch(t, i); err != nil {
				t.Fatal("control:", err)
			}
			r.change(i)
			if _, err := fetch(t, i); fault.KindOf(err) != r.want {
				t.Errorf("%v of kind %s, want %s", err, fault.KindOf(err), r.want)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	i := newIssuer(t, "a")
	i.delay = time.Hour
	if _, err := jwks.Fetch(ctx, &http.Client{Transport: i}, endpoint); fault.KindOf(err) != fault.Interrupted {
		t.Errorf("cancelled: %v of kind %s", err, fault.KindOf(err))
	}
}

// The body is read to its limit and no further.
func TestBodyIsBounded(t *testing.T) {
	var sent atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		block := []byte(strings.Repeat(" ", 64<<10))
		for r.Context().Err() == nil {
			n, err := w.Write(block)
			sent.Add(int64(n))
			if err != nil {
				return
			}
		}
	}))
	defer srv.Close()
	if _, err := jwks.Fetch(t.Context(), nil, srv.URL); fault.KindOf(err) != fault.Trust || !errors.Is(err, jose.ErrTooLarge) {
		t.Errorf("%v of kind %s", err, fault.KindOf(err))
	}
	if n := sent.Load(); n > 64<<20 {
		t.Errorf("%d bytes were taken", n)
	}
}

// hops answers each URL with a redirect or a set, and notes what was asked.
type hops struct {
	to   map[string]string
	seen []string
}

func (h *hops) RoundTrip(req *http.Request) (*http.Response, error) {
	url := req.URL.String()
	h.seen = append(h.seen, url)
	if to := h.to[url]; to != "" {
		return &http.Response{StatusCode: 302, Header: http.Header{"Location": {to}}, Body: http.NoBody, Request: req}, nil
	}
	return (&issuer{header: http.Header{}}).RoundTrip(req)
}

func TestRedirects(t *testing.T) {
	const start = "https://a.example/jwks"
	for _, r := range []struct {
		name  string
		chain []string
		ok    bool
	}{
		{"control", []string{start}, true},
		{"same host", []string{start, "https://a.example/keys"}, true},
		{"three hops", []string{start, "https://a.example/1", "https://a.example/2", "https://a.example/3"}, true},
		{"four hops", []string{start, "https://a.example/1", "https://a.example/2", "https://a.example/3", "https://a.example/4"}, false},
		{"other host", []string{start, "https://b.example/jwks"}, false},
		{"other port", []string{start, "https://a.example:8443/jwks"}, false},
		{"to plain HTTP", []string{start, "http://a.example/jwks"}, false},
		{"to HTTPS", []string{"http://a.example/jwks", start}, true},
		{"to HTTPS and back", []string{"http://a.example/jwks", start, "http://a.example/keys"}, false},
		{"to HTTPS elsewhere", []string{"http://a.example/jwks", "https://b.example/jwks"}, false},
		{"other host at the second hop", []string{start, "https://a.example/1", "https://b.example/2"}, false},
	} {
		t.Run(r.name, func(t *testing.T) {
			h := &hops{to: make(map[string]string)}
			for n := range r.chain[1:] {
				h.to[r.chain[n]] = r.chain[n+1]
			}
			_, err := jwks.Fetch(t.Context(), &http.Client{Transport: h}, r.chain[0])
			if r.ok {
				if err != nil || !slices.Equal(h.seen, r.chain) {
					t.Errorf("%v, saw %q", err, h.seen)
				}
				return
			}
			if fault.KindOf(err) != fault.Trust {
				t.Errorf("%v of kind %s", err, fault.KindOf(err))
			}
			if slices.Contains(h.seen, r.chain[len(r.chain)-1]) {
				t.Errorf("followed all the same: %q", h.seen)
			}
		})
	}
}
