package oauth

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/jose/dpop"
	"github.com/stella-ops/stella/internal/secret"
)

const (
	testClient = "ops:cli/1"
	testSecret = "p%ss wörd+&="
)

// fakeAuthority is a small honest Authority over TLS. Each field bends one
// thing; the zero value bends none.
type fakeAuthority struct {
	t   *testing.T
	srv *httptest.Server
	key *jose.Signer

	mu       sync.Mutex
	tokens   []url.Values // forms of granted token requests
	asked    int          // token requests of any outcome
	revoked  []string
	requests map[string]int // by path
	proofs   map[string]bool

	issuer   string // discovery names this one instead
	metadata func(m map[string]any)
	nonce    string // demanded where not empty
	token    func(w http.ResponseWriter, r *http.Request) bool
	response func(m map[string]any)
	claims   func(m map[string]any)
	life     time.Duration
	down     bool // 503 everywhere
	date     time.Time
	clock    func() time.Time // nil: time.Now
	device   fakeDevice
}

func (f *fakeAuthority) now() time.Time {
	if f.clock != nil {
		return f.clock()
	}
	return time.Now()
}

func (f *fakeAuthority) askedNow() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asked
}

func (f *fakeAuthority) forms() []url.Values {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.tokens)
}

func newFake(t *testing.T) *fakeAuthority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := jose.NewSigner(key, jose.ES256, "k1")
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeAuthority{t: t, key: signer, life: 2 * time.Minute, requests: map[string]int{}, proofs: map[string]bool{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", f.discovery)
	mux.HandleFunc("GET /keys", f.jwks)
	mux.HandleFunc("POST /connect/token", f.tokenEndpoint)
	mux.HandleFunc("POST /revoke", f.revoke)
	mux.HandleFunc("POST /device", f.deviceEndpoint)
	mux.HandleFunc("/resource", f.resource)
	f.srv = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		f.requests[r.URL.Path]++
		down, date := f.down, f.date
		f.mu.Unlock()
		if !date.IsZero() {
			w.Header().Set("Date", date.UTC().Format(http.TimeFormat))
		}
		if down {
			http.Error(w, "down", http.StatusServiceUnavailable)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	f.srv.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	f.srv.StartTLS()
	t.Cleanup(f.srv.Close)
	return f
}

func (f *fakeAuthority) discovery(w http.ResponseWriter, _ *http.Request) {
	m := map[string]any{
		"issuer": f.srv.URL, "token_endpoint": f.srv.URL + "/connect/token", "jwks_uri": f.srv.URL + "/keys",
		"revocation_endpoint": f.srv.URL + "/revoke", "grant_types_supported": []string{grantClient, grantRefresh, grantDevice},
		"device_authorization_endpoint":         f.srv.URL + "/device",
		"token_endpoint_auth_methods_supported": []string{"client_secret_basic", "private_key_jwt", "tls_client_auth", "none"},
		"dpop_signing_alg_values_supported":     []string{"ES256", "EdDSA"}, "x_unknown": map[string]any{"a": 1},
	}
	if f.issuer != "" {
		m["issuer"] = f.issuer
	}
	if f.metadata != nil {
		f.metadata(m)
	}
	writeJSON(w, 200, m)
}

func (f *fakeAuthority) jwks(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Cache-Control", "max-age=300")
	writeJSON(w, 200, jose.Set{Keys: []jose.Key{f.key.Key()}})
}

func (f *fakeAuthority) revoke(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.revoked = append(f.revoked, r.PostFormValue("token"))
	w.WriteHeader(200)
}

func (f *fakeAuthority) tokenEndpoint(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.asked++
	f.mu.Unlock()
	if f.token != nil && f.token(w, r) {
		return
	}
	body, _ := io.ReadAll(r.Body)
	form, err := url.ParseQuery(string(body))
	person := form.Get("grant_type") == grantDevice || form.Get("grant_type") == grantRefresh
	if err != nil || form.Get("grant_type") != "client_credentials" && !person {
		writeJSON(w, 400, map[string]any{"error": "invalid_request"})
		return
	}
	known := basicOK(r) || form.Get("client_assertion") != "" || form.Get("client_id") == testClient && (person || f.presented(r) != "")
	if !known {
		writeJSON(w, 401, map[string]any{"error": "invalid_client", "error_description": "who?"})
		return
	}
	jkt := ""
	if values := r.Header.Values("DPoP"); len(values) > 0 {
		if jkt = f.checkProof(w, r, values, ""); jkt == "" {
			return
		}
	}
	if person && !f.device.grant(w, form, jkt) {
		return
	}
	f.mu.Lock()
	f.tokens = append(f.tokens, form)
	f.mu.Unlock()
	m := f.tokenResponse(form, jkt, f.presented(r))
	if person {
		m["refresh_token"], m["refresh_token_expires_in"] = f.device.rotate(jkt), 3600
		if f.device.bend != nil {
			f.device.bend(m)
		}
	}
	writeJSON(w, 200, m)
}

func basicOK(r *http.Request) bool {
	id, pw, ok := r.BasicAuth()
	return ok && id == url.QueryEscape(testClient) && pw == url.QueryEscape(testSecret)
}

// checkProof answers and returns "" when the proof does not do.
func (f *fakeAuthority) checkProof(w http.ResponseWriter, r *http.Request, values []string, token string) string {
	p, err := dpop.Verify(values, dpop.Check{Method: r.Method, URL: f.srv.URL + r.URL.Path, Now: f.now(), AccessToken: token})
	if err != nil {
		writeJSON(w, 400, map[string]any{"error": "invalid_dpop_proof", "error_description": err.Error()})
		return ""
	}
	f.mu.Lock()
	replay := f.proofs[p.ReplayKey]
	f.proofs[p.ReplayKey] = true
	f.mu.Unlock()
	if replay {
		f.t.Error("a proof was used twice")
	}
	if f.nonce != "" && !strings.Contains(proofPayload(values[0]), `"nonce":"`+f.nonce+`"`) {
		w.Header().Set("DPoP-Nonce", f.nonce)
		w.Header().Set("WWW-Authenticate", `DPoP error="use_dpop_nonce"`)
		status := 400
		if token != "" {
			status = 401
		}
		writeJSON(w, status, map[string]any{"error": "use_dpop_nonce"})
		return ""
	}
	return p.JKT
}

func proofPayload(compact string) string {
	j, err := jose.Parse(compact, jose.Rules{Algs: []jose.Alg{jose.ES256}, AllowJWK: true})
	if err != nil {
		return ""
	}
	return string(j.UnverifiedPayload())
}

func (f *fakeAuthority) tokenResponse(form url.Values, jkt, x5t string) map[string]any {
	now := f.now()
	claims := map[string]any{
		"iss": f.srv.URL, "sub": testClient, "client_id": testClient, "aud": form.Get("audience"), "jti": rand.Text(),
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(f.life).Unix(), "scope": form.Get("scope"),
	}
	m := map[string]any{"token_type": "Bearer", "expires_in": int(f.life.Seconds()), "scope": form.Get("scope"), "x_more": true}
	if jkt != "" {
		m["token_type"] = "DPoP"
		claims["cnf"] = map[string]any{"jkt": jkt}
	}
	if x5t != "" {
		claims["cnf"] = map[string]any{"x5t#S256": x5t}
	}
	if f.claims != nil {
		f.claims(claims)
	}
	payload, _ := json.Marshal(claims)
	token, err := f.key.Sign(map[string]any{"typ": "at+jwt"}, payload)
	if err != nil {
		f.t.Error(err)
	}
	m["access_token"] = token
	if f.response != nil {
		f.response(m)
	}
	return m
}

// resource answers with the body that it got.
func (f *fakeAuthority) resource(w http.ResponseWriter, r *http.Request) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	f.mu.Lock()
	gone := slices.Contains(f.revoked, token)
	f.mu.Unlock()
	if gone {
		w.Header().Set("WWW-Authenticate", `DPoP error="invalid_token"`)
		writeJSON(w, 401, map[string]any{"error": "invalid_token"})
		return
	}
	if scheme == "DPoP" && f.checkProof(w, r, r.Header.Values("DPoP"), token) == "" {
		return
	}
	body, _ := io.ReadAll(r.Body)
	w.Header().Set("X-Scheme", scheme)
	w.Header().Set("X-Certificate", f.presented(r))
	_, _ = w.Write(body)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

// config returns a Config for f that never waits between attempts.
func (f *fakeAuthority) config() Config {
	return Config{
		Issuer: f.srv.URL, ClientID: testClient, Scopes: []string{"b.read", "a.read"}, Audience: "signer", Tenant: "acme",
		Credential:  SecretBasic(func() (secret.Bytes, error) { return secret.New([]byte(testSecret)), nil }),
		HTTP:        f.srv.Client(),
		RetryDelays: []time.Duration{0, 0, 0},
	}
}

func (f *fakeAuthority) set(bend func(f *fakeAuthority)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	bend(f)
}

func (f *fakeAuthority) count(path string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.requests[path]
}

func mustNew(t *testing.T, cfg Config) *Client {
	t.Helper()
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// recorder keeps events.
type recorder struct {
	mu     sync.Mutex
	events []Event
}

func (r *recorder) add(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

// texts returns the messages of one kind of event.
func (r *recorder) texts(k EventKind) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, e := range r.events {
		if e.Kind == k {
			out = append(out, e.Message)
		}
	}
	return strings.Join(out, "\n")
}
