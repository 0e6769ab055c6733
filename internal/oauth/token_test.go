package oauth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/secret"
)

func TestToken(t *testing.T) {
	f := newFake(t)
	c := mustNew(t, f.config())
	tok, err := c.Token(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	form := f.forms()[0]
	if form.Get("scope") != "a.read b.read" || form.Get("audience") != "signer" || form.Get("tenant") != "acme" {
		t.Errorf("asked with %v", form)
	}
	if tok.Type != TypeDPoP || tok.JKT == "" || strings.Join(tok.Scopes, " ") != "a.read b.read" || tok.ExpiresAt.Sub(tok.IssuedAt) != f.life {
		t.Errorf("got %+v", tok)
	}
	if again, err := c.Token(t.Context()); err != nil || again != tok || f.askedNow() != 1 {
		t.Errorf("a good token was fetched again: %v", err)
	}
	if v, err := c.Verify(t.Context(), tok); err != nil || v.Header.KeyID != "k1" || v.Claims.Subject != testClient {
		t.Errorf("verify: %+v, %v", v, err)
	}
	if text := fmt.Sprintf("%v %+v %s", tok, *tok, tok.AccessToken); strings.Contains(text, "eyJ") {
		t.Errorf("a token prints itself: %s", text)
	}
}

func TestTokenBearer(t *testing.T) {
	f := newFake(t)
	cfg := f.config()
	cfg.Bearer = true
	tok, err := mustNew(t, cfg).Token(t.Context())
	if err != nil || tok.Type != TypeBearer || tok.JKT != "" {
		t.Errorf("got %+v, %v", tok, err)
	}
}

func TestTokenLies(t *testing.T) {
	for _, tc := range []struct {
		name     string
		bearer   bool
		response func(m map[string]any)
		claims   func(m map[string]any)
		kind     fault.Kind
		says     string
	}{
		{"control", false, nil, nil, fault.None, ""},
		{"token_type lie", false, func(m map[string]any) { m["token_type"] = "Bearer" }, nil, fault.Trust, "token_type"},
		{"token_type case", false, func(m map[string]any) { m["token_type"] = "dpop" }, nil, fault.None, ""},
		{"bound but not asked", true, func(m map[string]any) { m["token_type"] = "DPoP" }, nil, fault.Trust, "token_type"},
		{"bound to nothing", false, nil, func(m map[string]any) { delete(m, "cnf") }, fault.Trust, "cnf.jkt"},
		{"bound to another", false, nil, func(m map[string]any) { m["cnf"] = map[string]any{"jkt": "x"} }, fault.Trust, "cnf.jkt"},
		{"no token", false, func(m map[string]any) { delete(m, "access_token") }, nil, fault.Trust, "no access_token"},
		{"header injection", false, func(m map[string]any) { m["access_token"] = "a\r\nX: y" }, nil, fault.Trust, "character"},
		{"huge token", false, func(m map[string]any) { m["access_token"] = strings.Repeat("a", maxTokenBytes+1) }, nil, fault.Trust, "larger"},
		{"opaque token", false, func(m map[string]any) { m["access_token"] = "opaque" }, nil, fault.None, ""},
		{"no life", false, func(m map[string]any) { delete(m, "expires_in") }, nil, fault.Trust, "expires_in"},
		{"life as text", false, func(m map[string]any) { m["expires_in"] = "120" }, nil, fault.Trust, "wrong type"},
		{"negative life", false, func(m map[string]any) { m["expires_in"] = -5 }, nil, fault.Trust, "expires_in"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFake(t)
			f.response, f.claims = tc.response, tc.claims
			cfg := f.config()
			cfg.Bearer = tc.bearer
			_, err := mustNew(t, cfg).Token(t.Context())
			if fault.KindOf(err) != tc.kind || err != nil && !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %v (%v), want %v saying %q", fault.KindOf(err), err, tc.kind, tc.says)
			}
			if f.askedNow() != 1 {
				t.Errorf("asked %d times", f.askedNow())
			}
		})
	}
}

func TestTokenRefused(t *testing.T) {
	for code, kind := range map[string]fault.Kind{
		"invalid_client": fault.Denied, "unauthorized_client": fault.Denied, "invalid_scope": fault.Denied,
		"access_denied": fault.Denied, "invalid_dpop_proof": fault.Denied, "invalid_request": fault.Input, "invalid_target": fault.Input,
	} {
		t.Run(code, func(t *testing.T) {
			f := newFake(t)
			f.token = func(w http.ResponseWriter, _ *http.Request) bool {
				writeJSON(w, 400, map[string]any{"error": code, "error_description": "because\x1b[31m"})
				return true
			}
			_, err := mustNew(t, f.config()).Token(t.Context())
			if fault.KindOf(err) != kind || f.askedNow() != 1 || strings.ContainsRune(err.Error(), 0x1b) || !strings.Contains(err.Error(), code) {
				t.Errorf("got %v (%v) after %d", fault.KindOf(err), err, f.askedNow())
			}
		})
	}
}

func TestWrongSecretStaysSecret(t *testing.T) {
	f := newFake(t)
	cfg := f.config()
	const wrong = "hunter2-is-not-it"
	cfg.Credential = SecretBasic(func() (secret.Bytes, error) { return secret.New([]byte(wrong)), nil })
	_, err := mustNew(t, cfg).Token(t.Context())
	if fault.KindOf(err) != fault.Denied || strings.Contains(fmt.Sprintf("%v %+v", err, err), wrong) || len(fault.HintsOf(err)) == 0 {
		t.Errorf("got %v", err)
	}
}

func TestNonce(t *testing.T) {
	f := newFake(t)
	f.nonce = "n-1"
	c := mustNew(t, f.config())
	if _, err := c.Token(t.Context()); err != nil || f.askedNow() != 2 {
		t.Fatalf("asked %d times: %v", f.askedNow(), err)
	}
	if _, err := c.Login(t.Context()); err != nil || f.askedNow() != 3 {
		t.Errorf("the nonce was not kept: asked %d times, %v", f.askedNow(), err)
	}
	f.token = func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("DPoP-Nonce", fmt.Sprintf("n-%d", f.askedNow()))
		writeJSON(w, 400, map[string]any{"error": "use_dpop_nonce"})
		return true
	}
	if _, err := c.Login(t.Context()); fault.KindOf(err) != fault.Denied || f.askedNow() != 5 {
		t.Errorf("a server that always wants another nonce: asked %d times, %v", f.askedNow()-3, err)
	}
}

func TestPrivateKeyJWT(t *testing.T) {
	f := newFake(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, _ := x509.MarshalPKCS8PrivateKey(key)
	path := t.TempDir() + "/key.pem"
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := f.config()
	cfg.Credential = PrivateKeyJWT(func() (*jose.Signer, error) { return LoadSigner(secret.Ref("file:"+path), "") })
	c := mustNew(t, cfg)
	for range 2 {
		if _, err := c.Login(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	ids := map[string]bool{}
	for _, form := range f.forms() {
		ids[checkAssertion(t, f, form, key)] = true
	}
	if len(ids) != 2 {
		t.Error("an assertion was used twice")
	}
}

func checkAssertion(t *testing.T, f *fakeAuthority, form url.Values, key *ecdsa.PrivateKey) string {
	t.Helper()
	if form.Get("client_assertion_type") != assertionType {
		t.Errorf("assertion type %q", form.Get("client_assertion_type"))
	}
	jws, err := jose.Parse(form.Get("client_assertion"), jose.Rules{Algs: []jose.Alg{jose.ES256}})
	if err != nil {
		t.Fatal(err)
	}
	pub, _ := jose.NewKey(key.Public(), "", jose.ES256)
	if tp, _ := pub.Thumbprint(); jws.Header.KeyID != tp {
		t.Errorf("kid %q is not the thumbprint %q", jws.Header.KeyID, tp)
	}
	payload, err := jws.Verify(pub)
	if err != nil {
		t.Fatal(err)
	}
	claims, err := jose.ParseClaims(payload)
	if err != nil {
		t.Fatal(err)
	}
	if claims.Issuer != testClient || claims.Subject != testClient || strings.Join(claims.Audience, " ") != f.srv.URL || claims.Expiry.Sub(claims.IssuedAt) != assertionLife {
		t.Errorf("claims %+v", claims)
	}
	return claims.ID
}

func TestUnsupported(t *testing.T) {
	for name, bend := range map[string]func(m map[string]any){
		"grant": func(m map[string]any) { m["grant_types_supported"] = []string{"refresh_token"} },
		"auth":  func(m map[string]any) { m["token_endpoint_auth_methods_supported"] = []string{"private_key_jwt"} },
		"dpop":  func(m map[string]any) { m["dpop_signing_alg_values_supported"] = []string{"RS256"} },
	} {
		f := newFake(t)
		f.metadata = bend
		if _, err := mustNew(t, f.config()).Token(t.Context()); fault.KindOf(err) != fault.Config || f.askedNow() != 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestScopeSubsetIsSaid(t *testing.T) {
	f := newFake(t)
	f.response = func(m map[string]any) { m["scope"] = "a.read" }
	var r recorder
	cfg := f.config()
	cfg.Events = r.add
	tok, err := mustNew(t, cfg).Token(t.Context())
	if err != nil || len(tok.Scopes) != 1 || !strings.Contains(r.texts(EventWarning), "did not grant b.read") {
		t.Errorf("%v, %v, %q", tok, err, r.texts(EventWarning))
	}
}

func TestClockOff(t *testing.T) {
	for _, tc := range []struct {
		off  time.Duration
		says string
	}{
		{0, ""}, {20 * time.Second, ""}, {-20 * time.Second, ""},
		{5 * time.Minute, " behind"}, {-5 * time.Minute, "ahead of"},
	} {
		f := newFake(t)
		f.date = time.Now().Add(tc.off)
		f.token = func(w http.ResponseWriter, _ *http.Request) bool {
			writeJSON(w, 400, map[string]any{"error": "invalid_dpop_proof"})
			return true
		}
		var r recorder
		cfg := f.config()
		cfg.Events = r.add
		_, err := mustNew(t, cfg).Token(t.Context())
		warned := r.texts(EventWarning)
		hints := strings.Join(fault.HintsOf(err), "\n")
		if tc.says == "" && warned+hints != "" || !strings.Contains(warned, tc.says) || !strings.Contains(hints, tc.says) {
			t.Errorf("%v off: warned %q, hints %q", tc.off, warned, hints)
		}
		if strings.Count(warned, "clock") > 1 {
			t.Errorf("said more than once: %q", warned)
		}
	}
}

func TestRefreshMargin(t *testing.T) {
	for life, want := range map[time.Duration]time.Duration{
		time.Hour: 6 * time.Minute, 2 * time.Minute: 12 * time.Second, time.Minute: 10 * time.Second,
		20 * time.Second: 10 * time.Second, 10 * time.Second: 5 * time.Second, 2 * time.Second: time.Second,
	} {
		if got := refreshMargin(life); got != want {
			t.Errorf("life %v: margin %v, want %v", life, got, want)
		}
	}
}

func TestStaticToken(t *testing.T) {
	f := newFake(t)
	cfg := f.config()
	cfg.StaticToken = secret.New([]byte("opaque-token"))
	c := mustNew(t, cfg)
	tok, err := c.Token(t.Context())
	if err != nil || tok.Type != TypeBearer || !tok.ExpiresAt.IsZero() {
		t.Fatalf("%+v, %v", tok, err)
	}
	if _, err := c.Login(t.Context()); fault.KindOf(err) != fault.Input {
		t.Errorf("login: %v", err)
	}
	if len(f.requests) != 0 {
		t.Errorf("asked %v", f.requests)
	}
}

func TestSecretCannotBeLoaded(t *testing.T) {
	f := newFake(t)
	cfg := f.config()
	gone := fault.As(fault.Config, errors.New("no such file"))
	cfg.Credential = SecretBasic(func() (secret.Bytes, error) { return secret.Bytes{}, gone })
	if _, err := mustNew(t, cfg).Token(t.Context()); fault.KindOf(err) != fault.Config || f.askedNow() != 0 {
		t.Errorf("got %v", err)
	}
}

func TestLoadKeys(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, mode os.FileMode, data []byte) secret.Ref {
		if err := os.WriteFile(dir+"/"+name, data, mode); err != nil {
			t.Fatal(err)
		}
		return secret.Ref("file:" + dir + "/" + name)
	}
	block := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	p256, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	p224, _ := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	pkcs8 := func(key any) []byte {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	sec1, _ := x509.MarshalECPrivateKey(p256)
	for _, tc := range []struct {
		name       string
		ref        secret.Ref
		alg        jose.Alg // "" when refused
		good4Proof bool
	}{
		{"pkcs8", write("a", 0o600, block("PRIVATE KEY", pkcs8(p256))), jose.ES256, true},
		{"sec1", write("b", 0o600, block("EC PRIVATE KEY", sec1)), jose.ES256, true},
		{"p384", write("c", 0o600, block("PRIVATE KEY", pkcs8(p384))), jose.ES384, false},
		{"ed25519", write("d", 0o600, block("PRIVATE KEY", pkcs8(ed))), jose.EdDSA, false},
		{"p224", write("e", 0o600, block("PRIVATE KEY", pkcs8(p224))), "", false},
		{"readable by others", write("f", 0o644, block("PRIVATE KEY", pkcs8(p256))), "", false},
		{"trailing data", write("g", 0o600, append(block("PRIVATE KEY", pkcs8(p256)), "x"...)), "", false},
		{"no PEM", write("h", 0o600, []byte("hunter2")), "", false},
		{"not a key", write("i", 0o600, block("PRIVATE KEY", []byte("hunter2"))), "", false},
		{"public JWK", write("j", 0o600, []byte(`{"kty":"EC"}`)), "", false},
	} {
		s, err := LoadSigner(tc.ref, "")
		if tc.alg == "" && (fault.KindOf(err) != fault.Config || strings.Contains(err.Error(), "hunter2")) {
			t.Errorf("%s: %v", tc.name, err)
		}
		if tc.alg != "" && (err != nil || s.Key().Alg != tc.alg || len(s.Key().KeyID) != 43) {
			t.Errorf("%s: %v", tc.name, err)
		}
		if _, err := LoadDPoPKey(tc.ref); (err == nil) != tc.good4Proof || err != nil && fault.KindOf(err) != fault.Config {
			t.Errorf("%s as a DPoP key: %v", tc.name, err)
		}
	}
}
