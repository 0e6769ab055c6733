package authority_test

import (
	"crypto/ecdsa"
	"crypto/rand"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/stella-ops/stella/internal/authority/clients"
	"github.com/stella-ops/stella/internal/authority/token"
	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/jose/dpop"
)

func TestTokenClaims(t *testing.T) {
	r := single(t, nil)
	doc := standard("svc")
	doc.Tenants = []string{"beta", "acme"}
	secret := r.client(doc)
	p := newProver(t)
	a := r.send(r.request("svc", secret, p))
	if a.status != 200 || a.field("token_type") != "DPoP" || a.field("expires_in") != "120" || a.field("scope") != "jobs.read jobs.trigger" {
		t.Fatalf("%d %s", a.status, a.body)
	}
	// H01: no cache may keep the answer.
	if cc := a.header.Get("Cache-Control"); cc != "no-store" || a.header.Get("Pragma") != "no-cache" || a.header.Get("DPoP-Nonce") == "" {
		t.Errorf("headers %v", a.header)
	}
	at := a.field("access_token")
	head, claims := part(t, at, 0), part(t, at, 1)
	if head["typ"] != "at+jwt" || head["alg"] != "ES256" || head["kid"] == "" || len(head) != 3 {
		t.Errorf("header %v", head)
	}
	want := map[string]any{
		"iss": r.issuer, "sub": "svc", "aud": "api://jobs", "client_id": "svc", "scope": "jobs.read jobs.trigger",
		"stellaops:tenant": "acme", "stellaops:allowed_tenants": "acme beta",
	}
	for k, v := range want {
		if claims[k] != v {
			t.Errorf("%s = %v, want %v", k, claims[k], v)
		}
	}
	if claims["exp"].(float64)-claims["iat"].(float64) != 120 || claims["nbf"] != claims["iat"] || len(claims["jti"].(string)) < 22 {
		t.Errorf("times and jti: %v", claims)
	}
	if got, _ := json.Marshal(claims["scp"]); string(got) != `["jobs.read","jobs.trigger"]` {
		t.Errorf("scp %s", got)
	}
	if claims["cnf"].(map[string]any)["jkt"] != p.Thumbprint() {
		t.Errorf("cnf %v", claims["cnf"])
	}
}

// A third party's verifier accepts discovery, key set and token.
func TestGoOIDC(t *testing.T) {
	r := single(t, nil)
	secret := r.client(standard("svc"))
	ctx := oidc.ClientContext(t.Context(), r.http)
	provider, err := oidc.NewProvider(ctx, r.issuer)
	if err != nil {
		t.Fatal(err)
	}
	v := provider.Verifier(&oidc.Config{ClientID: "api://jobs"})
	at := r.token("svc", secret, newProver(t))
	if _, err := v.Verify(ctx, at); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(ctx, at[:len(at)-6]+"AAAAAA"); err == nil {
		t.Fatal("control: a changed signature was accepted")
	}
}

// Each row differs from the control in one thing.
func TestTokenRefusals(t *testing.T) {
	r := single(t, nil)
	secret := r.client(standard("svc"))
	several := standard("several")
	several.Tenant, several.Tenants, several.Audiences = "", []string{"acme", "beta"}, []string{"api://jobs", "api://other"}
	severalSecret := r.client(several)
	rows := []struct {
		id     string
		bend   func(q *tokenRequest)
		status int
		code   string
	}{
		{"O01 GET", func(q *tokenRequest) { q.method = "GET" }, 405, ""},
		{"O01 query", func(q *tokenRequest) { q.path += "?grant_type=client_credentials" }, 400, "invalid_request"},
		{"O02 wrong secret", func(q *tokenRequest) { q.basic("svc", secret[1:]+"A") }, 401, "invalid_client"},
		{"O02 unknown client", func(q *tokenRequest) { q.basic("nobody", secret) }, 401, "invalid_client"},
		{"O02 no client", func(q *tokenRequest) { q.header.Del("Authorization") }, 401, "invalid_client"},
		{"O02 junk Basic", func(q *tokenRequest) { q.header.Set("Authorization", "Basic !!!") }, 401, "invalid_client"},
		{"secret in the body", func(q *tokenRequest) {
			q.header.Del("Authorization")
			q.form.Set("client_id", "svc")
			q.form.Set("client_secret", secret)
		}, 401, "invalid_client"},
		{"O03 Basic and body", func(q *tokenRequest) { q.form.Set("client_secret", secret) }, 400, "invalid_request"},
		{"O03 Basic and assertion", func(q *tokenRequest) { q.form.Set("client_assertion", "a.b.c") }, 400, "invalid_request"},
		{"O03 two headers", func(q *tokenRequest) { q.header.Add("Authorization", q.header.Get("Authorization")) }, 400, "invalid_request"},
		{"other client_id", func(q *tokenRequest) { q.form.Set("client_id", "other") }, 400, "invalid_request"},
		{"O04 duplicate", func(q *tokenRequest) { q.body = q.form.Encode() + "&grant_type=client_credentials" }, 400, "invalid_request"},
		{"O04 duplicate unknown", func(q *tokenRequest) { q.body = q.form.Encode() + "&x=1&x=2" }, 400, "invalid_request"},
		{"O05 password", func(q *tokenRequest) { q.form.Set("grant_type", "password") }, 400, "unsupported_grant_type"},
		{"no grant", func(q *tokenRequest) { q.form.Set("grant_type", "") }, 400, "invalid_request"},
		{"O06 scope", func(q *tokenRequest) { q.form.Set("scope", "jobs.read jobs.admin") }, 400, "invalid_scope"},
		{"O06 scope prefix", func(q *tokenRequest) { q.form.Set("scope", "jobs.rea") }, 400, "invalid_scope"},
		{"scope spaces", func(q *tokenRequest) { q.form.Set("scope", "jobs.read  jobs.trigger") }, 400, "invalid_scope"},
		{"wildcard audience", func(q *tokenRequest) { q.form.Set("audience", "*") }, 400, "invalid_target"},
		{"other audience", func(q *tokenRequest) { q.form.Set("audience", "api://job") }, 400, "invalid_target"},
		{"two audiences", func(q *tokenRequest) { q.form.Set("audience", "api://jobs api://jobs") }, 400, "invalid_target"},
		{"audience and resource", func(q *tokenRequest) {
			q.form.Set("audience", "api://jobs")
			q.form.Set("resource", "api://other")
		}, 400, "invalid_target"},
		{"foreign tenant", func(q *tokenRequest) { q.form.Set("tenant", "beta") }, 400, "invalid_request"},
		{"ambiguous tenant", func(q *tokenRequest) {
			q.basic("several", severalSecret)
			q.form.Set("audience", "api://jobs")
		}, 400, "invalid_request"},
		{"ambiguous audience", func(q *tokenRequest) {
			q.basic("several", severalSecret)
			q.form.Set("tenant", "beta")
		}, 400, "invalid_request"},
		{"content type", func(q *tokenRequest) { q.header.Set("Content-Type", "application/json") }, 400, "invalid_request"},
		{"large", func(q *tokenRequest) { q.form.Set("x", strings.Repeat("a", 70_000)) }, 413, "invalid_request"},
		{"bad escape", func(q *tokenRequest) { q.body = q.form.Encode() + "&x=%zz" }, 400, "invalid_request"},
		{"P01 no proof", func(q *tokenRequest) { q.header.Del("DPoP") }, 400, "invalid_dpop_proof"},
		{"P03 two proofs", func(q *tokenRequest) { q.header.Add("DPoP", q.header.Get("DPoP")) }, 400, "invalid_dpop_proof"},
		{"P04 not a JWT", func(q *tokenRequest) { q.header.Set("DPoP", "abcdef") }, 400, "invalid_dpop_proof"},
	}
	for _, row := range rows {
		t.Run(row.id, func(t *testing.T) {
			if a := r.send(r.request("svc", secret, newProver(t))); a.status != 200 {
				t.Fatalf("control: %d %s", a.status, a.body)
			}
			q := r.request("svc", secret, newProver(t))
			row.bend(q)
			refused(t, r.send(q), row.status, row.code)
		})
	}
	q := r.request("several", severalSecret, newProver(t))
	q.form.Set("tenant", "beta")
	q.form.Set("resource", "api://other")
	q.form.Set("scope", "jobs.trigger jobs.read jobs.trigger")
	a := r.send(q)
	if c := part(t, a.field("access_token"), 1); c["stellaops:tenant"] != "beta" || c["aud"] != "api://other" || a.field("scope") != "jobs.read jobs.trigger" {
		t.Errorf("chosen: %s %v", a.body, c)
	}
}

// refused checks status, code and the headers of every refusal.
func refused(t *testing.T, a answer, status int, code string) {
	t.Helper()
	if a.status != status || a.field("error") != code || a.field("access_token") != "" {
		t.Fatalf("%d %s, want %d %s", a.status, a.body, status, code)
	}
	if status != 405 && a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("may be cached: %v", a.header)
	}
	if status == 401 && !strings.HasPrefix(a.header.Get("WWW-Authenticate"), "Basic ") {
		t.Errorf("no challenge: %v", a.header)
	}
}

// proofParts is a proof that a test may bend before it is signed.
type proofParts struct {
	head, claims map[string]any
	key          *ecdsa.PrivateKey
	after        func(compact string) string
}

func (r *replica) proofParts(t *testing.T) *proofParts {
	t.Helper()
	key := newECKey(t)
	jwk, err := jose.NewKey(key.Public(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(jwk)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	return &proofParts{
		head: map[string]any{"typ": "dpop+jwt", "alg": "ES256", "jwk": m},
		claims: map[string]any{
			"jti": jti(t), "htm": "POST", "htu": r.issuer + "/token", "iat": time.Now().Unix(), "nonce": r.nonce(),
		},
		key: key,
	}
}

func jti(*testing.T) string { return rand.Text() }

func (p *proofParts) sign(t *testing.T) string {
	t.Helper()
	compact := rawJWS(t, p.head, p.claims, p.key)
	if p.after != nil {
		compact = p.after(compact)
	}
	return compact
}

func TestProofRefusals(t *testing.T) {
	r := single(t, nil)
	secret := r.client(standard("svc"))
	send := func(proof string) answer {
		q := r.request("svc", secret, nil)
		q.header.Set("DPoP", proof)
		return r.send(q)
	}
	const invalid = "invalid_dpop_proof"
	rows := map[string]func(p *proofParts){
		"P05 typ":             func(p *proofParts) { delete(p.head, "typ") },
		"P05 alg":             func(p *proofParts) { delete(p.head, "alg") },
		"P05 jwk":             func(p *proofParts) { delete(p.head, "jwk") },
		"P05 jti":             func(p *proofParts) { delete(p.claims, "jti") },
		"P05 htm":             func(p *proofParts) { delete(p.claims, "htm") },
		"P05 htu":             func(p *proofParts) { delete(p.claims, "htu") },
		"P05 iat":             func(p *proofParts) { delete(p.claims, "iat") },
		"P06 JWT":             func(p *proofParts) { p.head["typ"] = "JWT" },
		"P06 longer":          func(p *proofParts) { p.head["typ"] = "dpop+jwt+x" },
		"P06 not a string":    func(p *proofParts) { p.head["typ"] = 7 },
		"P07 none":            func(p *proofParts) { p.head["alg"] = "none" },
		"P07 HS256":           func(p *proofParts) { p.head["alg"] = "HS256" },
		"P08 RS256":           func(p *proofParts) { p.head["alg"] = "RS256" },
		"P09 signature":       func(p *proofParts) { p.after = func(c string) string { return c[:len(c)-6] + "AAAAAA" } },
		"P10 private":         func(p *proofParts) { p.head["jwk"].(map[string]any)["d"] = "AAAA" },
		"P11 method":          func(p *proofParts) { p.claims["htm"] = "PUT" },
		"P12 host":            func(p *proofParts) { p.claims["htu"] = "https://127.0.0.2/token" },
		"P12 path":            func(p *proofParts) { p.claims["htu"] = r.issuer + "/tokens" },
		"P12 scheme":          func(p *proofParts) { p.claims["htu"] = strings.Replace(r.issuer, "https", "http", 1) + "/token" },
		"P12 port":            func(p *proofParts) { p.claims["htu"] = "https://127.0.0.1/token" },
		"P17 stale":           func(p *proofParts) { p.claims["iat"] = time.Now().Add(-time.Hour).Unix() },
		"P17 future":          func(p *proofParts) { p.claims["iat"] = time.Now().Add(time.Hour).Unix() },
		"P28 empty jti":       func(p *proofParts) { p.claims["jti"] = "" },
		"P28 long jti":        func(p *proofParts) { p.claims["jti"] = strings.Repeat("a", 4000) },
		"P17 control plus 8":  func(p *proofParts) { p.claims["iat"] = time.Now().Unix() + 8 },
		"P17 control less 10": func(p *proofParts) { p.claims["iat"] = time.Now().Unix() - 10 },
		"P13 query ignored":   func(p *proofParts) { p.claims["htu"] = r.issuer + "/token?x=1#y" },
	}
	for _, id := range slices.Sorted(maps.Keys(rows)) {
		t.Run(id, func(t *testing.T) {
			p := r.proofParts(t)
			if a := send(p.sign(t)); a.status != 200 {
				t.Fatalf("control: %d %s", a.status, a.body)
			}
			p = r.proofParts(t)
			rows[id](p)
			a := send(p.sign(t))
			if strings.Contains(id, "control") || strings.Contains(id, "ignored") {
				if a.status != 200 {
					t.Fatalf("%d %s", a.status, a.body)
				}
				return
			}
			refused(t, a, 400, invalid)
		})
	}
	t.Run("P18 P19 replay", func(t *testing.T) {
		p := r.proofParts(t)
		first := p.sign(t)
		if a := send(first); a.status != 200 {
			t.Fatalf("control: %d %s", a.status, a.body)
		}
		refused(t, send(first), 400, invalid)
		p.claims["htu"] = r.issuer + "/token?other"
		refused(t, send(p.sign(t)), 400, invalid)
	})
	t.Run("P22 P23 P24 nonce", func(t *testing.T) {
		for name, nonce := range map[string]any{
			"absent": nil, "junk": "junk", "another server's": token.NewNonces(make([]byte, 32), r.issuer, time.Minute).New(time.Now()), "number": 7,
		} {
			p := r.proofParts(t)
			p.claims["nonce"] = nonce
			if nonce == nil {
				delete(p.claims, "nonce")
			}
			a := send(p.sign(t))
			if name == "number" {
				refused(t, a, 400, invalid)
				continue
			}
			refused(t, a, 400, "use_dpop_nonce")
			p.claims["nonce"] = a.header.Get("DPoP-Nonce")
			if a := send(p.sign(t)); a.status != 200 {
				t.Errorf("%s: with the nonce of the answer: %d %s", name, a.status, a.body)
			}
		}
	})
}

// P30: who proves gets DPoP, who may go without and does gets Bearer.
func TestBearerOnlyWhereAllowed(t *testing.T) {
	r := single(t, nil)
	doc := standard("legacy")
	no := false
	doc.DPoPBound = &no
	secret := r.client(doc)
	a := r.send(r.request("legacy", secret, nil))
	if a.field("token_type") != "Bearer" || part(t, a.field("access_token"), 1)["cnf"] != nil {
		t.Errorf("%s", a.body)
	}
	a = r.send(r.request("legacy", secret, newProver(t)))
	if a.field("token_type") != "DPoP" || part(t, a.field("access_token"), 1)["cnf"] == nil {
		t.Errorf("%s", a.body)
	}
}

const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

func TestAssertions(t *testing.T) {
	r := single(t, nil)
	key := newECKey(t)
	jwk, err := jose.NewKey(key.Public(), "k1", jose.ES256)
	if err != nil {
		t.Fatal(err)
	}
	doc := standard("jwt")
	doc.JWKS = &jose.Set{Keys: []jose.Key{jwk}}
	if secret := r.client(doc); secret != "" {
		t.Fatal("a secret was made")
	}
	type parts struct{ head, claims map[string]any }
	fresh := func() *parts {
		return &parts{map[string]any{"alg": "ES256", "kid": "k1", "typ": "JWT"}, map[string]any{
			"iss": "jwt", "sub": "jwt", "aud": r.issuer, "exp": time.Now().Add(time.Minute).Unix(), "jti": jti(t),
		}}
	}
	send := func(assertion string, prover *dpop.Prover) answer {
		q := r.request("jwt", "x", prover)
		q.header.Del("Authorization")
		q.form.Set("client_assertion", assertion)
		q.form.Set("client_assertion_type", assertionType)
		return r.send(q)
	}
	rows := map[string]func(p *parts){
		"control":           func(*parts) {},
		"control endpoint":  func(p *parts) { p.claims["aud"] = r.issuer + "/token" },
		"control no typ":    func(p *parts) { delete(p.head, "typ") },
		"control no kid":    func(p *parts) { delete(p.head, "kid") },
		"O13 audience":      func(p *parts) { p.claims["aud"] = "https://other" },
		"O13 array":         func(p *parts) { p.claims["aud"] = []string{r.issuer} },
		"O13 far exp":       func(p *parts) { p.claims["exp"] = time.Now().Add(time.Hour).Unix() },
		"O13 expired":       func(p *parts) { p.claims["exp"] = time.Now().Add(-time.Hour).Unix() },
		"O13 no exp":        func(p *parts) { delete(p.claims, "exp") },
		"no jti":            func(p *parts) { delete(p.claims, "jti") },
		"long jti":          func(p *parts) { p.claims["jti"] = strings.Repeat("a", 300) },
		"other iss":         func(p *parts) { p.claims["iss"] = "other" },
		"unknown client":    func(p *parts) { p.claims["iss"], p.claims["sub"] = "nobody", "nobody" },
		"not yet":           func(p *parts) { p.claims["nbf"] = time.Now().Add(time.Hour).Unix() },
		"access token type": func(p *parts) { p.head["typ"] = "at+jwt" },
		"P29 proof type":    func(p *parts) { p.head["typ"] = "dpop+jwt" },
		"unknown kid":       func(p *parts) { p.head["kid"] = "k2" },
	}
	for _, id := range slices.Sorted(maps.Keys(rows)) {
		t.Run(id, func(t *testing.T) {
			p := fresh()
			rows[id](p)
			a := send(rawJWS(t, p.head, p.claims, key), newProver(t))
			if strings.HasPrefix(id, "control") {
				if a.status != 200 {
					t.Fatalf("%d %s", a.status, a.body)
				}
				return
			}
			refused(t, a, 401, "invalid_client")
		})
	}
	t.Run("other key", func(t *testing.T) {
		p := fresh()
		refused(t, send(rawJWS(t, p.head, p.claims, newECKey(t)), newProver(t)), 401, "invalid_client")
	})
	t.Run("O13 replay", func(t *testing.T) {
		p := fresh()
		assertion := rawJWS(t, p.head, p.claims, key)
		// A request that is told to bring a nonce has used nothing up.
		q := r.proofParts(t)
		delete(q.claims, "nonce")
		bad := r.request("jwt", "x", nil)
		bad.header.Del("Authorization")
		bad.header.Set("DPoP", q.sign(t))
		bad.form.Set("client_assertion", assertion)
		bad.form.Set("client_assertion_type", assertionType)
		refused(t, r.send(bad), 400, "use_dpop_nonce")
		if a := send(assertion, newProver(t)); a.status != 200 {
			t.Fatalf("%d %s", a.status, a.body)
		}
		refused(t, send(assertion, newProver(t)), 401, "invalid_client")
	})
}

func TestClientAPI(t *testing.T) {
	r := single(t, nil)
	doc := standard("app")
	body, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	wrong := boot()
	wrong.Set("X-Stellaops-Bootstrap-Key", "wrong")
	for name, h := range map[string]http.Header{"none": {"Content-Type": {"application/json"}}, "wrong": wrong} {
		if a := r.do("POST", "/internal/clients", h, body); a.status != 401 || a.header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s key: %d %s", name, a.status, a.body)
		}
	}
	first := r.client(doc)
	if len(first) != 43 {
		t.Fatalf("secret of %d characters", len(first))
	}
	if again := r.client(doc); again != "" {
		t.Error("a replaced client got a new secret unasked")
	}
	r.token("app", first, newProver(t))
	doc.RotateSecret = true
	second := r.client(doc)
	refused(t, r.send(r.request("app", first, newProver(t))), 401, "invalid_client")
	r.token("app", second, newProver(t))
	if a := r.do("GET", "/internal/clients/app", boot(), nil); a.status != 200 || a.field("client_id") != "app" || a.field("client_secret") != "" {
		t.Errorf("GET: %d %s", a.status, a.body)
	}
	if a := r.do("DELETE", "/internal/clients/app", boot(), nil); a.status != 204 {
		t.Errorf("DELETE: %d %s", a.status, a.body)
	}
	refused(t, r.send(r.request("app", second, newProver(t))), 401, "invalid_client")
	if a := r.do("GET", "/internal/clients/app", boot(), nil); a.status != 404 {
		t.Errorf("GET after DELETE: %d %s", a.status, a.body)
	}
	for name, bend := range map[string]func(*clients.Document){
		"wildcard scope":      func(d *clients.Document) { d.Scopes = []string{"*"} },
		"no audience":         func(d *clients.Document) { d.Audiences = nil },
		"wildcard audience":   func(d *clients.Document) { d.Audiences = []string{"api://*"} },
		"no tenant":           func(d *clients.Document) { d.Tenant = "" },
		"tenant in capital":   func(d *clients.Document) { d.Tenant = "ACME" },
		"own secret":          func(d *clients.Document) { d.ClientSecret = "mine" },
		"id":                  func(d *clients.Document) { d.ClientID = "a b" },
		"method":              func(d *clients.Document) { d.Method = "none" },
		"method without keys": func(d *clients.Document) { d.Method = clients.PrivateKeyJWT },
	} {
		bad := standard("bad")
		bend(&bad)
		body, err := json.Marshal(bad)
		if err != nil {
			t.Fatal(err)
		}
		if a := r.do("POST", "/internal/clients", boot(), body); a.status != 400 || a.field("error") != "invalid" {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
}
