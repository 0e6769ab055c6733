package authority_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/coreos/go-oidc/v3/oidc"
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
