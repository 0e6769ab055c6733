package oauth

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/fault"
)

// loggedIn returns a config by which a person has logged in, and its clock.
func loggedIn(t *testing.T, f *fakeAuthority) (Config, *testClock, *Token) {
	t.Helper()
	k := newClock()
	cfg := f.person(k)
	cfg.CacheDir = filepath.Join(t.TempDir(), "cache")
	tok, err := mustNew(t, cfg).Device(t.Context(), func(DeviceCode) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	return cfg, k, tok
}

func TestRefresh(t *testing.T) {
	f := newFake(t)
	cfg, k, first := loggedIn(t, f)
	k.advance(f.life)
	second, err := mustNew(t, cfg).Token(t.Context())
	if err != nil || second.JKT != first.JKT || second.FromCache || string(second.AccessToken.Reveal()) == string(first.AccessToken.Reveal()) {
		t.Fatalf("got %+v, %v", second, err)
	}
	form := f.forms()[1]
	if form.Get("grant_type") != grantRefresh || form.Get("client_id") != testClient || form.Get("refresh_token") != string(first.RefreshToken.Reveal()) {
		t.Error("not refreshed by the token that was kept")
	}
	for i := range 3 { // the rotated one is on disk each time
		k.advance(f.life)
		if _, err := mustNew(t, cfg).Token(t.Context()); err != nil {
			t.Fatalf("refresh %d: %v", i, err)
		}
	}
	text := fmt.Sprintf("%v %+v %#v", second, *second, second)
	if strings.Contains(text, string(second.RefreshToken.Reveal())) || strings.Contains(text, "eyJ") {
		t.Errorf("a token prints itself: %s", text)
	}
}

// Of several processes exactly one uses the refresh token: a second use would
// look like theft and end the login.
func TestRefreshOnce(t *testing.T) {
	f := newFake(t)
	cfg, k, _ := loggedIn(t, f)
	k.advance(f.life)
	var all sync.WaitGroup
	for range 8 {
		c := mustNew(t, cfg)
		all.Go(func() {
			if _, err := c.Token(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := f.askedNow(); n != 2 || f.device.revoked {
		t.Errorf("asked %d times, one login and one refresh are due; family revoked: %v", n, f.device.revoked)
	}
}

func TestRefreshWithoutRotation(t *testing.T) {
	f := newFake(t)
	f.device.bend = func(m map[string]any) {
		if f.askedNow() > 1 {
			f.device.refresh = string(m["refresh_token"].(string))
			delete(m, "refresh_token")
		}
	}
	cfg, k, first := loggedIn(t, f)
	k.advance(f.life)
	second, err := mustNew(t, cfg).Token(t.Context())
	if err != nil || string(second.RefreshToken.Reveal()) != string(first.RefreshToken.Reveal()) || !second.RefreshUntil.Equal(first.RefreshUntil) {
		t.Errorf("the refresh token was lost: %+v, %v", second, err)
	}
}

func TestRefreshRefused(t *testing.T) {
	f := newFake(t)
	cfg, k, _ := loggedIn(t, f)
	f.device.revoked = true
	k.advance(f.life)
	_, err := mustNew(t, cfg).Token(t.Context())
	if fault.KindOf(err) != fault.Denied || !strings.Contains(err.Error(), "the login has ended") || !strings.Contains(strings.Join(fault.HintsOf(err), "\n"), "stella auth login") {
		t.Fatalf("got %v (%v)", fault.KindOf(err), err)
	}
	data, err := os.ReadFile(tokenFile(t, cfg))
	if err != nil || strings.Contains(string(data), "refresh_token") {
		t.Errorf("the refresh token is still there: %v", err)
	}
	before := f.askedNow()
	if _, err := mustNew(t, cfg).Token(t.Context()); fault.KindOf(err) != fault.Denied || f.askedNow() != before {
		t.Errorf("asked again with nothing in hand: %v", err)
	}
	f.device.revoked = false
	if _, err := mustNew(t, cfg).Device(t.Context(), func(DeviceCode) error { return nil }); err != nil {
		t.Errorf("logging in again: %v", err)
	}
	if _, err := mustNew(t, cfg).Token(t.Context()); err != nil {
		t.Error(err)
	}
}

// A process that dies between the answer and the write leaves a refresh token
// that was used already. The next one is told what to do.
func TestRefreshThatDied(t *testing.T) {
	f := newFake(t)
	cfg, k, _ := loggedIn(t, f)
	name := tokenFile(t, cfg)
	before, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	k.advance(f.life)
	if _, err := mustNew(t, cfg).Token(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, before, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = mustNew(t, cfg).Token(t.Context())
	if fault.KindOf(err) != fault.Denied || !strings.Contains(err.Error(), "the login has ended") || !f.device.revoked {
		t.Errorf("got %v (%v); family revoked: %v", fault.KindOf(err), err, f.device.revoked)
	}
}

// A failure in passing costs neither the token nor the refresh token.
func TestRefreshWhileDown(t *testing.T) {
	f := newFake(t)
	cfg, k, first := loggedIn(t, f)
	f.set(func(f *fakeAuthority) { f.down = true })
	k.advance(f.life - 5*time.Second)
	if tok, err := mustNew(t, cfg).Token(t.Context()); err != nil || string(tok.AccessToken.Reveal()) != string(first.AccessToken.Reveal()) {
		t.Errorf("the last good token was not kept: %v", err)
	}
	k.advance(5 * time.Second)
	if _, err := mustNew(t, cfg).Token(t.Context()); fault.KindOf(err) != fault.Transient {
		t.Errorf("got %v", err)
	}
	f.set(func(f *fakeAuthority) { f.down = false })
	if _, err := mustNew(t, cfg).Token(t.Context()); err != nil {
		t.Error(err)
	}
}

// When the rotated token cannot be written, the access token that came with it
// is not handed out.
func TestRefreshThatCannotBeKept(t *testing.T) {
	f := newFake(t)
	cfg, k, _ := loggedIn(t, f)
	name := tokenFile(t, cfg)
	f.device.bend = func(map[string]any) { // the moment between the answer and the write
		if err := os.Remove(name); err != nil {
			t.Error(err)
		}
		if err := os.MkdirAll(filepath.Join(name, "in the way"), 0o700); err != nil {
			t.Error(err)
		}
	}
	k.advance(f.life)
	if tok, err := mustNew(t, cfg).Token(t.Context()); err == nil || tok != nil || !strings.Contains(err.Error(), "storing the token") {
		t.Errorf("got %+v, %v", tok, err)
	}
}

func TestRefreshInMemory(t *testing.T) {
	f := newFake(t)
	k := newClock()
	c := mustNew(t, f.person(k))
	if _, err := c.Device(t.Context(), func(DeviceCode) error { return nil }); err != nil {
		t.Fatal(err)
	}
	k.advance(f.life)
	if _, err := c.Token(t.Context()); err != nil || f.askedNow() != 2 {
		t.Errorf("asked %d times: %v", f.askedNow(), err)
	}
	f.device.revoked = true
	k.advance(f.life)
	if _, err := c.Token(t.Context()); fault.KindOf(err) != fault.Denied {
		t.Errorf("got %v", err)
	}
}

func TestRevokeRefreshToken(t *testing.T) {
	f := newFake(t)
	cfg, k, tok := loggedIn(t, f)
	c := mustNew(t, cfg)
	if offered, err := c.Revoke(t.Context(), tok); err != nil || !offered {
		t.Fatal(err)
	}
	if len(f.revoked) != 2 || f.revoked[0] != string(tok.RefreshToken.Reveal()) || f.revoked[1] != string(tok.AccessToken.Reveal()) {
		t.Errorf("%d tokens were revoked, the refresh token first: %v", len(f.revoked), len(f.revoked) > 0 && strings.HasPrefix(f.revoked[0], "r-"))
	}
	k.advance(f.life) // an access token that has expired needs no revocation
	if _, err := c.Revoke(t.Context(), tok); err != nil || len(f.revoked) != 3 {
		t.Errorf("%d revoked: %v", len(f.revoked), err)
	}
}
