package jwkscheck

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/jose"
)

type object = map[string]any

// ecKey makes a public JWK that no check finds fault with.
func ecKey(t testing.TB, kid string) object {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return ecObject(t, key, kid)
}

func ecObject(t testing.TB, key *ecdsa.PrivateKey, kid string) object {
	t.Helper()
	point, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	size := (len(point) - 1) / 2
	crv := map[int]string{32: "P-256", 48: "P-384", 66: "P-521"}[size]
	alg := map[int]string{32: "ES256", 48: "ES384", 66: "ES512"}[size]
	return object{"kty": "EC", "crv": crv, "kid": kid, "alg": alg, "use": "sig", "status": "active",
		"x": b64(point[1 : 1+size]), "y": b64(point[1+size:])}
}

func rsaObject(n *big.Int, e int, kid string) object {
	return object{"kty": "RSA", "kid": kid, "alg": "PS256", "use": "sig", "n": b64(n.Bytes()), "e": b64(big.NewInt(int64(e)).Bytes())}
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func with(o object, name string, v any) object {
	o = maps.Clone(o)
	o[name] = v
	return o
}

func without(o object, name string) object {
	o = maps.Clone(o)
	delete(o, name)
	return o
}

func setOf(t testing.TB, keys ...object) []byte {
	t.Helper()
	if keys == nil {
		keys = []object{}
	}
	data, err := json.Marshal(object{"keys": keys})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func ids(r *Report) []string {
	out := []string{}
	for _, f := range r.Findings {
		out = append(out, f.ID)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// honest is how a set should be served.
func honest() *HTTP {
	return &HTTP{Status: 200, ContentType: "application/jwk-set+json", CacheControl: "max-age=300", MaxAge: 5 * time.Minute, ETag: `"a"`}
}

// roca makes a 2048-bit modulus with the fingerprint; nobody needs its factors.
func roca() *big.Int {
	m := big.NewInt(2)
	for _, p := range rocaPrimes() {
		m.Mul(m, big.NewInt(p))
	}
	n := new(big.Int).Exp(big.NewInt(65537), big.NewInt(12345), m)
	pad := new(big.Int).Lsh(big.NewInt(1), 2047)
	return n.Add(n, pad.Sub(pad, new(big.Int).Mod(pad, m)).Add(pad, m))
}

// TestLint pairs each check with a flaw that only it finds, beside a control
// that differs in that one thing and passes.
func TestLint(t *testing.T) {
	good, second := ecKey(t, "k1"), ecKey(t, "k2")
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	edPub, _, _ := ed25519.GenerateKey(rand.Reader)
	okp := object{"kty": "OKP", "crv": "Ed25519", "kid": "ed", "alg": "EdDSA", "use": "sig", "x": b64(edPub)}
	rsa2048, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	rsaGood := rsaObject(rsa2048.N, 65537, "r")
	short := new(big.Int).Rsh(rsa2048.N, 1024)
	body := func(keys ...object) *Document { return &Document{Source: "x.json", Body: setOf(t, keys...)} }
	served := func(bend func(h *HTTP)) *Document {
		d := body(good)
		d.Source, d.HTTP = "https://a.example/jwks", honest()
		bend(d.HTTP)
		return d
	}
	at := func(d *Document, src string) *Document { d.Source = src; return d }
	raw := func(s string) *Document { return &Document{Source: "x.json", Body: []byte(s)} }
	goodText := strings.TrimSuffix(strings.TrimPrefix(string(setOf(t, good)), `{"keys":[`), `]}`)
	many := make([]object, 3)
	for i := range many {
		many[i] = ecKey(t, fmt.Sprint("m", i))
	}
	wide := object{"keys": []object{good}, "pad": strings.Repeat("x", jose.MaxSetBytes)}
	wideBody, _ := json.Marshal(wide)

	for _, tc := range []struct {
		id            string
		opt           LintOptions
		flaw, control *Document
	}{
		{id: "not-a-set", flaw: raw(`<html>`), control: body(good)},
		{id: "empty-set", flaw: body(), control: body(good)},
		{id: "duplicate-member", flaw: raw(`{"keys":[],"keys":[` + goodText + `]}`), control: raw(`{"keys":[` + goodText + `]}`)},
		{id: "set-too-large", flaw: &Document{Body: wideBody}, control: body(good)},
		{id: "many-keys", opt: LintOptions{MaxKeys: 2}, flaw: body(many...), control: body(many[:2]...)},
		{id: "kid-missing", flaw: body(without(good, "kid")), control: body(good)},
		{id: "kid-duplicate", flaw: body(good, with(second, "kid", "k1")), control: body(good, second)},
		{id: "kid-reused", opt: LintOptions{Earlier: body(good)}, flaw: body(with(second, "kid", "k1")), control: body(good, second)},
		{id: "key-twice", flaw: body(good, with(good, "kid", "k3")), control: body(good, second)},
		{id: "private-members", flaw: body(with(good, "d", b64(make([]byte, 32)))), control: body(good)},
		{id: "symmetric-key", flaw: body(object{"kty": "oct", "kid": "o", "use": "sig", "alg": "HS256", "k": "c2VjcmV0"}), control: body(good)},
		{id: "wrong-type", flaw: body(good, with(second, "use", 5)), control: body(good, second)},
		{id: "kty-unknown", flaw: body(good, object{"kty": "XYZ", "kid": "z", "alg": "X1", "use": "sig"}), control: body(good)},
		{id: "use-missing", flaw: body(without(good, "use")), control: body(good)},
		{id: "alg-missing", flaw: body(without(good, "alg")), control: body(good)},
		{id: "alg-mismatch", flaw: body(with(good, "alg", "RS256")), control: body(good)},
		{id: "base64url", flaw: body(with(good, "x", good["x"].(string)+"=")), control: body(good)},
		{id: "key-unusable", flaw: body(with(okp, "x", b64(make([]byte, 32)))), control: body(okp)},
		{id: "strict-refusal", flaw: body(with(good, "kid", strings.Repeat("k", jose.MaxKeyIDBytes+1))), control: body(with(good, "kid", strings.Repeat("k", jose.MaxKeyIDBytes)))},
		{id: "strict-refusal", flaw: body(with(good, "key_ops", 5)), control: body(with(good, "key_ops", []string{"verify"}))},
		{id: "rsa-short", flaw: body(rsaObject(short.SetBit(short, 0, 1), 65537, "r")), control: body(rsaGood)},
		{id: "rsa-exponent", flaw: body(with(rsaGood, "e", b64([]byte{3}))), control: body(rsaGood)},
		{id: "rsa-roca", flaw: body(rsaObject(roca(), 65537, "r")), control: body(rsaGood)},
		{id: "curve-unknown", flaw: body(with(with(good, "alg", "ES256K"), "crv", "secp256k1")), control: body(good)},
		{id: "curve-unusual", flaw: body(ecObject(t, p384, "p")), control: body(good, okp)},
		{id: "coordinate-length", flaw: body(with(good, "x", b64(make([]byte, 31)))), control: body(good)},
		{id: "off-curve", flaw: body(with(good, "x", second["x"])), control: body(good)},
		{id: "insecure-url", flaw: at(served(func(*HTTP) {}), "http://a.example/jwks"), control: at(served(func(*HTTP) {}), "http://127.0.0.1:1/jwks")},
		{id: "content-type", flaw: served(func(h *HTTP) { h.ContentType = "text/html" }), control: served(func(h *HTTP) { h.ContentType = "application/json; charset=utf-8" })},
		{id: "cache-missing", flaw: served(func(h *HTTP) { h.CacheControl, h.MaxAge = "", -1 }), control: served(func(*HTTP) {})},
		{id: "cache-too-long", flaw: served(func(h *HTTP) { h.MaxAge = 7 * 24 * time.Hour }), control: served(func(h *HTTP) { h.MaxAge = 24 * time.Hour })},
		{id: "cache-immutable", flaw: served(func(h *HTTP) { h.Immutable = true }), control: served(func(*HTTP) {})},
		{id: "cache-no-store", flaw: served(func(h *HTTP) { h.NoStore = true }), control: served(func(*HTTP) {})},
		{id: "stale", flaw: served(func(h *HTTP) { h.Age = h.MaxAge + 1 }), control: served(func(h *HTTP) { h.Age = h.MaxAge })},
		{id: "etag-blind", flaw: served(func(h *HTTP) { h.TagBlind = true }), control: served(func(*HTTP) {})},
		{id: "etag-stale", opt: LintOptions{Earlier: &Document{Body: setOf(t, good, second), HTTP: honest()}},
			flaw: served(func(*HTTP) {}), control: served(func(h *HTTP) { h.ETag = `"b"` })},
		{id: "earlier-not-a-set", opt: LintOptions{Earlier: raw("x")}, flaw: body(good), control: nil},
	} {
		t.Run(tc.id, func(t *testing.T) {
			flawed := Lint(tc.flaw, tc.opt)
			if got := ids(flawed); !slices.Contains(got, tc.id) {
				t.Errorf("the flaw was not found; findings %v", flawed.Findings)
			} else if len(got) != 1 {
				t.Errorf("other checks fired as well: %+v", flawed.Findings)
			}
			for _, f := range flawed.Findings {
				if f.What == "" || f.Where == "" || f.Remedy == "" || f.Severity == "" {
					t.Errorf("incomplete finding %+v", f)
				}
			}
			if tc.control != nil {
				if r := Lint(tc.control, tc.opt); len(r.Findings) != 0 {
					t.Errorf("the control fails: %+v", r.Findings)
				}
			}
		})
	}
}

// TestLintCoversEveryCheck fails when a check has no row above: the ids of all
// checks that run are those of the table.
func TestLintCoversEveryCheck(t *testing.T) {
	source := []string{}
	for _, c := range slices.Concat(setChecks(), keyChecks(), rsaChecks(), curveChecks(), httpChecks()) {
		source = append(source, c.id)
		if c.remedy == "" || c.severity == "" {
			t.Errorf("check %q is incomplete", c.id)
		}
	}
	d := &Document{Source: "https://a.example", Body: setOf(t, ecKey(t, "k")), HTTP: honest()}
	r := Lint(d, LintOptions{Earlier: d})
	source = append(source, "not-a-set", "strict-refusal")
	slices.Sort(source)
	if !slices.Equal(source, r.Checks) || len(slices.Compact(source)) != len(r.Checks) {
		t.Errorf("checks that ran: %v, checks there are: %v", r.Checks, source)
	}
}

func TestLintNeverRepeatsPrivateMembers(t *testing.T) {
	const d = "c3VwZXItc2VjcmV0LXNjYWxhci0xMjM0NTY3ODkwMTI"
	r := Lint(&Document{Body: setOf(t, with(ecKey(t, "k"), "d", d))}, LintOptions{})
	if text := fmt.Sprintf("%+v", r); strings.Contains(text, d) || !slices.Contains(ids(r), "private-members") {
		t.Errorf("findings: %s", text)
	}
}

func FuzzLint(f *testing.F) {
	f.Add(setOf(f, ecKey(f, "k1"), ecKey(f, "k2")), setOf(f, ecKey(f, "k1")))
	f.Add([]byte(`{"keys":[{"kty":"RSA","n":"AQ","e":"AQAB"},{"kty":"EC","crv":"P-256","x":"","y":null},{"kty":"oct","k":"x"}]}`), []byte(`{}`))
	f.Add([]byte(`{"schema":"stella.auth.jwks.show/v1","document":"{\"keys\":[]}"}`), []byte(`null`))
	f.Fuzz(func(t *testing.T, body, earlier []byte) {
		d := unwrap(&Document{Source: "f", Body: body})
		r := Lint(d, LintOptions{Earlier: unwrap(&Document{Source: "e", Body: earlier})})
		if len(r.Findings) == 0 && len(earlier) > 0 {
			// What the linter passes, a strict verifier can load.
			if _, err := jose.ParseSet(d.Body); err != nil {
				t.Fatalf("lint passes what a strict parser refuses: %v", err)
			}
		}
	})
}
