package authority_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/authority"
	"github.com/stella-ops/stella/internal/authority/clients"
	"github.com/stella-ops/stella/internal/authority/store"
	"github.com/stella-ops/stella/internal/authority/store/mem"
	"github.com/stella-ops/stella/internal/jose/dpop"
	"github.com/stella-ops/stella/internal/testenv"
)

const bootstrapKey = "a bootstrap key for tests only"

// site is what the replicas of one Authority share.
type site struct {
	t       testing.TB
	ca      *testenv.CA
	dir     string
	limited bool // rate limits hold; else they are off
}

// environ is what replicas of the site are started with.
func (s *site) environ() []string {
	if s.limited {
		return nil
	}
	return []string{
		"STELLAOPS_AUTHORITY__SECURITY__RATELIMITING__TOKEN__ENABLED=false",
		"STELLAOPS_AUTHORITY__SECURITY__RATELIMITING__AUTHORIZE__ENABLED=false",
	}
}

func newSite(t testing.TB) *site {
	t.Helper()
	s := &site{t: t, dir: t.TempDir()}
	var err error
	if s.ca, err = testenv.NewCA(s.dir); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"keys", "import"} {
		if err := os.Mkdir(filepath.Join(s.dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	s.write("bootstrap", bootstrapKey+"\n")
	return s
}

func (s *site) write(name, text string) string {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// config is a YAML file for a replica; extra lines replace or follow.
func (s *site) config(name, issuer, storage, signing, extra string) string {
	s.t.Helper()
	cert, key, err := s.ca.Issue(name)
	if err != nil {
		s.t.Fatal(err)
	}
	return fmt.Sprintf(`schemaVersion: 1
issuer: %s
listen: 127.0.0.1:0
replica: %s
tls: {certificate: %s, key: %s}
admin: {listen: "127.0.0.1:0"}
storage: {%s}
signing: {keyDirectory: %s, createIfMissing: true, pollInterval: "00:00:00.05"%s}
bootstrap: {apiKey: "file:%s"}
%s`, issuer, name, cert, key, storage, filepath.Join(s.dir, "keys"), signing, filepath.Join(s.dir, "bootstrap"), extra)
}

// replica is one running Authority and a client of it.
type replica struct {
	t      testing.TB
	srv    *authority.Server
	url    string
	issuer string
	http   *http.Client
	stop   func()
}

const memory = `connectionString: memory, acceptDataLoss: true`

// start runs a replica until the test ends or stop is called.
func (s *site) start(name, yaml string, deps authority.Deps) *replica {
	s.t.Helper()
	r := s.begin(name, yaml, deps)
	r.ready()
	return r
}

// begin is start of a replica that may not become ready.
func (s *site) begin(name, yaml string, deps authority.Deps) *replica {
	s.t.Helper()
	cfg, err := authority.ParseConfig(name+".yaml", []byte(yaml), s.environ())
	if err != nil {
		s.t.Fatal(err)
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	srv, err := authority.New(cfg, deps)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	if err := srv.Listen(ctx); err != nil {
		cancel()
		s.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- srv.Run(ctx) }()
	r := &replica{t: s.t, srv: srv, url: srv.URL(), issuer: srv.Issuer(), http: s.ca.Client()}
	stopped := false
	r.stop = func() {
		if stopped {
			return
		}
		stopped = true
		r.http.CloseIdleConnections()
		cancel()
		if err := <-ended; err != nil {
			s.t.Errorf("replica %s: %v", name, err)
		}
	}
	s.t.Cleanup(r.stop)
	return r
}

// single is one replica with a store in memory.
func single(t testing.TB, st store.Store) *replica {
	t.Helper()
	s := newSite(t)
	if st == nil {
		st = mem.New(0)
	}
	return s.start("a", s.config("a", "https://127.0.0.1:0", memory, "", ""), authority.Deps{Store: st})
}

// ready waits until /ready says so.
func (r *replica) ready() {
	r.t.Helper()
	eventually(r.t, "replica is ready", func() bool { return r.do("GET", "/ready", nil, nil).status == 200 })
}

// eventually polls until ok.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("timed out: %s", what)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// answer is a whole HTTP answer.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a answer) field(name string) string {
	var m map[string]any
	_ = json.Unmarshal(a.body, &m)
	if e, ok := m["error"].(map[string]any); ok && name == "error" {
		return fmt.Sprint(e["code"])
	}
	if v, ok := m[name]; ok {
		return fmt.Sprint(v)
	}
	return ""
}

// do sends one request to the replica.
func (r *replica) do(method, path string, header http.Header, body []byte) answer {
	r.t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, r.url+path, bytes.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	for k, v := range header {
		req.Header[k] = v
	}
	resp, err := r.http.Do(req)
	if err != nil {
		return answer{header: http.Header{}, body: []byte(err.Error())}
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, data}
}

func boot() http.Header {
	return http.Header{"Content-Type": {"application/json"}, "X-Stellaops-Bootstrap-Key": {bootstrapKey}}
}

// client registers a client and returns its secret.
func (r *replica) client(doc clients.Document) string {
	r.t.Helper()
	body, err := json.Marshal(doc)
	if err != nil {
		r.t.Fatal(err)
	}
	a := r.do("POST", "/internal/clients", boot(), body)
	if a.status != 201 && a.status != 200 {
		r.t.Fatalf("registering %s: %d %s", doc.ClientID, a.status, a.body)
	}
	return a.field("client_secret")
}

func standard(id string) clients.Document {
	return clients.Document{
		ClientID: id, Scopes: []string{"jobs.read", "jobs.trigger"}, Audiences: []string{"api://jobs"}, Tenant: "acme",
	}
}

func newProver(t testing.TB) *dpop.Prover {
	t.Helper()
	p, err := dpop.NewProver(newECKey(t))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func newECKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// nonce asks the token endpoint for a nonce.
func (r *replica) nonce() string {
	r.t.Helper()
	n := r.do("POST", "/token", nil, nil).header.Get("DPoP-Nonce")
	if n == "" {
		r.t.Fatal("no DPoP-Nonce")
	}
	return n
}

// tokenRequest is a token request that a test may bend.
type tokenRequest struct {
	method, path string
	header       http.Header
	form         url.Values
	body         string // instead of form
}

// request makes a good request: Basic and a DPoP proof with a fresh nonce.
func (r *replica) request(id, secret string, p *dpop.Prover) *tokenRequest {
	r.t.Helper()
	q := &tokenRequest{method: "POST", path: "/token", header: http.Header{}, form: url.Values{}}
	q.header.Set("Content-Type", "application/x-www-form-urlencoded")
	q.form.Set("grant_type", "client_credentials")
	q.basic(id, secret)
	if p != nil {
		proof, err := p.Proof("POST", r.issuer+"/token", dpop.ProofOptions{Nonce: r.nonce()})
		if err != nil {
			r.t.Fatal(err)
		}
		q.header.Set("DPoP", proof)
	}
	return q
}

func (q *tokenRequest) basic(id, secret string) {
	req := http.Request{Header: q.header}
	req.SetBasicAuth(url.QueryEscape(id), url.QueryEscape(secret))
}

func (r *replica) send(q *tokenRequest) answer {
	r.t.Helper()
	body := q.body
	if body == "" {
		body = q.form.Encode()
	}
	return r.do(q.method, q.path, q.header, []byte(body))
}

// token gets a token or fails the test.
func (r *replica) token(id, secret string, p *dpop.Prover) string {
	r.t.Helper()
	a := r.send(r.request(id, secret, p))
	if a.status != 200 {
		r.t.Fatalf("token for %s: %d %s", id, a.status, a.body)
	}
	return a.field("access_token")
}

// part decodes part n of a JWT.
func part(t testing.TB, token string, n int) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(decode64(t, strings.Split(token, ".")[n]), &m); err != nil {
		t.Fatal(err)
	}
	return m
}
