package oauth

import (
	"context"
	"crypto/rand"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// fakeDevice is the part of a fakeAuthority that people log in by. The zero
// value lets everybody in at the first poll.
type fakeDevice struct {
	mu      sync.Mutex
	code    string // the device code that was handed out
	codeJKT string // the key that asked for it
	asked   url.Values
	answers []string // error codes for the polls to come; then a token
	after   string   // Retry-After of an answer "down"
	polls   int
	refresh string // the one good refresh token
	keyOf   string // the key that it is bound to
	spent   map[string]bool
	revoked bool // the family: a spent token was used again

	response func(m map[string]any) // bends the device authorization response
	bend     func(m map[string]any) // bends a token response of a person
}

func (f *fakeAuthority) deviceEndpoint(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	d := &f.device
	d.mu.Lock()
	d.code, d.codeJKT, d.asked = rand.Text(), r.PostForm.Get("dpop_jkt"), r.PostForm
	m := map[string]any{
		"device_code": d.code, "user_code": "WDJB-MJHT", "expires_in": 900, "interval": 5,
		"verification_uri": f.srv.URL + "/device", "verification_uri_complete": f.srv.URL + "/device?user_code=WDJB-MJHT",
	}
	d.mu.Unlock()
	if d.response != nil {
		d.response(m)
	}
	writeJSON(w, 200, m)
}

// grant answers and returns false when there is no token.
func (d *fakeDevice) grant(w http.ResponseWriter, form url.Values, jkt string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	refuse := func(code string) bool {
		if code == "down" {
			w.Header().Set("Content-Type", "text/plain")
			w.Header().Set("Retry-After", d.after)
			w.WriteHeader(503)
			return false
		}
		writeJSON(w, 400, map[string]any{"error": code, "error_description": "because\x1b[31m"})
		return false
	}
	if form.Get("grant_type") == grantRefresh {
		token := form.Get("refresh_token")
		if d.spent[token] {
			d.revoked = true
		}
		if token != d.refresh || jkt != d.keyOf || d.revoked {
			return refuse("invalid_grant")
		}
		return true
	}
	d.polls++
	if form.Get("device_code") != d.code || jkt != d.codeJKT {
		return refuse("invalid_grant")
	}
	if len(d.answers) > 0 {
		code := d.answers[0]
		d.answers = d.answers[1:]
		return refuse(code)
	}
	return true
}

// rotate makes the next refresh token and spends the last one.
func (d *fakeDevice) rotate(jkt string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.spent == nil {
		d.spent = map[string]bool{}
	}
	d.spent[d.refresh] = true
	d.refresh, d.keyOf = "r-"+rand.Text(), jkt
	return d.refresh
}

// presented is the thumbprint of the certificate of a connection.
func (f *fakeAuthority) presented(r *http.Request) string {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return ""
	}
	return x5t(r.TLS.PeerCertificates[0])
}

// testClock is a clock that moves when somebody sleeps by it.
type testClock struct {
	mu    sync.Mutex
	at    time.Time
	slept []time.Duration
}

func newClock() *testClock { return &testClock{at: time.Now()} }

func (k *testClock) now() time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.at
}

func (k *testClock) advance(d time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.at = k.at.Add(d)
}

func (k *testClock) sleep(ctx context.Context, d time.Duration) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.at, k.slept = k.at.Add(d), append(k.slept, d)
	return nil
}

// person is a Config for a public client that a person uses, by a clock that
// the Authority shares.
func (f *fakeAuthority) person(k *testClock) Config {
	cfg := f.config()
	cfg.Credential, cfg.Device, cfg.Now, cfg.Sleep = Public(), true, k.now, k.sleep
	cfg.ClockTolerance = 24 * time.Hour // the Date header is by the real clock
	f.clock = k.now
	return cfg
}
