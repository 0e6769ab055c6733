package device_test

import (
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var inline = regexp.MustCompile(`(?i)<script|<style|\sstyle=|\son[a-z]+=|javascript:|https?://`)

// Every answer is safe to show, and nothing in it needs more than the policy
// allows.
func TestHeaders(t *testing.T) {
	s := newSite(t)
	d := s.begin()
	v := s.signedIn(d)
	for path, status := range map[string]int{
		"/device": 200, "/device?user_code=BCDF-GHJK": 200, "/device?user_code=%3Cscript%3E": 200, at("/consent", d): 200, at("/sign-in", d): 303,
		"/device/consent?user_code=BBBB-BBBB": 404, "/device/consent": 404, "/device/nothing": 404, "/device/style.css": 200, "/device/mark.svg": 200,
	} {
		a := v.get(path)
		if a.status != status {
			t.Errorf("%s: %d", path, a.status)
		}
		h := a.header
		for name, want := range map[string]string{
			"Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
			"Referrer-Policy":         "no-referrer", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY",
		} {
			if h.Get(name) != want {
				t.Errorf("%s: %s is %q", path, name, h.Get(name))
			}
		}
		asset := strings.HasSuffix(path, ".css") || strings.HasSuffix(path, ".svg")
		if got := h.Get("Cache-Control"); got != map[bool]string{true: "public, max-age=3600", false: "no-store"}[asset] {
			t.Errorf("%s: Cache-Control %q", path, got)
		}
		if !asset && inline.MatchString(a.body) {
			t.Errorf("%s: %q", path, inline.FindString(a.body))
		}
	}
	if a := v.do("DELETE", "/device", nil); a.status != 405 {
		t.Errorf("DELETE: %d", a.status)
	}
}

// What clients and people are called is shown as text.
func TestMarkupIsText(t *testing.T) {
	s := newSite(t)
	const markup = `<img src=x onerror="alert(1)">&{{.Token}}`
	s.client.Name, s.person.DisplayName = markup, markup
	d := s.begin()
	a := s.signedIn(d).get(at("/consent", d))
	if strings.Contains(a.body, "<img src=x") || strings.Count(html.UnescapeString(a.body), markup) < 3 {
		t.Errorf("%s", a.body)
	}
}

func TestCookie(t *testing.T) {
	s := newSite(t)
	read := func(a answer) *http.Cookie {
		t.Helper()
		c, err := http.ParseSetCookie(a.header.Get("Set-Cookie"))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	v := s.visitor()
	c := read(v.get("/device"))
	if c.Name != "__Host-stella-device" || !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.Domain != "" || len(c.Value) != 43 || c.MaxAge != 0 {
		t.Errorf("%+v", c)
	}
	if a := v.get("/device"); a.header.Get("Set-Cookie") != "" {
		t.Error("a second cookie")
	}
	// After a link elsewhere the browser keeps the cookie back: it is not replaced.
	for site, want := range map[string]bool{"cross-site": false, "same-site": false, "none": true, "same-origin": true} {
		other := s.visitor()
		other.header.Set("Sec-Fetch-Site", site)
		a := other.get("/device?user_code=BCDF-GHJK")
		if got := a.header.Get("Set-Cookie") != ""; got != want || strings.Contains(a.body, `content="0; url=/device?user_code=BCDF-GHJK"`) == want {
			t.Errorf("%s: %t %s", site, got, a.body)
		}
	}
	// Two cookies of the name, or a malformed one, are none.
	for _, header := range []string{"__Host-stella-device=x", "__Host-stella-device=" + c.Value + "; __Host-stella-device=" + c.Value} {
		other := s.visitor()
		other.header.Set("Cookie", header)
		if read(other.get("/device")).Value == c.Value {
			t.Errorf("%s counts", header)
		}
	}
	// A lab without TLS below a path: a name that browsers accept there.
	mux := http.NewServeMux()
	s.mount(mux, "http://127.0.0.1:8440/auth")
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/device", nil))
	lab := read(answer{header: w.Header()})
	if lab.Name != "stella-device" || lab.Secure || !lab.HttpOnly || lab.SameSite != http.SameSiteStrictMode {
		t.Errorf("%+v", lab)
	}
	if body := w.Body.String(); !strings.Contains(body, `action="/auth/device"`) || !strings.Contains(body, `href="/auth/device/style.css`) || !strings.Contains(body, "127.0.0.1:8440") {
		t.Error(body)
	}
}

// FuzzForm: whatever is sent to whichever form, nothing breaks, nothing is
// approved, and what was typed comes back as the same text.
func FuzzForm(f *testing.F) {
	s := newSite(f)
	d := s.begin()
	const cookie = "__Host-stella-device=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	send := func(method, path, body string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Cookie", cookie)
		w := httptest.NewRecorder()
		s.handler.ServeHTTP(w, r)
		return w
	}
	token := tokenField.FindStringSubmatch(send("GET", "/device", "").Body.String())[1]
	if w := send("POST", "/device", "token="+token+"&user_code="+d.UserCode); w.Code != 303 {
		f.Fatal(w.Code)
	}
	f.Add("/device", "user_code="+d.UserCode, "x")
	f.Add("/device/sign-in", "username=alice&password=x&user_code="+d.UserCode, `"><script>alert(1)</script>`)
	f.Add("/device/consent", "decision=approve&tenant=acme", "{{.Token}}")
	signIn := func(name string) *httptest.ResponseRecorder {
		form := url.Values{"token": {token}, "user_code": {d.UserCode}, "username": {name}, "password": {"x"}}
		return send("POST", "/device/sign-in", form.Encode())
	}
	tags := strings.Count(signIn("x").Body.String(), "<")
	f.Fuzz(func(t *testing.T, path, body, name string) {
		if !slices.Contains([]string{"/device", "/device/sign-in", "/device/consent"}, path) {
			path = "/device"
		}
		for _, body := range []string{body, body + "&token=" + token} {
			if w := send("POST", path, body); w.Code >= 500 || w.Code == 200 || w.Code == 307 {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
		}
		if _, err := s.codes.Check(t.Context(), d.DeviceCode, "stella-cli"); err == nil {
			t.Fatal("approved")
		}
		w := signIn(name)
		if w.Code != 403 { // refused, as empty, too long or not text
			return
		}
		m := usernameField.FindStringSubmatch(w.Body.String())
		if m == nil || html.UnescapeString(m[1]) != name || strings.Count(w.Body.String(), "<") != tags {
			t.Fatalf("%q: %d %q\n%s", name, strings.Count(w.Body.String(), "<"), m, w.Body)
		}
	})
}

var usernameField = regexp.MustCompile(`name="username" type="text" value="([^"]*)"`)
