package device_test

import (
	"errors"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/authority/device"
	"github.com/stella-ops/stella/internal/testenv"
	"github.com/stella-ops/stella/internal/testenv/browser"
)

// see checks the page that b shows as people with bad eyes, small windows and
// keyboards meet it, and takes pictures.
func see(b *browser.Browser, name string) {
	for _, look := range []struct {
		name          string
		width, height int64
		dark          bool
	}{
		{"", 1100, 900, false}, {" dark", 1100, 900, true}, {" 320 px", 320, 720, false},
		{" 200 %", 550, 450, true}, // a window of 1100 pixels at that zoom
	} {
		b.Resize(look.width, look.height)
		b.Dark(look.dark)
		b.Accessible(name + look.name)
		b.Screenshot(strings.NewReplacer(" ", "-", "%", "percent").Replace(name + look.name))
	}
	b.Resize(1100, 900)
	b.Dark(false)
}

// expect fails the test unless the page has a status and shows texts.
func expect(t *testing.T, b *browser.Browser, got, want int, texts ...string) {
	t.Helper()
	page := b.Text()
	for _, text := range texts {
		if got != want || !strings.Contains(page, text) {
			t.Fatalf("status %d, want %d with %q; %s shows\n%s", got, want, text, b.URL(), page)
		}
	}
}

func signIn(b *browser.Browser, password string) int {
	b.Fill("#username", "alice")
	b.Fill("#password", password)
	return b.Click("button")
}

const (
	approve = "button[value=approve]"
	deny    = "button[value=deny]"
)

// The whole way in Chromium, with every page it can show.
func TestInChromium(t *testing.T) {
	s := newSite(t)
	b := browser.New(t, s.cert)
	d := s.begin()

	expect(t, b, b.Open(d.Page), 200, "Enter your code", strings.TrimPrefix(s.url, "https://"))
	see(b, "1 enter")
	b.Open(d.Page)
	b.Until(`document.activeElement.id === "user_code"`) // the focus begins there
	b.Fill("#user_code", "bbbb bbbb")
	expect(t, b, b.Click("button"), 404, "not known or has expired")
	see(b, "1 enter wrong")

	expect(t, b, b.Open(d.Complete), 200, "Is this your code?", d.UserCode, "close this page")
	see(b, "1 enter filled in")
	if _, err := s.check(d); !errors.Is(err, device.ErrPending) { // control, and: nothing was sent by itself
		t.Error(err)
	}
	expect(t, b, b.Click("button"), 200, "Sign in", d.UserCode)
	see(b, "2 sign in")

	expect(t, b, signIn(b, "wrong"), 403, "do not match")
	see(b, "2 sign in wrong")
	s.lock(14*time.Minute + time.Second)
	expect(t, b, signIn(b, "wrong"), 429, "Too many failed attempts for this user name. Try again in 15 minutes.")
	see(b, "2 sign in locked")
	s.lock(0)

	expect(t, b, signIn(b, alicePassword), 200, "Allow Stella command line to act for you?", "Alice Example", d.UserCode,
		"10.1.2.3", "See the signing keys", "will not get", "Rotate, schedule and revoke", "api://authority")
	see(b, "3 consent")
	// Nothing is chosen for the person.
	if browser.Eval[bool](b, "!!document.querySelector('input[name=tenant]:checked')") {
		t.Error("a tenant is chosen already")
	}
	b.Press("#tenant1")
	expect(t, b, b.Click(approve), 200, "Approved", "Your terminal goes on")
	see(b, "4 approved")
	a, err := s.check(d)
	if err != nil || a.Tenant != "globex" {
		t.Fatalf("%+v %v", a, err)
	}
	// Back, and sent again: what was decided stays.
	b.Back()
	expect(t, b, 200, 200, "Approved")
	if again, err := s.check(d); err != nil || again.Tenant != "globex" {
		t.Errorf("%+v %v", again, err)
	}
	for _, c := range b.Cookies() {
		if c.Name == "__Host-stella-device" && (!c.Secure || !c.HTTPOnly || c.SameSite != "Strict" || !c.Session) {
			t.Errorf("%+v", c)
		}
	}
	if browser.Eval[string](b, "document.cookie") != "" {
		t.Error("a script can read the cookie")
	}
}

func TestDenyInChromium(t *testing.T) {
	s := newSite(t)
	s.person.Tenants = []string{"acme"}
	b, second := browser.New(t, s.cert), browser.New(t, s.cert)
	d := s.begin()
	b.Open(d.Complete)
	b.Click("button")

	second.Open(d.Complete)
	expect(t, second, second.Click("button"), 409, "being used in another browser")
	see(second, "5 elsewhere")
	expect(t, second, second.Open(s.url+at("/consent", d)), 409, "being used in another browser")

	expect(t, b, signIn(b, alicePassword), 200, "Allow Stella command line")
	b.Screenshot("3-consent-one-tenant")
	expect(t, b, b.Click(deny), 200, "Denied", "Nothing was granted")
	see(b, "4 denied")
	if _, err := s.check(d); !errors.Is(err, device.ErrDenied) {
		t.Error(err)
	}

	s.person.Scopes = nil
	d = s.begin()
	b.Open(d.Complete)
	b.Click("button")
	expect(t, b, signIn(b, alicePassword), 200, "You cannot grant this")
	see(b, "3 consent impossible")
	if browser.Eval[bool](b, "!!document.querySelector('"+approve+"')") {
		t.Error("it can be approved")
	}
}

// Without JavaScript everything works: there is none.
func TestWithoutScript(t *testing.T) {
	s := newSite(t)
	b := browser.New(t, s.cert)
	b.NoScript()
	d := s.begin("tenant", "acme")
	b.Open(d.Complete)
	expect(t, b, b.Click("button"), 200, "Sign in")
	expect(t, b, signIn(b, alicePassword), 200, "Allow Stella command line")
	b.DoubleClick(approve)
	b.Until(`document.title.startsWith("Approved")`)
	if a, err := s.check(d); err != nil || a.Tenant != "acme" {
		t.Errorf("%+v %v", a, err)
	}
}

// Another site can lead people to the page and no further: its links do not
// end what a browser is in the middle of, and its forms do nothing.
func TestAnotherSite(t *testing.T) {
	s := newSite(t)
	d := s.begin("tenant", "acme")
	evil := http.NewServeMux()
	evil.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`<!doctype html><title>evil</title><a href="` + d.Complete + `">link</a>
<form method="post" action="` + s.url + `/device/consent"><input name="user_code" value="` + d.UserCode + `"><input name="decision" value="approve"><button>win</button></form>`))
	})
	ca, err := testenv.NewCA(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	other, err := testenv.Serve(t.Context(), ca, "evil", evil)
	if err != nil {
		t.Fatal(err)
	}
	// Ports do not make sites: by its other name it is one of its own.
	u, err := url.Parse(other)
	if err != nil {
		t.Fatal(err)
	}
	other = "https://localhost:" + u.Port()

	b := browser.New(t, bothCerts(t, s.cert, ca.Dir+"/evil.crt"))
	b.Open(d.Complete)
	b.Click("button")
	signIn(b, alicePassword)
	b.Open(other)
	expect(t, b, b.Click("button"), 403, "This page is out of date")
	see(b, "5 forgery")
	if _, err := s.check(d); !errors.Is(err, device.ErrPending) {
		t.Fatal(err)
	}
	b.Open(other)
	b.Click("a")
	b.Until(`document.title.startsWith("Is this your code?")`)
	expect(t, b, b.Click("button"), 200, "Allow Stella command line") // still signed in
	expect(t, b, b.Click(approve), 200, "Approved")
}

func bothCerts(t *testing.T, files ...string) string {
	t.Helper()
	var all []byte
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, data...)
	}
	path := t.TempDir() + "/both.pem"
	if err := os.WriteFile(path, all, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
