package device_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/authority/audit"
	"github.com/stella-ops/stella/internal/authority/clientauth"
	"github.com/stella-ops/stella/internal/authority/clients"
	"github.com/stella-ops/stella/internal/authority/device"
	"github.com/stella-ops/stella/internal/authority/store"
	"github.com/stella-ops/stella/internal/authority/store/mem"
	"github.com/stella-ops/stella/internal/authority/wire"
	"github.com/stella-ops/stella/internal/testenv"
)

// clock is a time that tests move.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Date(2026, 11, 22, 10, 23, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// faulty is a store whose inserts and reads fail on demand; an insert may
// nevertheless have happened.
type faulty struct {
	store.Records
	mu      sync.Mutex
	fail    func(op string, kind store.Kind, id string) bool
	persist bool
}

var errAway = errors.New("the store is away")

func (f *faulty) failing(op string, kind store.Kind, id string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fail != nil && f.fail(op, kind, id)
}

func (f *faulty) set(persist bool, fail func(op string, kind store.Kind, id string) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail, f.persist = fail, persist
}

func (f *faulty) Insert(ctx context.Context, r store.Record) error {
	if f.failing("insert", r.Kind, r.ID) {
		if f.persist {
			_ = f.Records.Insert(ctx, r)
		}
		return errAway
	}
	return f.Records.Insert(ctx, r)
}

func (f *faulty) Record(ctx context.Context, kind store.Kind, id string) (*store.Record, error) {
	if f.failing("read", kind, id) {
		return nil, errAway
	}
	return f.Records.Record(ctx, kind, id)
}

func (f *faulty) Remove(ctx context.Context, kind store.Kind, id string) error {
	if f.failing("remove", kind, id) {
		return errAway
	}
	return f.Records.Remove(ctx, kind, id)
}

// records collects audit records.
type auditLog struct {
	mu  sync.Mutex
	all []*audit.Record
}

func (a *auditLog) Write(_ context.Context, r *audit.Record) {
	a.mu.Lock()
	defer a.mu.Unlock()
	c := *r
	a.all = append(a.all, &c)
}

// last returns type and outcome of the last record, and how many there are.
func (a *auditLog) last() (string, int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.all) == 0 {
		return "", 0
	}
	r := a.all[len(a.all)-1]
	return r.Type + " " + string(r.Outcome), len(a.all)
}

const alicePassword = "correct horse battery staple"

// site is an Authority as far as this package goes, over TLS.
type site struct {
	t       testing.TB
	handler http.Handler
	clock   *clock
	store   *faulty
	codes   *device.Codes
	client  *clients.Client
	person  device.Person
	url     string
	cert    string // PEM file of the server
	tls     *tls.Config
	audit   *auditLog
	log     *bytes.Buffer

	mu     sync.Mutex
	wait   time.Duration // what Take answers
	locked time.Duration // what Login answers to wrong passwords
	logins int           // calls of Login
	remote string        // what Login was told
}

type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

func newSite(t testing.TB) *site {
	t.Helper()
	s := &site{
		t: t, clock: newClock(), store: &faulty{Records: mem.New(0)}, audit: &auditLog{}, log: &bytes.Buffer{},
		client: &clients.Client{
			ID: "stella-cli", Name: "Stella command line", Grants: []string{clients.GrantDevice},
			Scopes: []string{"authority:keys.manage", "authority:keys.read", "findings:read"}, Audiences: []string{"api://authority"},
			Tenants: []string{"acme", "globex"},
		},
		person: device.Person{
			Subject: "usr_1", Username: "alice", DisplayName: "Alice Example", Tenants: []string{"acme", "globex", "other"},
			Scopes: []string{"authority:keys.read", "findings:read", "not:asked"}, Roles: []string{"operator"},
		},
	}
	s.codes = &device.Codes{Records: s.store, Lifetime: func() time.Duration { return 15 * time.Minute }, Now: s.clock.now}
	mux := http.NewServeMux()
	s.handler = audit.Middleware(s.audit, audit.Options{})(mux)
	srv := httptest.NewUnstartedServer(s.handler)
	ca, err := testenv.NewCA(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if srv.TLS, err = ca.TLS("site"); err != nil {
		t.Fatal(err)
	}
	s.cert, s.tls = ca.Dir+"/site.crt", ca.Client().Transport.(*http.Transport).TLSClientConfig
	srv.Config.ErrorLog = log.New(io.Discard, "", 0) // browsers hang up as they like
	srv.StartTLS()
	t.Cleanup(srv.Close)
	s.url = srv.URL
	s.mount(mux, srv.URL)
	return s
}

// mount serves the endpoint and the page for an issuer.
func (s *site) mount(mux *http.ServeMux, issuer string) {
	logger := slog.New(slog.NewTextHandler(lockedWriter{&s.mu, s.log}, nil))
	ready := func() error { return nil }
	remote := func(*http.Request) string { return "10.1.2.3" }
	mux.Handle("POST "+device.PathAuthorization, &device.Endpoint{
		Codes: s.codes, Issuer: issuer, Ready: ready, Remote: remote, Log: logger,
		Authenticate: func(_ *http.Request, f *wire.Form) (*clientauth.Identity, error) {
			if f.Get("client_id") != s.client.ID {
				return nil, wire.Refuse(wire.InvalidClient, "unknown client")
			}
			return &clientauth.Identity{Client: s.client}, nil
		},
		Choose: func(who *clientauth.Identity, f *wire.Form) (*device.Choice, error) {
			scopes := who.Client.Scopes
			if asked := f.Get("scope"); asked != "" {
				scopes = strings.Split(asked, " ")
			}
			for _, sc := range scopes {
				if !who.Client.HasScope(sc) {
					return nil, wire.Refuse(wire.InvalidScope, "a scope is not assigned")
				}
			}
			tenants := who.Client.Tenants
			if named := f.Get("tenant"); named != "" {
				tenants = []string{named}
			}
			return &device.Choice{Scopes: scopes, Audience: who.Client.Audiences[0], Tenants: tenants}, nil
		},
	})
	page, err := device.NewPage(device.PageDeps{
		Codes: s.codes, Issuer: issuer, Login: s.login, Ready: ready, Remote: remote, Log: logger,
		Take: func(*http.Request) (time.Duration, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.wait, nil
		},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	mux.Handle(device.PathPage, page)
	mux.Handle(device.PathPage+"/", page)
}

func (s *site) login(_ context.Context, name, password, remote string) (*device.Person, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.logins++
	s.remote = remote
	switch {
	case name == s.person.Username && password == alicePassword:
		who := s.person
		return &who, nil
	case name == "broken":
		return nil, errAway
	case s.locked > 0:
		return nil, &device.LockedOut{RetryAfter: s.locked}
	}
	return nil, device.ErrCredentials
}

func (s *site) lock(d time.Duration) { s.mu.Lock(); s.locked = d; s.mu.Unlock() }

// started is what a device holds.
type started struct {
	DeviceCode string `json:"device_code"`
	UserCode   string `json:"user_code"`
	Page       string `json:"verification_uri"`
	Complete   string `json:"verification_uri_complete"`
	ExpiresIn  int    `json:"expires_in"`
	Interval   int    `json:"interval"`
}

// begin does what a device does first.
func (s *site) begin(params ...string) started {
	s.t.Helper()
	form := url.Values{"client_id": {"stella-cli"}}
	for i := 0; i < len(params); i += 2 {
		form.Set(params[i], params[i+1])
	}
	a := s.visitor().post(device.PathAuthorization, form)
	var d started
	if err := json.Unmarshal([]byte(a.body), &d); err != nil || a.status != 200 {
		s.t.Fatalf("%d %s", a.status, a.body)
	}
	return d
}

func (s *site) check(d started) (*device.Approval, error) {
	return s.codes.Check(s.t.Context(), d.DeviceCode, "stella-cli")
}

// visitor is a browser as far as HTTP goes. It does not follow redirects.
type visitor struct {
	s      *site
	client *http.Client
	header http.Header
}

type answer struct {
	status int
	header http.Header
	body   string
}

func (s *site) visitor() *visitor {
	jar, err := cookiejar.New(nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return &visitor{s, &http.Client{
		Jar: jar, Timeout: 20 * time.Second, Transport: &http.Transport{TLSClientConfig: s.tls},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, http.Header{"Sec-Fetch-Site": {"same-origin"}}}
}

func (v *visitor) do(method, path string, form url.Values) answer {
	v.s.t.Helper()
	req, err := http.NewRequestWithContext(v.s.t.Context(), method, v.s.url+path, strings.NewReader(form.Encode()))
	if err != nil {
		v.s.t.Fatal(err)
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for name, values := range v.header {
		req.Header[name] = values
	}
	resp, err := v.client.Do(req)
	if err != nil {
		v.s.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		v.s.t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(body)}
}

func (v *visitor) get(path string) answer { v.s.t.Helper(); return v.do("GET", path, nil) }
func (v *visitor) post(path string, form url.Values) answer {
	v.s.t.Helper()
	return v.do("POST", path, form)
}

var tokenField = regexp.MustCompile(`name="token" value="([^"]+)"`)

// token returns what the forms of the page at path carry.
func (v *visitor) token(path string) string {
	v.s.t.Helper()
	a := v.get(path)
	m := tokenField.FindStringSubmatch(a.body)
	if m == nil {
		v.s.t.Fatalf("%s: no form: %d %s", path, a.status, a.body)
	}
	return m[1]
}

// at is the path of a step for a code.
func at(step string, d started) string { return "/device" + step + "?user_code=" + d.UserCode }

// enter enters a code.
func (v *visitor) enter(d started) answer {
	v.s.t.Helper()
	return v.post("/device", url.Values{"token": {v.token("/device")}, "user_code": {d.UserCode}})
}

// signIn signs in for an entered code.
func (v *visitor) signIn(d started, name, password string) answer {
	v.s.t.Helper()
	return v.post("/device/sign-in", url.Values{
		"token": {v.token(at("/sign-in", d))}, "user_code": {d.UserCode}, "username": {name}, "password": {password},
	})
}

// decide approves or denies.
func (v *visitor) decide(d started, verdict, tenant string) answer {
	v.s.t.Helper()
	return v.post("/device/consent", url.Values{
		"token": {v.token(at("/consent", d))}, "user_code": {d.UserCode}, "decision": {verdict}, "tenant": {tenant},
	})
}

// signedIn is a visitor who may decide about d.
func (s *site) signedIn(d started) *visitor {
	s.t.Helper()
	v := s.visitor()
	v.enter(d)
	if a := v.signIn(d, "alice", alicePassword); a.status != 303 || a.header.Get("Location") != at("/consent", d) {
		s.t.Fatalf("%d %s %s", a.status, a.header.Get("Location"), a.body)
	}
	return v
}
