package oauth

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/fault"
)

func TestDiscover(t *testing.T) {
	f := newFake(t)
	for _, tc := range []struct {
		name string
		bend func(m map[string]any)
		kind fault.Kind
		says string
	}{
		{"honest", func(map[string]any) {}, fault.None, ""},
		{"issuer with a slash", func(m map[string]any) { m["issuer"] = f.srv.URL + "/" }, fault.Trust, "names another issuer"},
		{"other issuer", func(m map[string]any) { m["issuer"] = "https://evil.example" }, fault.Trust, "names another issuer"},
		{"no issuer", func(m map[string]any) { delete(m, "issuer") }, fault.Trust, "names another issuer"},
		{"token endpoint elsewhere", func(m map[string]any) { m["token_endpoint"] = "https://evil.example/token" }, fault.Trust, "another origin"},
		{"revocation endpoint elsewhere", func(m map[string]any) { m["revocation_endpoint"] = "https://evil.example/r" }, fault.Trust, "another origin"},
		{"keys elsewhere", func(m map[string]any) { m["jwks_uri"] = strings.Replace(f.srv.URL, "https", "http", 1) + "/keys" }, fault.Trust, "another origin"},
		{"plain http", func(m map[string]any) { m["token_endpoint"] = "http://authority.example/token" }, fault.Trust, "not https"},
		{"no token endpoint", func(m map[string]any) { delete(m, "token_endpoint") }, fault.Trust, "no token_endpoint"},
		{"user name in URL", func(m map[string]any) { m["jwks_uri"] = strings.Replace(f.srv.URL, "://", "://u:p@", 1) }, fault.Trust, "not a plain absolute URL"},
		{"wrong type", func(m map[string]any) { m["token_endpoint"] = 5 }, fault.Trust, "wrong type"},
		{"no revocation endpoint", func(m map[string]any) { delete(m, "revocation_endpoint") }, fault.None, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f.metadata = tc.bend
			_, err := mustNew(t, f.config()).Discover(t.Context())
			if fault.KindOf(err) != tc.kind || err != nil && !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %v (%v), want %v saying %q", fault.KindOf(err), err, tc.kind, tc.says)
			}
		})
	}
}

func TestDiscoverAllowedOrigin(t *testing.T) {
	f := newFake(t)
	f.metadata = func(m map[string]any) { m["token_endpoint"] = "https://tokens.example/token" }
	cfg := f.config()
	cfg.Origins = []string{"https://tokens.example:443"}
	if _, err := mustNew(t, cfg).Discover(t.Context()); err != nil {
		t.Error(err)
	}
}

// Hostile and broken answers to any GET.
func TestDiscoverHostile(t *testing.T) {
	for _, tc := range []struct {
		name   string
		answer http.HandlerFunc
		kind   fault.Kind
		tries  int
	}{
		{"HTML with 200", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>welcome") }, fault.Trust, 1},
		{"JSON called text", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain")
			fmt.Fprint(w, "{}")
		}, fault.Trust, 1},
		{"no JSON", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, `{"issuer":`)
		}, fault.Trust, 1},
		{"a member twice", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"issuer":"https://%s","issuer":"https://evil.example"}`, r.Host)
		}, fault.Trust, 1},
		{"huge", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(make([]byte, 10<<20))
		}, fault.Trust, 1},
		{"redirect", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://evil.example/", http.StatusFound)
		}, fault.Trust, 1},
		{"404", http.NotFound, fault.NotFound, 1},
		{"503", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }, fault.Transient, 4},
		{"cut", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			fmt.Fprint(w, `{"issuer"`)
		}, fault.Transient, 4},
		{"hangs", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done(); panic(http.ErrAbortHandler) }, fault.Transient, 4},
	} {
		t.Run(tc.name, func(t *testing.T) {
			srv := httptest.NewTLSServer(tc.answer)
			defer srv.Close()
			cfg := Config{Issuer: srv.URL, HTTP: srv.Client(), RetryDelays: []time.Duration{0, 0, 0}, AttemptTimeout: 2 * time.Second}
			if tc.name == "hangs" {
				cfg.AttemptTimeout = 20 * time.Millisecond
			}
			tries := 0
			cfg.Events = func(e Event) {
				if e.Kind == EventAttempt {
					tries++
				}
			}
			_, err := mustNew(t, cfg).Discover(t.Context())
			if fault.KindOf(err) != tc.kind || tries != tc.tries {
				t.Errorf("got %v (%v) after %d tries, want %v after %d", fault.KindOf(err), err, tries, tc.kind, tc.tries)
			}
			if err != nil && !strings.Contains(err.Error(), srv.URL) {
				t.Errorf("the URL is not named: %v", err)
			}
		})
	}
}

func TestDiscoverUntrustedCertificate(t *testing.T) {
	f := newFake(t)
	cfg := f.config()
	cfg.HTTP = &http.Client{Transport: &http.Transport{}}
	_, err := mustNew(t, cfg).Discover(t.Context())
	if fault.KindOf(err) != fault.Trust || len(fault.HintsOf(err)) == 0 || f.count("/.well-known/openid-configuration") != 0 {
		t.Errorf("got %v (%v)", fault.KindOf(err), err)
	}
}

func TestDiscoverCaches(t *testing.T) {
	f := newFake(t)
	now := time.Now()
	cfg := f.config()
	cfg.CacheDir, cfg.Now = t.TempDir()+"/cache", func() time.Time { return now }
	var r recorder
	cfg.Events = r.add
	const path = "/.well-known/openid-configuration"
	step := func(name string, asked int, kind fault.Kind) {
		t.Helper()
		// A new Client has nothing in memory, as a new process.
		_, err := mustNew(t, cfg).Discover(t.Context())
		if f.count(path) != asked || fault.KindOf(err) != kind {
			t.Errorf("%s: asked %d times, want %d; %v", name, f.count(path), asked, err)
		}
	}
	step("first", 1, fault.None)
	step("fresh", 1, fault.None)
	now = now.Add(DefaultMetadataLife + time.Second)
	step("old", 2, fault.None)
	f.set(func(f *fakeAuthority) { f.down = true })
	now = now.Add(DefaultMetadataLife + DefaultOffline - time.Second)
	step("down, tolerated", 6, fault.None)
	if !strings.Contains(r.texts(EventWarning), "does not answer") {
		t.Error("the use of old metadata is not said")
	}
	now = now.Add(2 * time.Second)
	step("down, too old", 10, fault.Transient)
	cfg.Offline = true
	step("offline, too old", 10, fault.Offline)
	now = now.Add(-time.Minute)
	step("offline, tolerated", 10, fault.None)
	// What another issuer says while the first is tolerated is not passing.
	cfg.Offline = false
	f.set(func(f *fakeAuthority) { f.down, f.issuer = false, "https://evil.example" })
	step("other issuer", 11, fault.Trust)
}

func TestIssuerRefused(t *testing.T) {
	for _, issuer := range []string{
		"", "authority.example", "http://authority.example", "ftp://127.0.0.1", "https://u:p@authority.example",
		"https://authority.example?x=1", "https://authority.example/#f", "https://",
	} {
		if _, err := New(Config{Issuer: issuer}); fault.KindOf(err) != fault.Config || strings.Contains(err.Error(), "u:p") {
			t.Errorf("%q: %v", issuer, err)
		}
	}
	for _, issuer := range []string{"http://127.0.0.1:1", "http://localhost:80/x", "http://[::1]:9", "https://a.example/tenant/"} {
		if _, err := New(Config{Issuer: issuer}); err != nil {
			t.Errorf("%q: %v", issuer, err)
		}
	}
}

// TestOfflineOpensNoSocket counts dials, not requests.
func TestOfflineOpensNoSocket(t *testing.T) {
	dials := 0
	hc := &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		dials++
		return nil, fmt.Errorf("dialled")
	}}}
	cfg := Config{Issuer: "https://a.example", ClientID: "c", HTTP: hc, Offline: true, CacheDir: t.TempDir() + "/c"}
	c := mustNew(t, cfg)
	req, _ := http.NewRequest("GET", "https://a.example/x", nil)
	_, err1 := c.Discover(t.Context())
	_, err2 := c.Token(t.Context())
	_, err3 := c.Login(t.Context())
	_, err4 := c.Mint(t.Context())
	_, err5 := c.Do(req)
	_, err6 := Fetcher{HTTP: hc, Offline: true}.Get(t.Context(), "https://a.example", nil, 10)
	_, err7 := c.Revoke(t.Context(), &Token{})
	for i, err := range []error{err1, err2, err3, err4, err5, err6, err7} {
		if fault.KindOf(err) != fault.Offline {
			t.Errorf("%d: %v", i+1, err)
		}
	}
	if dials != 0 {
		t.Errorf("%d dials", dials)
	}
}
