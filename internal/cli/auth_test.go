package cli

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/ui"
)

// runStella runs one command line against url without waits between attempts.
func runStella(t *testing.T, url string, bend func(*ui.Streams), args ...string) (code int, out, err string) {
	t.Helper()
	s, stdout, stderr := ui.Buffers("")
	if bend != nil {
		bend(s)
	}
	app := NewApp([]string{
		"STELLA_AUTHORITY_URL=" + url, "STELLA_AUTH_CLIENT_ID=ops", "STELLA_AUTH_CLIENT_SECRET=env:SECRET_OF_TEST",
		"STELLA_AUTH_TOKEN_CACHE=" + t.TempDir() + "/tokens", "HOME=" + t.TempDir(),
	}, func(string) string { return "" })
	app.Streams, app.RetryDelays = s, []time.Duration{0, 0, 0}
	t.Setenv("SECRET_OF_TEST", "s3cret")
	code = Run(t.Context(), args, app)
	return code, stdout.String(), stderr.String()
}

// tokenServer hands out an opaque bearer token.
func tokenServer(t *testing.T) (url string, asked *atomic.Int32) {
	t.Helper()
	asked = new(atomic.Int32)
	var srv *httptest.Server
	srv = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Path == "/token" {
			asked.Add(1)
			fmt.Fprint(w, `{"access_token":"OPAQUE","token_type":"Bearer","expires_in":60}`)
			return
		}
		fmt.Fprintf(w, `{"issuer":"%s","token_endpoint":"%s/token","jwks_uri":"%s/jwks"}`, srv.URL, srv.URL, srv.URL)
	}))
	t.Cleanup(srv.Close)
	return srv.URL, asked
}

func TestMintAndTheTerminal(t *testing.T) {
	url, asked := tokenServer(t)
	terminal := func(s *ui.Streams) { s.OutTTY = true }
	for _, tc := range []struct {
		name  string
		bend  func(*ui.Streams)
		args  []string
		code  int
		shown bool
		asked int32
	}{
		{"raw to a terminal", terminal, []string{"--bearer", "--raw"}, 0, true, 1},
		{"raw elsewhere", nil, []string{"--bearer", "--raw"}, 0, true, 1},
		{"JSON to a terminal", terminal, []string{"--bearer", "--output", "json"}, 2, false, 0},
		{"raw JSON to a terminal", terminal, []string{"--bearer", "--output", "json", "--raw"}, 0, true, 1},
		{"JSON elsewhere", nil, []string{"--bearer", "--output", "json"}, 0, true, 1},
		{"claims", nil, []string{"--bearer"}, 0, false, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			asked.Store(0)
			args := append([]string{"auth", "token", "mint", "-v", "-v"}, tc.args...)
			code, out, stderr := runStella(t, url, tc.bend, args...)
			if code != tc.code || strings.Contains(out, "OPAQUE") != tc.shown || asked.Load() != tc.asked || strings.Contains(stderr, "OPAQUE") {
				t.Errorf("exit %d, asked %d times\n%s\n%s", code, asked.Load(), out, stderr)
			}
		})
	}
}

func TestLadderIsShown(t *testing.T) {
	var tries atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		tries.Add(1)
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer srv.Close()
	code, out, stderr := runStella(t, srv.URL, nil, "auth", "login")
	if code != 10 || tries.Load() != 4 || out != "" {
		t.Errorf("exit %d after %d tries, %q", code, tries.Load(), out)
	}
	for _, want := range []string{"attempt 1 of 4 failed", "answers 503", "hint: the server is reachable", srv.URL} {
		if !strings.Contains(stderr, want) {
			t.Errorf("%q is not said:\n%s", want, stderr)
		}
	}
	if code, _, stderr := runStella(t, srv.URL, nil, "--quiet", "auth", "login"); code != 10 || strings.Contains(stderr, "attempt 1") {
		t.Errorf("with --quiet: exit %d\n%s", code, stderr)
	}
}
