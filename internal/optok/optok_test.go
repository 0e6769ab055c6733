package optok_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/jose/dpop"
	"github.com/stella-ops/stella/internal/jose/jwks"
	"github.com/stella-ops/stella/internal/optok"
)

const (
	issuer   = "https://authority.example"
	audience = "api://jobs"
	base     = "https://jobs.example"
)

type fixture struct {
	t      *testing.T
	signer *jose.Signer
	prover *dpop.Prover
	v      *optok.Verifier
	now    time.Time
}

func key(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{t: t, now: time.Date(2026, 11, 22, 4, 0, 0, 0, time.UTC)}
	var err error
	if f.signer, err = jose.NewSigner(key(t), jose.ES256, "k1"); err != nil {
		t.Fatal(err)
	}
	if f.prover, err = dpop.NewProver(key(t)); err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{}
	f.v = &optok.Verifier{
		Issuer: issuer, Audience: audience, BaseURL: base, Skew: 30 * time.Second, Now: func() time.Time { return f.now },
		Keys: func(_ context.Context, kid string) (jose.Key, error) {
			if kid == "k1" {
				return f.signer.Key(), nil
			}
			return jose.Key{}, jwks.ErrUnknownKey
		},
		Replay: func(_ context.Context, k string, _ time.Time) (bool, error) {
			fresh := !used[k]
			used[k] = true
			return fresh, nil
		},
	}
	return f
}

func (f *fixture) claims() map[string]any {
	return map[string]any{
		"iss": issuer, "aud": audience, "sub": "s", "client_id": "c", "jti": "j", "iat": f.now.Unix(), "nbf": f.now.Unix(),
		"exp": f.now.Add(time.Minute).Unix(), "scope": "b a", "scp": []string{"c", "a"}, "stellaops:tenant": "acme",
		"cnf": map[string]any{"jkt": f.prover.Thumbprint()},
	}
}

func (f *fixture) token(typ string, claims map[string]any) string {
	f.t.Helper()
	payload, err := json.Marshal(claims)
	if err != nil {
		f.t.Fatal(err)
	}
	token, err := f.signer.Sign(map[string]any{"typ": typ}, payload)
	if err != nil {
		f.t.Fatal(err)
	}
	return token
}

func (f *fixture) verify(token string) (*optok.Principal, error) {
	f.t.Helper()
	r := httptest.NewRequest("POST", base+"/jobs/x?limit=1", nil)
	proof, err := f.prover.Proof("POST", base+"/jobs/x", dpop.ProofOptions{AccessToken: token, Now: f.now})
	if err != nil {
		f.t.Fatal(err)
	}
	r.Header.Set("Authorization", "DPoP "+token)
	r.Header.Set("DPoP", proof)
	return f.v.Verify(r)
}

func TestPrincipal(t *testing.T) {
	f := newFixture(t)
	got, err := f.verify(f.token("at+jwt", f.claims()))
	if err != nil {
		t.Fatal(err)
	}
	want := &optok.Principal{
		Subject: "s", ClientID: "c", Tenant: "acme", AllowedTenants: []string{}, Scopes: []string{"a", "b", "c"},
		JKT: f.prover.Thumbprint(), TokenID: "j", KID: "k1", IssuedAt: f.now, Expiry: f.now.Add(time.Minute),
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Fatal(d)
	}
	if got.Require("a", "c") != nil || got.Require("a", "d") == nil || got.Has("A") || got.Has("") {
		t.Error("scopes are not compared exactly")
	}
	legacy := f.claims()
	delete(legacy, "stellaops:tenant")
	legacy["tid"] = "old"
	if got, err := f.verify(f.token("at+jwt", legacy)); err != nil || got.Tenant != "old" {
		t.Errorf("tid: %+v %v", got, err)
	}
}

func TestTokenRefusals(t *testing.T) {
	f := newFixture(t)
	rows := map[string]func(c map[string]any){
		"T16 expired":        func(c map[string]any) { c["exp"] = f.now.Add(-31 * time.Second).Unix() },
		"T17 not yet":        func(c map[string]any) { c["nbf"] = f.now.Add(31 * time.Second).Unix() },
		"T18 text":           func(c map[string]any) { c["exp"] = "soon" },
		"T19 no exp":         func(c map[string]any) { delete(c, "exp") },
		"T20 audience":       func(c map[string]any) { c["aud"] = "api://job" },
		"T21 issuer":         func(c map[string]any) { c["iss"] = issuer + "/" },
		"no client_id":       func(c map[string]any) { delete(c, "client_id") },
		"no jti":             func(c map[string]any) { delete(c, "jti") },
		"scope of a number":  func(c map[string]any) { c["scope"] = 7 },
		"M07 no thumbprint":  func(c map[string]any) { c["cnf"].(map[string]any)["x5t#S256"] = "x" },
		"unknown binding":    func(c map[string]any) { c["cnf"] = map[string]any{"kid": "x"} },
		"empty binding":      func(c map[string]any) { c["cnf"] = map[string]any{} },
		"unbound, DPoP":      func(c map[string]any) { delete(c, "cnf") },
		"tenant of a number": func(c map[string]any) { c["stellaops:tenant"] = 7 },
	}
	check := func(id string, err error, status int, code string) {
		t.Helper()
		var e *optok.Error
		if !errors.As(err, &e) || e.Status != status || e.Code != code {
			t.Errorf("%s: %v", id, err)
			return
		}
		h := http.Header{}
		e.SetHeaders(h)
		if got := h.Get("WWW-Authenticate"); status == 401 && code != "" && !strings.Contains(got, `error="`+code+`"`) {
			t.Errorf("%s: challenge %q", id, got)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(rows)) {
		if _, err := f.verify(f.token("at+jwt", f.claims())); err != nil {
			t.Fatalf("control: %v", err)
		}
		c := f.claims()
		rows[id](c)
		_, err := f.verify(f.token("at+jwt", c))
		check(id, err, 401, optok.CodeToken)
	}
	for _, typ := range []string{"JWT", "logout+jwt", "dpop+jwt"} {
		_, err := f.verify(f.token(typ, f.claims()))
		check("T23 "+typ, err, 401, optok.CodeToken)
	}
	token := f.token("at+jwt", f.claims())
	for id, bend := range map[string]func(r *http.Request){
		"T26 query": func(r *http.Request) { r.URL.RawQuery = "access_token=" + token },
		"two":       func(r *http.Request) { r.Header.Add("Authorization", "Bearer x") },
	} {
		r := httptest.NewRequest("GET", base+"/", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		bend(r)
		_, err := f.v.Verify(r)
		check(id, err, 400, optok.CodeRequest)
	}
	_, err := f.v.Verify(httptest.NewRequest("GET", base+"/", nil))
	check("T01", err, 401, "")
	f.v.Replay = func(context.Context, string, time.Time) (bool, error) { return false, errors.New("down") }
	_, err = f.verify(token)
	check("replay store down", err, 503, "")
	f.v.Keys = func(context.Context, string) (jose.Key, error) { return jose.Key{}, errors.New("down") }
	_, err = f.verify(token)
	check("keys out of reach", err, 503, "")
}

// A Skew of zero is none, for tokens and for proofs.
func TestNoSkew(t *testing.T) {
	f := newFixture(t)
	f.v.Skew = 0
	c := f.claims()
	if _, err := f.verify(f.token("at+jwt", c)); err != nil {
		t.Fatalf("control: %v", err)
	}
	c["exp"] = f.now.Add(-time.Second).Unix()
	if _, err := f.verify(f.token("at+jwt", c)); err == nil {
		t.Error("an expired token was accepted")
	}
	token := f.token("at+jwt", f.claims())
	r := httptest.NewRequest("POST", base+"/jobs/x", nil)
	proof, err := f.prover.Proof("POST", base+"/jobs/x", dpop.ProofOptions{AccessToken: token, Now: f.now.Add(10 * time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "DPoP "+token)
	r.Header.Set("DPoP", proof)
	if _, err := f.v.Verify(r); err == nil {
		t.Error("a proof from the future was accepted")
	}
}

func FuzzVerify(f *testing.F) {
	f.Add("Bearer a.b.c", "x")
	f.Add("DPoP eyJhbGciOiJFUzI1NiJ9.e30.AAAA", "")
	v := &optok.Verifier{
		Issuer: issuer, Audience: audience, BaseURL: base,
		Keys: func(context.Context, string) (jose.Key, error) { return jose.Key{}, jwks.ErrUnknownKey },
	}
	f.Fuzz(func(t *testing.T, auth, proof string) {
		r := httptest.NewRequest("GET", base+"/", nil)
		r.Header["Authorization"] = []string{auth}
		r.Header["Dpop"] = []string{proof}
		if p, err := v.Verify(r); err == nil {
			t.Fatalf("accepted %q: %+v", auth, p)
		}
	})
}
