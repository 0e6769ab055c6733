package authority_test

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/authority"
	"github.com/stella-ops/stella/internal/authority/guard"
	"github.com/stella-ops/stella/internal/authority/store/mem"
	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/jose/dpop"
	"github.com/stella-ops/stella/internal/keyring"
	"github.com/stella-ops/stella/internal/testenv"
)

// quick makes a key mature within about a second.
const quick = `, jwksCacheLifetime: "00:00:01", clockSkew: "00:00:00", signLease: "00:00:00.5"`

func (r *replica) report() *keyring.Report {
	r.t.Helper()
	a := r.do("GET", keyring.PathKeyring, boot(), nil)
	var rep keyring.Report
	if err := json.Unmarshal(a.body, &rep); err != nil || a.status != 200 || rep.Schema != keyring.SchemaReport {
		r.t.Fatalf("report: %d %s", a.status, a.body)
	}
	return &rep
}

func (r *replica) change(req keyring.Request) answer {
	r.t.Helper()
	body, err := json.Marshal(req)
	if err != nil {
		r.t.Fatal(err)
	}
	return r.do("POST", keyring.PathTransitions, boot(), body)
}

func (r *replica) kids() []string {
	r.t.Helper()
	set, err := jose.ParseSet(r.do("GET", "/jwks", nil, nil).body)
	if err != nil {
		r.t.Fatal(err)
	}
	var kids []string
	for _, k := range set.Keys {
		kids = append(kids, k.KeyID)
	}
	return kids
}

func state(rep *keyring.Report, s keyring.State) string {
	for _, k := range rep.Keys {
		if k.State == s {
			return k.KID
		}
	}
	return ""
}

func TestKeySet(t *testing.T) {
	r := single(t, nil)
	a := r.do("GET", "/jwks", nil, nil)
	b := r.do("GET", "/.well-known/jwks.json", nil, nil)
	if a.status != 200 || string(a.body) != string(b.body) || a.header.Get("ETag") != b.header.Get("ETag") {
		t.Fatalf("two sets: %s %s", a.body, b.body)
	}
	if cc := a.header.Get("Cache-Control"); cc != "public, max-age=300, must-revalidate" {
		t.Errorf("Cache-Control %q", cc)
	}
	not := r.do("GET", "/jwks", http.Header{"If-None-Match": {a.header.Get("ETag")}}, nil)
	if not.status != 304 || len(not.body) != 0 || not.header.Get("ETag") == "" {
		t.Errorf("304: %d %q", not.status, not.body)
	}
	if h := r.do("HEAD", "/jwks", nil, nil); h.status != 200 || len(h.body) != 0 || h.header.Get("ETag") != a.header.Get("ETag") {
		t.Errorf("HEAD: %d %v", h.status, h.header)
	}
	if strings.Contains(string(a.body), `"d"`) || len(r.kids()) != 2 {
		t.Errorf("set %s", a.body)
	}
}

func TestTransitions(t *testing.T) {
	s := newSite(t)
	r := s.start("a", s.config("a", "https://127.0.0.1:0", memory, quick, ""), authority.Deps{Store: mem.New(0)})
	rep := r.report()
	first, standby := state(rep, keyring.Active), state(rep, keyring.Published)
	early := r.change(keyring.Request{Action: keyring.Activate})
	var p keyring.Problem
	if err := json.Unmarshal(early.body, &p); err != nil || early.status != 409 || p.Error.Code != "order" || p.Error.Earliest.IsZero() || p.Error.Next == "" || p.Error.TraceID == "" {
		t.Fatalf("early: %d %s", early.status, early.body)
	}
	if a := r.change(keyring.Request{Action: keyring.Stage, ExpectVersion: 99}); a.status != 412 || a.field("error") != "conflict" {
		t.Errorf("conflict: %d %s", a.status, a.body)
	}
	if a := r.change(keyring.Request{Action: keyring.Revoke, KID: "none", Reason: "x"}); a.status != 404 {
		t.Errorf("unknown key: %d %s", a.status, a.body)
	}
	for name, req := range map[string]keyring.Request{
		"unknown action": {Action: "burn"}, "no reason": {Action: keyring.Taint, KID: first},
		"outage": {Action: keyring.Activate, Outage: true}, "init": {Action: keyring.Init},
	} {
		if a := r.change(req); a.status != 400 || a.field("error") != "invalid" {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	if a := r.do("POST", keyring.PathTransitions, boot(), []byte(`{"action":"stage","action":"stage"}`)); a.status != 400 {
		t.Errorf("duplicate member: %d", a.status)
	}
	if a := r.do("POST", keyring.PathTransitions, http.Header{"Content-Type": {"application/json"}}, []byte(`{"action":"stage"}`)); a.status != 401 ||
		len(a.header.Values("WWW-Authenticate")) != 2 {
		t.Errorf("nobody: %d %v", a.status, a.header)
	}
	dry := r.change(keyring.Request{Action: keyring.Stage, DryRun: true})
	if dry.status != 200 || r.report().Version != rep.Version {
		t.Errorf("dry run: %d %s", dry.status, dry.body)
	}
	eventually(t, "activation is allowed", func() bool { return r.change(keyring.Request{Action: keyring.Activate}).status == 200 })
	rep = r.report()
	if state(rep, keyring.Active) != standby || state(rep, keyring.Retiring) != first {
		t.Fatalf("after activate: %+v", rep.Keys)
	}
	history := r.do("GET", keyring.PathHistory, boot(), nil)
	if lines := strings.Split(strings.TrimSpace(string(history.body)), "\n"); history.status != 200 || len(lines) != 2*int(rep.Version) {
		t.Errorf("history of %d lines at version %d", len(lines), rep.Version)
	}
}

func TestLiveCounts(t *testing.T) {
	r := single(t, nil)
	secret := r.client(standard("svc"))
	for range 3 {
		r.token("svc", secret, newProver(t))
	}
	rep := r.report()
	if len(rep.Live) != 1 || rep.Live[0].Tokens != 3 || rep.Live[0].KID != state(rep, keyring.Active) || rep.LiveAsOf.IsZero() {
		t.Fatalf("live %+v", rep.Live)
	}
}

// A required vantage point blocks until it has been seen to serve the key.
func TestVantageGate(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	points := quick + `, vantagePoints: [{name: edge, url: "https://edge.example/jwks"}]`
	r := s.start("a", s.config("a", "https://127.0.0.1:0", memory, points, ""), authority.Deps{Store: mem.New(0)})
	rep := r.report()
	if len(rep.Vantage) != 1 || !rep.Vantage[0].Required || !rep.Vantage[0].LastSeen.IsZero() {
		t.Fatalf("vantage %+v", rep.Vantage)
	}
	standby := state(rep, keyring.Published)
	observe := func(name, url string, kids ...string) answer {
		body, err := json.Marshal(keyring.Observations{Observations: []keyring.Observation{{Name: name, URL: url, KIDs: kids}}})
		if err != nil {
			t.Fatal(err)
		}
		return r.do("POST", keyring.PathObservations, boot(), body)
	}
	a := r.change(keyring.Request{Action: keyring.Activate})
	if a.status != 409 || !strings.Contains(string(a.body), `"lagging":["edge"]`) {
		t.Fatalf("unseen: %d %s", a.status, a.body)
	}
	if a := observe("edge", "https://elsewhere.example/jwks", standby); a.status != 400 {
		t.Errorf("another URL: %d %s", a.status, a.body)
	}
	if a := observe("lagging", "https://lagging.example/jwks", state(rep, keyring.Active)); a.status != 204 {
		t.Fatalf("observe: %d %s", a.status, a.body)
	}
	eventually(t, "only the reported point lags", func() bool {
		observe("edge", "https://edge.example/jwks", standby)
		a := r.change(keyring.Request{Action: keyring.Activate})
		return a.status == 409 && strings.Contains(string(a.body), `"lagging":["lagging"]`)
	})
	if a := r.do("DELETE", keyring.PathObservations+"?name=edge", boot(), nil); a.status != 400 {
		t.Errorf("forgetting a required point: %d %s", a.status, a.body)
	}
	if a := r.do("DELETE", keyring.PathObservations+"?name=lagging", boot(), nil); a.status != 204 {
		t.Errorf("forgetting: %d %s", a.status, a.body)
	}
	eventually(t, "activation", func() bool {
		observe("edge", "https://edge.example/jwks", standby)
		return r.change(keyring.Request{Action: keyring.Activate}).status == 200
	})
}

// The lifecycle API with access tokens: P01, P02, P15, P16, P18, P25.
func TestOperatorTokens(t *testing.T) {
	r := single(t, nil)
	doc := standard("ops")
	doc.Scopes, doc.Audiences = []string{keyring.ScopeRead}, []string{guard.Audience, "api://jobs"}
	secret := r.client(doc)
	p := newProver(t)
	get := func(aud string) string {
		q := r.request("ops", secret, p)
		q.form.Set("audience", aud)
		return r.send(q).field("access_token")
	}
	token := get(guard.Audience)
	path := keyring.PathKeyring
	proof := func(p *dpop.Prover, method, at string) string {
		text, err := p.Proof(method, r.issuer+path, dpop.ProofOptions{AccessToken: at})
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	call := func(scheme, token string, proofs ...string) answer {
		return r.do("GET", path, http.Header{"Authorization": {scheme + " " + token}, "Dpop": proofs}, nil)
	}
	once := proof(p, "GET", token)
	rows := []struct {
		id     string
		a      answer
		status int
		code   string
	}{
		{"control", call("DPoP", token, once), 200, ""},
		{"scheme case", call("dpop", token, proof(p, "GET", token)), 200, ""},
		{"P18 replay", call("DPoP", token, once), 401, "invalid_dpop_proof"},
		{"P01", call("DPoP", token), 401, "invalid_dpop_proof"},
		{"P02", call("Bearer", token), 401, "invalid_token"},
		{"P03", call("DPoP", token, proof(p, "GET", token), proof(p, "GET", token)), 401, "invalid_dpop_proof"},
		{"P11", call("DPoP", token, proof(p, "POST", token)), 401, "invalid_dpop_proof"},
		{"P15", call("DPoP", token, proof(p, "GET", "")), 401, "invalid_dpop_proof"},
		{"P16", call("DPoP", token, proof(p, "GET", token+"x")), 401, "invalid_dpop_proof"},
		{"P25", call("DPoP", token, proof(newProver(t), "GET", token)), 401, "invalid_token"},
		{"T03", call("DPoP", token[:len(token)-6]+"AAAAAA", proof(p, "GET", token)), 401, "invalid_token"},
		{"T20", func() answer { at := get("api://jobs"); return call("DPoP", at, proof(p, "GET", at)) }(), 401, "invalid_token"},
		{"T28", call("DPoP ", token, proof(p, "GET", token)), 401, "invalid_token"},
	}
	for _, row := range rows {
		ok := row.a.status == row.status
		if row.code != "" {
			ok = ok && strings.Contains(strings.Join(row.a.header.Values("WWW-Authenticate"), ","), `error="`+row.code+`"`)
		}
		if !ok {
			t.Errorf("%s: %d %s %v", row.id, row.a.status, row.a.body, row.a.header)
		}
	}
	path = keyring.PathTransitions
	h := http.Header{"Authorization": {"DPoP " + token}, "Dpop": {proof(p, "POST", token)}, "Content-Type": {"application/json"}}
	if a := r.do("POST", path, h, []byte(`{"action":"stage"}`)); a.status != 403 || a.field("error") != "denied" {
		t.Errorf("T29 read scope: %d %s", a.status, a.body)
	}
}

func TestUpstreamRotate(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	r := s.start("a", s.config("a", "https://127.0.0.1:0", memory, quick, ""), authority.Deps{Store: mem.New(0)})
	first := state(r.report(), keyring.Active)
	key := newECKey(t)
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	s.write("import/new.pem", string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})))
	rotate := func(body string) answer { return r.do("POST", keyring.PathUpstream, boot(), []byte(body)) }
	for name, body := range map[string]string{
		"no id": `{}`, "bad id": `{"keyId":"../x"}`, "outside": `{"keyId":"k","location":"../../../../etc/passwd"}`,
		"absent": `{"keyId":"k","location":"../import/absent.pem"}`, "source": `{"keyId":"k","source":"kms"}`,
		"force without reason": `{"keyId":"k","force":true}`, "not JSON": `keyId=k`,
	} {
		if a := rotate(body); a.status != 400 {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	if a := r.do("POST", keyring.PathUpstream, http.Header{"Content-Type": {"application/json"}}, []byte(`{"keyId":"k"}`)); a.status != 401 {
		t.Errorf("no key: %d", a.status)
	}
	body := `{"keyId":"authority-signing-2026","location":"../import/new.pem","source":"file","metadata":{"ticket":"OPS-1"}}`
	for range 2 { // the second call goes on where the first ended
		a := rotate(body)
		if a.status != 202 || a.field("activeKeyId") != first || a.field("scheduledKeyId") != "authority-signing-2026" || a.field("activateAt") == "" {
			t.Fatalf("%d %s", a.status, a.body)
		}
	}
	if !slices.Contains(r.kids(), "authority-signing-2026") {
		t.Fatalf("not published: %v", r.kids())
	}
	eventually(t, "the schedule activates it", func() bool { return state(r.report(), keyring.Active) == "authority-signing-2026" })
	if a := rotate(body); a.status != 409 {
		t.Errorf("a kid used twice: %d %s", a.status, a.body)
	}
	a := rotate(`{"keyId":"forced","force":true,"reason":"drill"}`)
	if a.status != 200 || a.field("activeKeyId") != "forced" || a.field("previousKeyId") != "authority-signing-2026" {
		t.Errorf("forced: %d %s", a.status, a.body)
	}
}

// Two replicas on one database and one key directory behave as one.
func TestTwoReplicas(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	uri, database := testenv.Mongo(t)
	storage := fmt.Sprintf("connectionString: %q, databaseName: %s", uri, database)
	const issuer = "https://authority.example"
	a := s.start("a", s.config("a", issuer, storage, quick, ""), authority.Deps{})
	b := s.start("b", s.config("b", issuer, storage, quick, ""), authority.Deps{})
	secret := a.client(standard("svc"))
	if got, want := b.kids(), a.kids(); !slices.Equal(got, want) {
		t.Fatalf("sets differ: %v %v", got, want)
	}
	p := newProver(t)
	b.token("svc", secret, p)
	// P21: a proof used at one replica is used at the other; a nonce of one
	// is good at the other.
	q := a.request("svc", secret, p)
	if r := b.send(q); r.status != 200 {
		t.Fatalf("nonce of the other replica: %d %s", r.status, r.body)
	}
	refused(t, a.send(q), 400, "invalid_dpop_proof")

	eventually(t, "activation at a", func() bool { return a.change(keyring.Request{Action: keyring.Activate}).status == 200 })
	active := state(a.report(), keyring.Active)
	eventually(t, "b signs with the new key", func() bool {
		return part(t, b.token("svc", secret, newProver(t)), 0)["kid"] == active
	})
	a.token("svc", secret, newProver(t))
	var sum int64
	eventually(t, "counts of both replicas", func() bool {
		sum = 0
		for _, l := range a.report().Live {
			sum += l.Tokens
		}
		return sum >= 4
	})
	b.stop()
	if rep := a.report(); rep.Replica != "a" || len(rep.Live) != 2 {
		t.Errorf("after b stopped: %+v", rep.Live)
	}
}

// H09: no cached key set may outlive the moment of a scheduled activation.
func TestMaxAgeFollowsTheSchedule(t *testing.T) {
	s := newSite(t)
	r := s.start("a", s.config("a", "https://127.0.0.1:0", memory, `, jwksCacheLifetime: "00:05:00"`, ""), authority.Deps{Store: mem.New(0)})
	standby := state(r.report(), keyring.Published)
	at := time.Now().Add(6 * time.Minute)
	if a := r.change(keyring.Request{Action: keyring.Schedule, KID: standby, ActivateAt: at}); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	var age int
	if _, err := fmt.Sscanf(r.do("GET", "/jwks", nil, nil).header.Get("Cache-Control"), "public, max-age=%d,", &age); err != nil || age <= 0 || age > 300 {
		t.Errorf("max-age %d %v", age, err)
	}
}
