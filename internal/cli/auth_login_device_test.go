package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/ui"
)

// loginServer lets people in after the answers have been given to polls.
// Tokens are opaque and bound to nothing.
func loginServer(t *testing.T, answers ...string) (url string) {
	t.Helper()
	return revokingLoginServer(t, nil, answers...)
}

// revokingLoginServer is loginServer that keeps what it is asked to revoke.
func revokingLoginServer(t *testing.T, revoked *[]string, answers ...string) (url string) {
	t.Helper()
	var polls atomic.Int32
	var srv *httptest.Server
	srv = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch r.URL.Path {
		case "/device_authorization":
			fmt.Fprintf(w, `{"device_code":"SECRET-CODE","user_code":"WDJB-MJHT","verification_uri":"%s/device","verification_uri_complete":"%s/device?user_code=WDJB-MJHT","expires_in":900,"interval":5}`, srv.URL, srv.URL)
		case "/token":
			if n := int(polls.Add(1)); n <= len(answers) {
				w.WriteHeader(400)
				fmt.Fprintf(w, `{"error":%q}`, answers[n-1])
				return
			}
			fmt.Fprint(w, `{"access_token":"OPAQUE","token_type":"Bearer","expires_in":120,"refresh_token":"AGAIN"}`)
		case "/revoke":
			if revoked != nil {
				*revoked = append(*revoked, r.PostFormValue("token_type_hint")+" "+r.PostFormValue("token"))
			}
		default:
			fmt.Fprintf(w, `{"issuer":%q,"token_endpoint":"%s/token","jwks_uri":"%s/jwks","device_authorization_endpoint":"%s/device_authorization","revocation_endpoint":"%s/revoke"}`, srv.URL, srv.URL, srv.URL, srv.URL, srv.URL)
		}
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

// runLogin runs auth login as a public client, without waits.
func runLogin(t *testing.T, url string, bend func(*App), args ...string) (code int, out, err, cache string) {
	t.Helper()
	s, stdout, stderr := ui.Buffers("")
	cache = filepath.Join(t.TempDir(), "tokens")
	app := NewApp([]string{
		"STELLA_AUTHORITY_URL=" + url, "STELLA_AUTH_CLIENT_ID=cli", "STELLA_AUTH_DPOP=false", "STELLA_AUTH_TOKEN_CACHE=" + cache, "HOME=" + t.TempDir(),
	}, func(string) string { return "" })
	app.Streams, app.RetryDelays = s, []time.Duration{}
	app.Sleep = func(context.Context, time.Duration) error { return nil }
	if bend != nil {
		bend(app)
	}
	code = Run(t.Context(), append([]string{"auth", "login"}, args...), app)
	return code, stdout.String(), stderr.String(), cache
}

func TestDeviceLogin(t *testing.T) {
	url := loginServer(t, "authorization_pending")
	code, out, stderr, cache := runLogin(t, url, nil)
	if code != 0 || !strings.Contains(out, "Logged in.") || !strings.Contains(stderr, "\n  "+url+"/device\n") || !strings.Contains(stderr, "\n  WDJB-MJHT\n") {
		t.Errorf("exit %d\n%s\n%s", code, out, stderr)
	}
	for _, secret := range []string{"OPAQUE", "AGAIN", "SECRET-CODE"} {
		if strings.Contains(out+stderr, secret) {
			t.Errorf("%s is shown", secret)
		}
	}
	if !strings.Contains(stderr, "Waiting for the login (the code expires in 15:00)") && !strings.Contains(stderr, "expires in 14:5") {
		t.Errorf("no countdown: %s", stderr)
	}
	files, _ := filepath.Glob(cache + "/*.token")
	if len(files) != 1 {
		t.Fatalf("cached: %v", files)
	}
	if info, err := os.Stat(files[0]); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

func TestDeviceLoginSpeaks(t *testing.T) {
	for _, tc := range []struct {
		name     string
		bend     func(*App)
		args     []string
		has, not []string
	}{
		{"no terminal", nil, nil, []string{"WDJB-MJHT", "Waiting"}, []string{"█"}},
		{"terminal", func(a *App) { a.Streams.ErrTTY = true }, nil, []string{"WDJB-MJHT", "Waiting", "█"}, nil},
		{"narrow", func(a *App) { a.Streams.ErrTTY, a.Streams.Width = true, 30 }, nil, []string{"WDJB-MJHT"}, []string{"█"}},
		{"no QR", func(a *App) { a.Streams.ErrTTY = true }, []string{"--no-qr"}, []string{"WDJB-MJHT"}, []string{"█"}},
		{"quiet", nil, []string{"--quiet"}, []string{"WDJB-MJHT"}, []string{"Waiting"}},
		{"browser without a desktop", nil, []string{"--browser"}, []string{"WDJB-MJHT", "warning: no desktop is here"}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			code, _, stderr, _ := runLogin(t, loginServer(t, "authorization_pending"), tc.bend, tc.args...)
			if code != 0 {
				t.Errorf("exit %d: %s", code, stderr)
			}
			for _, text := range tc.has {
				if !strings.Contains(stderr, text) {
					t.Errorf("%q is missing in %q", text, stderr)
				}
			}
			for _, text := range tc.not {
				if strings.Contains(stderr, text) {
					t.Errorf("%q is in %q", text, stderr)
				}
			}
		})
	}
}

func TestDeviceLoginJSON(t *testing.T) {
	url := loginServer(t)
	code, out, stderr, _ := runLogin(t, url, func(a *App) { a.Streams.ErrTTY = true }, "--output", "json")
	dec := json.NewDecoder(strings.NewReader(out))
	var first, last map[string]any
	if err := dec.Decode(&first); err != nil {
		t.Fatal(err)
	}
	if err := dec.Decode(&last); err != nil || dec.More() {
		t.Fatal(err)
	}
	if code != 0 || stderr != "" || first["schema"] != SchemaAuthLoginDevice || first["user_code"] != "WDJB-MJHT" ||
		first["verification_uri_complete"] != url+"/device?user_code=WDJB-MJHT" || last["schema"] != SchemaAuthLogin || last["refreshable"] != true {
		t.Errorf("exit %d: %v, %v\n%s", code, first, last, stderr)
	}
}

// TestDeviceLoginAgain: a new login ends the one before it, for nobody has its
// refresh token any more; a refused one changes nothing.
func TestDeviceLoginAgain(t *testing.T) {
	var revoked []string
	url := revokingLoginServer(t, &revoked)
	cache := filepath.Join(t.TempDir(), "shared")
	shared := func(a *App) { a.Environ = append(a.Environ, "STELLA_AUTH_TOKEN_CACHE="+cache) }
	if code, _, stderr, _ := runLogin(t, url, shared); code != 0 || len(revoked) != 0 {
		t.Fatalf("exit %d, revoked %d\n%s", code, len(revoked), stderr)
	}
	if code, out, stderr, _ := runLogin(t, url, shared); code != 0 || !strings.Contains(out, "already") || strings.Contains(stderr, "open this page") {
		t.Errorf("exit %d: somebody who is logged in was asked again\n%s%s", code, out, stderr)
	}
	if code, _, stderr, _ := runLogin(t, url, shared, "--force"); code != 0 || strings.Join(revoked, ", ") != "refresh_token AGAIN, access_token OPAQUE" {
		t.Errorf("exit %d, revoked %q\n%s", code, revoked, stderr)
	}
}

func TestDeviceLoginFails(t *testing.T) {
	interrupted := fault.Errorf(fault.Interrupted, "SIGINT")
	for _, tc := range []struct {
		name   string
		answer string
		code   int
		says   string
	}{
		{"control", "authorization_pending", 0, ""},
		{"denied", "access_denied", 3, "the login was refused"},
		{"expired", "expired_token", 3, "expired before anybody used it"},
		{"cancelled", "authorization_pending", 130, "SIGINT"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			s, out, stderr := ui.Buffers("")
			cache := filepath.Join(t.TempDir(), "tokens")
			app := NewApp([]string{
				"STELLA_AUTHORITY_URL=" + loginServer(t, tc.answer), "STELLA_AUTH_CLIENT_ID=cli", "STELLA_AUTH_DPOP=false",
				"STELLA_AUTH_TOKEN_CACHE=" + cache, "HOME=" + t.TempDir(),
			}, func(string) string { return "" })
			app.Streams, app.RetryDelays = s, []time.Duration{}
			app.Sleep = func(context.Context, time.Duration) error {
				if tc.code == 130 {
					cancel(interrupted)
					return interrupted
				}
				return nil
			}
			code := Run(ctx, []string{"auth", "login"}, app)
			if code != tc.code || !strings.Contains(stderr.String(), tc.says) {
				t.Errorf("exit %d, want %d\n%s\n%s", code, tc.code, out, stderr)
			}
			if files, _ := filepath.Glob(cache + "/*.token"); (len(files) == 1) != (tc.code == 0) {
				t.Errorf("cached: %v", files)
			}
		})
	}
}
