package authority_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/authority"
	"github.com/stella-ops/stella/internal/authority/clients"
	"github.com/stella-ops/stella/internal/authority/guard"
	"github.com/stella-ops/stella/internal/authority/store/mem"
	"github.com/stella-ops/stella/internal/jose/dpop"
	"github.com/stella-ops/stella/internal/keyring"
)

// takeIn takes a key in under kid and returns it.
func (s *site) takeIn(r *replica, kid string, force bool) *ecdsa.PrivateKey {
	s.t.Helper()
	key := newECKey(s.t)
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		s.t.Fatal(err)
	}
	s.write("import/"+kid+".pem", string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})))
	body := fmt.Sprintf(`{"keyId":%q,"location":"../import/%s.pem","force":%t,"reason":"test"}`, kid, kid, force)
	if a := r.do("POST", keyring.PathUpstream, boot(), []byte(body)); a.status/100 != 2 {
		s.t.Fatalf("taking in %s: %d %s", kid, a.status, a.body)
	}
	return key
}

// Who has the private key of a tainted key, or of one that has not signed yet,
// cannot drive the keyring with it.
func TestForgedTokens(t *testing.T) {
	s := newSite(t)
	r := s.start("a", s.config("a", "https://127.0.0.1:0", memory, "", ""), authority.Deps{Store: mem.New(0)})
	call := func(kid string, key *ecdsa.PrivateKey) int {
		now := time.Now().Unix()
		token := rawJWS(t, map[string]any{"typ": "at+jwt", "alg": "ES256", "kid": kid}, map[string]any{
			"iss": r.issuer, "aud": guard.Audience, "sub": "x", "client_id": "x", "jti": jti(t), "iat": now, "nbf": now,
			"exp": now + 60, "scope": keyring.ScopeRead,
		}, key)
		return r.do("GET", keyring.PathKeyring, http.Header{"Authorization": {"Bearer " + token}}, nil).status
	}
	first := s.takeIn(r, "first", true)
	if got := call("first", first); got != 200 {
		t.Fatalf("control: active key: %d", got)
	}
	second := s.takeIn(r, "second", true)
	if got := call("first", first); got != 200 {
		t.Fatalf("control: retiring key: %d", got)
	}
	third := s.takeIn(r, "third", false)
	if got := call("third", third); got != 401 || !slices.Contains(r.kids(), "third") {
		t.Errorf("published key: %d %v", got, r.kids())
	}
	for kid, key := range map[string]*ecdsa.PrivateKey{"first": first, "second": second} {
		if a := r.change(keyring.Request{Action: keyring.Taint, KID: kid, Force: kid == "second", Reason: "stolen"}); a.status != 200 {
			t.Fatalf("taint %s: %d %s", kid, a.status, a.body)
		}
		if got := call(kid, key); got != 401 || !slices.Contains(r.kids(), kid) {
			t.Errorf("tainted key %s: %d %v", kid, got, r.kids())
		}
	}
}

// What was seen at an attacker's URL does not count at the configured one.
func TestVantageURLChange(t *testing.T) {
	s := newSite(t)
	st := mem.New(0)
	r := s.start("a", s.config("a", "https://127.0.0.1:0", memory, quick, ""), authority.Deps{Store: st})
	standby := state(r.report(), keyring.Published)
	since := func(r *replica, url string) time.Time {
		t.Helper()
		body, err := json.Marshal(keyring.Observations{Observations: []keyring.Observation{{Name: "edge", URL: url, KIDs: []string{standby}}}})
		if err != nil {
			t.Fatal(err)
		}
		if a := r.do("POST", keyring.PathObservations, boot(), body); a.status != 204 {
			t.Fatalf("observe: %d %s", a.status, a.body)
		}
		return r.report().Vantage[0].Since[standby]
	}
	early := since(r, "https://attacker.example/jwks")
	if again := since(r, "https://attacker.example/jwks"); early.IsZero() || !again.Equal(early) {
		t.Fatalf("control: %v, then %v", early, again)
	}
	r.stop()
	points := quick + `, vantagePoints: [{name: edge, url: "https://edge.example/jwks"}]`
	r = s.start("b", s.config("b", "https://127.0.0.1:0", memory, points, ""), authority.Deps{Store: st})
	if got := since(r, "https://edge.example/jwks"); !got.After(early) {
		t.Fatalf("first seen %v, at the attacker's URL %v", got, early)
	}
}

// logBuffer collects a log.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// line returns the first line that holds all of texts.
func (l *logBuffer) line(texts ...string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.b.String()) {
		if !slices.ContainsFunc(texts, func(s string) bool { return !strings.Contains(line, s) }) {
			return line
		}
	}
	return ""
}

// A client that is named like another kind of operator is not taken for it,
// in the history and in the log.
func TestOperatorsAreTold(t *testing.T) {
	s := newSite(t)
	log := &logBuffer{}
	r := s.start("a", s.config("a", "https://127.0.0.1:0", memory, "", ""), authority.Deps{
		Store: mem.New(0), Log: slog.New(slog.NewJSONHandler(log, nil)),
	})
	for _, id := range []string{guard.BootstrapOperator, "schedule", "client:ops"} {
		doc := clients.Document{ClientID: id, Scopes: []string{keyring.ScopeManage}, Audiences: []string{guard.Audience}, Tenant: "acme"}
		secret, p := r.client(doc), newProver(t)
		token := r.token(id, secret, p)
		post := func(path, body string) {
			t.Helper()
			proof, err := p.Proof("POST", r.issuer+path, dpop.ProofOptions{AccessToken: token})
			if err != nil {
				t.Fatal(err)
			}
			h := http.Header{"Authorization": {"DPoP " + token}, "Dpop": {proof}, "Content-Type": {"application/json"}}
			if a := r.do("POST", path, h, []byte(body)); a.status/100 != 2 {
				t.Fatalf("%s: %d %s", id, a.status, a.body)
			}
		}
		post(keyring.PathTransitions, `{"action":"stage"}`)
		post(keyring.PathObservations, `{"observations":[{"name":"edge-1","url":"https://e/jwks","kids":[]},{"name":"edge-2","url":"https://f/jwks","kids":[]}]}`)
		history := r.do("GET", keyring.PathHistory, boot(), nil)
		if want := `"operator":"client:` + id + `"`; !strings.Contains(string(history.body), want) {
			t.Errorf("history lacks %s", want)
		}
		if bad := `"operator":"` + id + `"`; strings.Contains(string(history.body), bad) {
			t.Errorf("history has %s", bad)
		}
		if log.line(`"event":"authority.signing.observation"`, `"names":["edge-1","edge-2"]`, `"operator":"client:`+id+`"`, `"level":"INFO"`) == "" {
			t.Errorf("observation by %s is not logged", id)
		}
	}
	if a := r.change(keyring.Request{Action: keyring.Stage}); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if h := r.do("GET", keyring.PathHistory, boot(), nil); !strings.Contains(string(h.body), `"operator":"bootstrap-key"`) {
		t.Error("history lacks the bootstrap key")
	}
}

// Nothing that is shown to operators holds control characters.
func TestControlCharacters(t *testing.T) {
	r := single(t, nil)
	version := r.report().Version
	for name, c := range map[string]string{"C0": "\x1b", "line": "\n", "DEL": "\x7f", "C1": "\u009b"} {
		text, err := json.Marshal("a" + c + "[2Jb")
		if err != nil {
			t.Fatal(err)
		}
		for path, body := range map[string]string{
			keyring.PathTransitions:         `{"action":"stage","reason":%s}`,
			keyring.PathUpstream:            `{"keyId":"k","reason":%s}`,
			keyring.PathUpstream + "#value": `{"keyId":"k","metadata":{"n":%s}}`,
			keyring.PathUpstream + "#name":  `{"keyId":"k","metadata":{%s:"v"}}`,
			"/internal/clients":             `{"client_id":"c","audiences":["api://x"],"scopes":[],"tenant":"t","client_name":%s}`,
		} {
			path, _, _ = strings.Cut(path, "#")
			if a := r.do("POST", path, boot(), fmt.Appendf(nil, body, text)); a.status != 400 || a.field("error") != "invalid" {
				t.Errorf("%s, %s: %d %s", name, body, a.status, a.body)
			}
		}
	}
	if got := r.report().Version; got != version {
		t.Errorf("version %d, was %d", got, version)
	}
	control := `{"client_id":"c","audiences":["api://x"],"scopes":[],"tenant":"t","client_name":"Größe"}`
	if a := r.do("POST", "/internal/clients", boot(), []byte(control)); a.status != 201 {
		t.Errorf("control: %d %s", a.status, a.body)
	}
	if a := r.change(keyring.Request{Action: keyring.Stage, Reason: "für später"}); a.status != 200 {
		t.Errorf("control: %d %s", a.status, a.body)
	}
}

func TestActivateAtIsBounded(t *testing.T) {
	r := single(t, nil)
	standby := state(r.report(), keyring.Published)
	for name, row := range map[string]struct {
		at     time.Time
		status int
	}{
		"past": {time.Now().Add(-time.Minute), 400}, "far": {time.Now().Add(367 * 24 * time.Hour), 400},
		"year 9999": {time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), 400}, "control": {time.Now().Add(300 * 24 * time.Hour), 200},
	} {
		if a := r.change(keyring.Request{Action: keyring.Schedule, KID: standby, ActivateAt: row.at}); a.status != row.status ||
			row.status == 400 && a.field("error") != "invalid" {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
}

// A timetable that has not changed is not recorded again.
func TestRestartAddsNoRecord(t *testing.T) {
	s := newSite(t)
	yaml := s.config("a", "https://127.0.0.1:0", memory, `, jwksCacheLifetime: "00:00:01.001", clockSkew: 7ms, signLease: 1.333s`, "accessTokenLifetime: 5.007s\n")
	r := s.start("a", yaml, authority.Deps{Store: mem.New(0)})
	version := r.report().Version
	r.stop()
	if got := s.start("a", yaml, authority.Deps{Store: mem.New(0)}).report().Version; got != version {
		t.Errorf("version %d after the first start, %d after the second", version, got)
	}
}

// clockSkew 0 means none, for proofs and for tokens.
func TestNoClockSkew(t *testing.T) {
	s := newSite(t)
	r := s.start("a", s.config("a", "https://127.0.0.1:0", memory, `, clockSkew: "00:00:00"`, ""), authority.Deps{Store: mem.New(0)})
	secret := r.client(standard("svc"))
	for ahead, status := range map[int64]int{0: 200, 10: 400} {
		p := r.proofParts(t)
		p.claims["iat"] = time.Now().Unix() + ahead
		q := r.request("svc", secret, nil)
		q.header.Set("DPoP", p.sign(t))
		if a := r.send(q); a.status != status {
			t.Errorf("proof %d s ahead: %d %s", ahead, a.status, a.body)
		}
	}
	key := s.takeIn(r, "mine", true)
	for ago, status := range map[int64]int{-60: 200, 5: 401} {
		now := time.Now().Unix()
		token := rawJWS(t, map[string]any{"typ": "at+jwt", "alg": "ES256", "kid": "mine"}, map[string]any{
			"iss": r.issuer, "aud": guard.Audience, "sub": "x", "client_id": "x", "jti": jti(t), "iat": now - 60,
			"exp": now - ago, "scope": keyring.ScopeRead,
		}, key)
		if a := r.do("GET", keyring.PathKeyring, http.Header{"Authorization": {"Bearer " + token}}, nil); a.status != status {
			t.Errorf("token expired %d s ago: %d %s", ago, a.status, a.body)
		}
	}
}
