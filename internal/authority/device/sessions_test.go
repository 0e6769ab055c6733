package device_test

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stella-ops/stella/internal/authority/device"
	"github.com/stella-ops/stella/internal/authority/store"
)

// A second browser cannot take part, whatever it knows.
func TestSecondBrowser(t *testing.T) {
	s := newSite(t)
	d := s.begin()
	first, second := s.visitor(), s.visitor()
	if a := first.enter(d); a.status != 303 {
		t.Fatal(a.status)
	}
	if a := first.enter(d); a.status != 303 { // control: again in the same one
		t.Error(a.status)
	}
	token := tokenOf(t, second)
	for path, form := range map[string]url.Values{
		"/device":         {},
		"/device/sign-in": {"username": {"alice"}, "password": {alicePassword}},
		"/device/consent": {"decision": {"approve"}, "tenant": {"acme"}},
	} {
		form.Set("token", token)
		form.Set("user_code", d.UserCode)
		a := second.post(path, form)
		if a.status != http.StatusConflict || !strings.Contains(a.body, "another browser") {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	for _, path := range []string{"/sign-in", "/consent"} {
		if a := second.get(at(path, d)); a.status != http.StatusConflict {
			t.Errorf("GET %s: %d", path, a.status)
		}
	}
	if s.logins != 0 {
		t.Error("a password was tried in the second browser")
	}
	if a := first.signIn(d, "alice", alicePassword); a.status != 303 {
		t.Errorf("the first browser: %d", a.status)
	}
}

// Who knows the cookie from before the login is not signed in by it.
func TestSessionIsRenewed(t *testing.T) {
	s := newSite(t)
	d := s.begin()
	v, thief := s.visitor(), s.visitor()
	v.enter(d)
	u, err := url.Parse(s.url)
	if err != nil {
		t.Fatal(err)
	}
	before := v.client.Jar.Cookies(u)
	thief.client.Jar.SetCookies(u, before)
	v.signIn(d, "alice", alicePassword)
	after := v.client.Jar.Cookies(u)
	if len(before) != 1 || len(after) != 1 || before[0].Value == after[0].Value {
		t.Fatal("the cookie did not change")
	}
	if a := v.get(at("/consent", d)); a.status != 200 { // control
		t.Errorf("%d", a.status)
	}
	if a := thief.get(at("/consent", d)); a.status != 303 || a.header.Get("Location") != at("/sign-in", d) {
		t.Errorf("with the old cookie: %d %s", a.status, a.header.Get("Location"))
	}
	all, err := s.store.List(t.Context(), store.Sessions)
	if err != nil || len(all) != 1 || strings.Contains(string(all[0].Data)+all[0].ID, after[0].Value) {
		t.Errorf("%d sessions, or one by which a browser can be", len(all))
	}
	// A copied cookie of the session is the browser, but for this code only.
	thief.client.Jar.SetCookies(u, after)
	other := s.begin()
	thief.enter(other)
	if a := thief.get(at("/consent", other)); a.status != 303 || a.header.Get("Location") != at("/sign-in", other) {
		t.Errorf("another code without password: %d", a.status)
	}
}

// Two codes at once in one browser do not get into each other's way, in any
// order of the steps.
func TestTwoCodes(t *testing.T) {
	s := newSite(t)
	a, b := s.begin(), s.begin()
	v := s.visitor()
	v.enter(a)
	v.enter(b)
	for _, step := range []func() answer{
		func() answer { return v.signIn(a, "alice", alicePassword) },
		func() answer { return v.signIn(b, "alice", alicePassword) },
		func() answer { return v.decide(a, "approve", "acme") },
		func() answer { return v.decide(b, "deny", "") },
	} {
		if got := step(); got.status != 303 {
			t.Fatalf("%d %s", got.status, got.body)
		}
	}
	if _, err := s.check(a); err != nil {
		t.Error(err)
	}
	if _, err := s.check(b); !errors.Is(err, device.ErrDenied) {
		t.Error(err)
	}
}
