package oauth

import (
	"context"
	"errors"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/fault"
)

func TestDevice(t *testing.T) {
	f := newFake(t)
	k := newClock()
	f.device.answers = []string{"authorization_pending", "slow_down", "authorization_pending"}
	cfg := f.person(k)
	cfg.CacheDir = filepath.Join(t.TempDir(), "cache")
	started := k.now()
	var shown DeviceCode
	c := mustNew(t, cfg)
	tok, err := c.Device(t.Context(), func(d DeviceCode) error { shown = d; return nil })
	if err != nil {
		t.Fatal(err)
	}
	if shown.UserCode != "WDJB-MJHT" || shown.VerificationURI != f.srv.URL+"/device" || shown.ExpiresAt.Sub(started) != 15*time.Minute {
		t.Errorf("shown: %+v", shown)
	}
	if want := []time.Duration{5 * time.Second, 5 * time.Second, 10 * time.Second, 10 * time.Second}; !slices.Equal(k.slept, want) {
		t.Errorf("waited %v, want %v", k.slept, want)
	}
	asked := f.device.asked
	if asked.Get("client_id") != testClient || asked.Get("scope") != "a.read b.read" || asked.Get("audience") != "signer" || asked.Get("tenant") != "acme" {
		t.Errorf("asked for a code with %v", asked)
	}
	if tok.JKT == "" || tok.JKT != f.device.codeJKT || !tok.Refreshable(k.now()) || tok.RefreshUntil.IsZero() {
		t.Errorf("got %+v; the code was asked for by key %s", tok, f.device.codeJKT)
	}
	if again, err := mustNew(t, cfg).Token(t.Context()); err != nil || again.JKT != tok.JKT || !again.FromCache {
		t.Errorf("the next process: %+v, %v", again, err)
	}
}

func TestDeviceEnds(t *testing.T) {
	for _, tc := range []struct {
		name    string
		answers []string
		bend    func(f *fakeAuthority, cfg *Config)
		kind    fault.Kind
		says    string
	}{
		{"control", nil, nil, fault.None, ""},
		{"refused", []string{"authorization_pending", "access_denied"}, nil, fault.Denied, "the login was refused"},
		{"expired, as the issuer says", []string{"expired_token"}, nil, fault.Denied, "expired before anybody used it"},
		{"expired, by our clock", slices.Repeat([]string{"authorization_pending"}, 500), nil, fault.Denied, "expired before anybody used it"},
		{"slowed down for ever", slices.Repeat([]string{"slow_down"}, 500), nil, fault.Denied, "expired before anybody used it"},
		{"down for a while", []string{"down", "authorization_pending", "down", "down"}, nil, fault.None, ""},
		{"down for ever", slices.Repeat([]string{"down"}, 500), nil, fault.Denied, "expired before anybody used it"},
		{"something else", []string{"invalid_client"}, nil, fault.Denied, "invalid_client"},
		{"offline", nil, func(_ *fakeAuthority, c *Config) { c.Offline = true }, fault.Offline, "offline"},
		{"no client", nil, func(_ *fakeAuthority, c *Config) { c.ClientID = "" }, fault.Config, "no client"},
		{"not offered", nil, func(f *fakeAuthority, _ *Config) {
			f.metadata = func(m map[string]any) { delete(m, "device_authorization_endpoint") }
		}, fault.Config, "does not offer"},
		{"grant not offered", nil, func(f *fakeAuthority, _ *Config) {
			f.metadata = func(m map[string]any) { m["grant_types_supported"] = []string{grantClient} }
		}, fault.Config, "does not offer the grant"},
		{"endpoint elsewhere", nil, func(f *fakeAuthority, _ *Config) {
			f.metadata = func(m map[string]any) { m["device_authorization_endpoint"] = "https://evil.example/d" }
		}, fault.Trust, "another origin"},
		{"token not bound", nil, func(f *fakeAuthority, _ *Config) {
			f.claims = func(m map[string]any) { delete(m, "cnf") }
		}, fault.Trust, "cnf.jkt"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFake(t)
			k := newClock()
			f.device.answers = tc.answers
			cfg := f.person(k)
			cfg.CacheDir = filepath.Join(t.TempDir(), "cache")
			if tc.bend != nil {
				tc.bend(f, &cfg)
			}
			started := k.now()
			tok, err := mustNew(t, cfg).Device(t.Context(), func(DeviceCode) error { return nil })
			if fault.KindOf(err) != tc.kind || err != nil && !strings.Contains(err.Error(), tc.says) || (tok == nil) != (err != nil) {
				t.Fatalf("got %v (%v), want %v saying %q", fault.KindOf(err), err, tc.kind, tc.says)
			}
			if err != nil && strings.ContainsRune(err.Error(), 0x1b) {
				t.Errorf("an escape got through: %q", err)
			}
			if took := k.now().Sub(started); took > 15*time.Minute {
				t.Errorf("polled for %s", took)
			}
			if files, _ := filepath.Glob(cfg.CacheDir + "/*" + tokenSuffix); (len(files) == 1) != (err == nil) {
				t.Errorf("cached: %v", files)
			}
		})
	}
}

// An issuer that is down is asked ever less often, and as often as before once
// it answers.
func TestDeviceBacksOff(t *testing.T) {
	f := newFake(t)
	k := newClock()
	f.device.answers = []string{"down", "down", "down", "down", "down", "authorization_pending", "authorization_pending"}
	if _, err := mustNew(t, f.person(k)).Device(t.Context(), func(DeviceCode) error { return nil }); err != nil {
		t.Fatal(err)
	}
	var got []int
	for _, d := range k.slept {
		got = append(got, int(d.Seconds()))
	}
	if want := []int{5, 10, 20, 40, 60, 60, 5, 5}; !slices.Equal(got, want) {
		t.Errorf("waited %v s, want %v", got, want)
	}
	f.device.answers, f.device.after, k.slept = []string{"down"}, "77", nil
	if _, err := mustNew(t, f.person(k)).Device(t.Context(), func(DeviceCode) error { return nil }); err != nil || k.slept[1] != 77*time.Second {
		t.Errorf("asked to wait for 77 s, waited %v: %v", k.slept, err)
	}
}

func TestDeviceIsCancelled(t *testing.T) {
	f := newFake(t)
	k := newClock()
	f.device.answers = slices.Repeat([]string{"authorization_pending"}, 500)
	cfg := f.person(k)
	cfg.CacheDir = filepath.Join(t.TempDir(), "cache")
	stop := errors.New("SIGINT")
	ctx, cancel := context.WithCancelCause(t.Context())
	cfg.Sleep = func(ctx context.Context, d time.Duration) error {
		if len(k.slept) == 3 {
			cancel(stop)
		}
		return k.sleep(ctx, d)
	}
	_, err := mustNew(t, cfg).Device(ctx, func(DeviceCode) error { return nil })
	if !errors.Is(err, stop) || f.device.polls != 3 {
		t.Errorf("got %v after %d polls", err, f.device.polls)
	}
	if files, _ := filepath.Glob(cfg.CacheDir + "/*" + tokenSuffix); len(files) != 0 {
		t.Errorf("cached: %v", files)
	}
}

func TestDeviceMeetsNonce(t *testing.T) {
	f := newFake(t)
	k := newClock()
	f.nonce = "n0nce"
	f.device.answers = []string{"authorization_pending"}
	if _, err := mustNew(t, f.person(k)).Device(t.Context(), func(DeviceCode) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if f.device.polls != 2 {
		t.Errorf("polled %d times: the demand for a nonce must cost no poll", f.device.polls)
	}
}

func TestDeviceResponseLies(t *testing.T) {
	for _, tc := range []struct {
		name string
		bend func(m map[string]any)
		says string
	}{
		{"control", func(map[string]any) {}, ""},
		{"no complete URI", func(m map[string]any) { delete(m, "verification_uri_complete") }, ""},
		{"no interval", func(m map[string]any) { delete(m, "interval") }, ""},
		{"interval of zero", func(m map[string]any) { m["interval"] = 0 }, ""},
		{"no user code", func(m map[string]any) { delete(m, "user_code") }, "user_code"},
		{"escape in the user code", func(m map[string]any) { m["user_code"] = "AB\x1b[2J" }, "user_code"},
		{"long user code", func(m map[string]any) { m["user_code"] = strings.Repeat("A", maxUserCode+1) }, "user_code"},
		{"no device code", func(m map[string]any) { delete(m, "device_code") }, "device_code"},
		{"no life", func(m map[string]any) { delete(m, "expires_in") }, "expires_in"},
		{"no URI", func(m map[string]any) { delete(m, "verification_uri") }, "verification_uri"},
		{"URI elsewhere", func(m map[string]any) { m["verification_uri"] = "https://evil.example/device" }, "another origin"},
		{"complete URI elsewhere", func(m map[string]any) { m["verification_uri_complete"] = "https://evil.example/device?user_code=X" }, "another origin"},
		{"plain http", func(m map[string]any) { m["verification_uri"] = "http://authority.example/device" }, "not a plain https URL"},
		{"no URL at all", func(m map[string]any) { m["verification_uri"] = "javascript:alert(1)" }, "not a plain https URL"},
		{"a name in it", func(m map[string]any) {
			m["verification_uri"] = strings.Replace(m["verification_uri"].(string), "://", "://bank.example@", 1)
		}, "not a plain https URL"},
		{"escape in the URI", func(m map[string]any) { m["verification_uri"] = m["verification_uri"].(string) + "\x1b[2J" }, "no URL has"},
		{"long URI", func(m map[string]any) {
			m["verification_uri"] = m["verification_uri"].(string) + strings.Repeat("a", maxURI)
		}, "characters"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFake(t)
			f.device.response = tc.bend
			shown := false
			_, err := mustNew(t, f.person(newClock())).Device(t.Context(), func(DeviceCode) error { shown = true; return nil })
			if tc.says == "" && (err != nil || !shown) {
				t.Errorf("refused: %v", err)
			}
			if tc.says != "" && (fault.KindOf(err) != fault.Trust || !strings.Contains(err.Error(), tc.says) || shown || f.device.polls > 0) {
				t.Errorf("got %v (%v), want trust saying %q; shown %v, polled %d times", fault.KindOf(err), err, tc.says, shown, f.device.polls)
			}
		})
	}
}

// A person's token is never made by client_credentials, and no other client's
// token stands in for it.
func TestPersonIsAPerson(t *testing.T) {
	f := newFake(t)
	cfg, _ := cached(t, f)
	cfg.Device = true
	_, err := mustNew(t, cfg).Token(t.Context())
	if fault.KindOf(err) != fault.Denied || !strings.Contains(strings.Join(fault.HintsOf(err), ""), "stella auth login") {
		t.Errorf("got %v (%v)", fault.KindOf(err), err)
	}
	if _, err := mustNew(t, cfg).Mint(t.Context()); fault.KindOf(err) != fault.Input {
		t.Errorf("mint: %v", err)
	}
	if n := f.askedNow(); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

func TestPublicClientIsRefused(t *testing.T) {
	f := newFake(t)
	k := newClock()
	f.metadata = func(m map[string]any) { m["token_endpoint_auth_methods_supported"] = []string{"private_key_jwt"} }
	_, err := mustNew(t, f.person(k)).Device(t.Context(), func(DeviceCode) error { return nil })
	if fault.KindOf(err) != fault.Config || f.count("/device") != 0 {
		t.Errorf("got %v, asked %d times", err, f.count("/device"))
	}
	f.metadata = nil
	if _, err := mustNew(t, f.person(k)).Device(t.Context(), func(DeviceCode) error { return http.ErrAbortHandler }); !errors.Is(err, http.ErrAbortHandler) {
		t.Errorf("an error of show is lost: %v", err)
	}
}
