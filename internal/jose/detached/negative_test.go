package detached_test

import (
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"strings"
	"testing"

	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/jose/detached"
)

const payload = `{"advisories":[]}`

// forge signs any header text with ES256, over the payload in base64url or as
// it is.
func forge(t testing.TB, header string, plain bool) string {
	t.Helper()
	h, p := b64([]byte(header)), b64([]byte(payload))
	if plain {
		p = payload
	}
	sum := sha256.Sum256([]byte(h + "." + p))
	r, s, err := ecdsa.Sign(rand.Reader, keys()[jose.ES256].(*ecdsa.PrivateKey), sum[:])
	if err != nil {
		t.Fatal(err)
	}
	raw := make([]byte, 64)
	r.FillBytes(raw[:32])
	s.FillBytes(raw[32:])
	return h + ".." + b64(raw)
}

// TestFlaws refuses each flaw for its own reason. The control is the same JWS
// without it. All verdicts are those of package jose as well.
func TestFlaws(t *testing.T) {
	const good = `{"alg":"ES256","kid":"k1","typ":"bundle"}`
	const plain = `{"alg":"ES256","b64":false,"crit":["b64"]}`
	key := func(alg jose.Alg) jose.Key { return signerFor(t, alg).Key() }
	bare := func(k jose.Key) jose.Key { return jose.Key{Public: k.Public} }
	compact, unencoded := forge(t, good, false), forge(t, plain, true)
	parts := strings.Split(compact, ".")
	der, err := ecdsa.SignASN1(rand.Reader, keys()[jose.ES256].(*ecdsa.PrivateKey), make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(keys()[jose.ES256].Public())
	if err != nil {
		t.Fatal(err)
	}
	hs := b64([]byte(`{"alg":"HS256"}`))
	mac := hmac.New(sha256.New, spki)
	mac.Write([]byte(hs + "." + b64([]byte(payload))))
	confused := hs + ".." + b64(mac.Sum(nil))
	all := rules()
	all.Algs = append(all.Algs, jose.HS256, jose.HS384, jose.HS512, "none")
	only := func(change func(*jose.Rules)) jose.Rules { r := rules(); change(&r); return r }
	swapped := func(sig string) string { return parts[0] + ".." + sig }
	ec, rs := bare(key(jose.ES256)), bare(key(jose.RS256))
	pkcs1 := signerFor(t, jose.RS256)
	tests := []struct {
		name    string
		compact string
		key     jose.Key
		rules   jose.Rules
		want    error // nil: a control
	}{
		{"control, base64url", compact, ec, rules(), nil},
		{"control, unencoded", unencoded, ec, rules(), nil},
		{"control, all rules", compact, ec, all, nil},
		{"control, b64 true in crit", forge(t, `{"alg":"ES256","b64":true,"crit":["b64"]}`, false), ec, rules(), nil},
		{"control, RSA", sign(t, pkcs1, payload, detached.Base64URL), pkcs1.Key(), rules(), nil},
		{"payload inside", parts[0] + "." + b64([]byte(payload)) + "." + parts[2], ec, rules(), jose.ErrMalformed},
		{"a little payload inside", parts[0] + ".AA." + parts[2], ec, rules(), jose.ErrMalformed},
		{"two parts", parts[0] + "." + parts[2], ec, rules(), jose.ErrMalformed},
		{"four parts", compact + ".", ec, rules(), jose.ErrMalformed},
		{"encrypted", parts[0] + "...." + parts[2], ec, rules(), jose.ErrMalformed},
		{"trailing line break", compact + "\n", ec, rules(), jose.ErrMalformed},
		{"empty", "", ec, rules(), jose.ErrMalformed},
		{"header is no base64url", "%%" + compact, ec, rules(), jose.ErrMalformed},
		{"header is no JSON", b64([]byte(`{"alg":`)) + ".." + parts[2], ec, rules(), jose.ErrMalformed},
		{"header is a list", forge(t, `["ES256"]`, false), ec, rules(), jose.ErrMalformed},
		{"alg twice", forge(t, `{"alg":"ES256","alg":"ES256"}`, false), ec, rules(), jose.ErrMalformed},
		{"b64 without crit", forge(t, `{"alg":"ES256","b64":false}`, true), ec, rules(), jose.ErrCritical},
		{"b64 true without crit", forge(t, `{"alg":"ES256","b64":true}`, false), ec, rules(), jose.ErrCritical},
		{"b64 not understood", unencoded, ec, only(func(r *jose.Rules) { r.Critical = nil }), jose.ErrCritical},
		{"crit without b64", forge(t, `{"alg":"ES256","crit":["b64"]}`, true), ec, rules(), jose.ErrMalformed},
		{"b64 is text", forge(t, `{"alg":"ES256","b64":"false","crit":["b64"]}`, true), ec, rules(), jose.ErrMalformed},
		{"unknown crit", forge(t, `{"alg":"ES256","x":1,"crit":["x"]}`, false), ec, rules(), jose.ErrCritical},
		{"b64 denied after signing", forge(t, good, true), ec, rules(), jose.ErrSignature},
		{"b64 claimed after signing", forge(t, plain, false), ec, rules(), jose.ErrSignature},
		{"alg none", b64([]byte(`{"alg":"none"}`)) + "..", ec, all, jose.ErrAlg},
		{"alg none, signed", forge(t, `{"alg":"none"}`, false), ec, all, jose.ErrAlg},
		{"no alg", forge(t, `{"kid":"k1"}`, false), ec, all, jose.ErrAlg},
		{"HS256 with the public key", confused, jose.Key{Public: spki}, all, jose.ErrAlg},
		{"HS256 not listed", confused, jose.Key{Public: spki}, rules(), jose.ErrAlg},
		{"alg not listed", compact, ec, only(func(r *jose.Rules) { r.Algs = []jose.Alg{jose.EdDSA} }), jose.ErrAlg},
		{"no rules", compact, ec, jose.Rules{}, jose.ErrAlg},
		{"type not listed", compact, ec, only(func(r *jose.Rules) { r.Types = []string{"other"} }), jose.ErrType},
		{"JWS too long", compact, ec, only(func(r *jose.Rules) { r.MaxBytes = len(compact) - 1 }), jose.ErrTooLarge},
		{"brings its key", forge(t, `{"alg":"ES256","jwk":{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}}`, false), ec, rules(), jose.ErrKey},
		{"another key", compact, bare(other(t)), rules(), jose.ErrSignature},
		{"key of another type", compact, rs, rules(), jose.ErrKey},
		{"Ed25519 key", compact, bare(key(jose.EdDSA)), rules(), jose.ErrKey},
		{"key of another curve", compact, bare(key(jose.ES384)), rules(), jose.ErrKey},
		{"key for another alg", sign(t, pkcs1, payload, detached.Base64URL), keyWith(pkcs1.Key(), jose.PS256, "sig"), rules(), jose.ErrKey},
		{"key for encryption", compact, keyWith(ec, "", "enc"), rules(), jose.ErrKey},
		{"key without material", compact, jose.Key{}, rules(), jose.ErrKey},
		{"no signature", swapped(""), ec, rules(), jose.ErrSignature},
		{"DER signature", swapped(b64(der)), ec, rules(), jose.ErrSignature},
		{"short signature", swapped(parts[2][:84]), ec, rules(), jose.ErrSignature},
		{"zero signature", swapped(b64(make([]byte, 64))), ec, rules(), jose.ErrSignature},
		{"signature of another", swapped(strings.Split(forge(t, `{"alg":"ES256"}`, false), ".")[2]), ec, rules(), jose.ErrSignature},
		{"signature with padding", compact + "==", ec, rules(), jose.ErrMalformed},
		{"PKCS #1 as PSS", b64([]byte(`{"alg":"PS256","kid":"k1"}`)) + ".." + strings.Split(sign(t, pkcs1, payload, detached.Base64URL), ".")[2], bare(pkcs1.Key()), rules(), jose.ErrSignature},
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			err := verdict(c.compact, c.key, c.rules, payload)
			if !errors.Is(err, c.want) || (c.want == nil) != (err == nil) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if ref := reference(c.compact, c.key, c.rules, payload); (ref == nil) != (err == nil) && !strings.Contains(c.name, "HS256 with") {
				t.Errorf("package jose says %v", ref)
			}
		})
	}
	if err := reference(confused, jose.Key{Public: spki}, all, payload); err != nil {
		t.Errorf("the HS256 forgery is no good one: %v", err)
	}
	for _, alg := range []jose.Alg{jose.ES256, jose.EdDSA} { // a bad key is refused before the payload, not after
		s := signerFor(t, alg)
		compact := sign(t, s, payload, detached.Base64URL)
		for _, c := range []struct {
			key  jose.Key
			want error
		}{
			{s.Key(), nil},
			{keyWith(s.Key(), "", "enc"), jose.ErrKey},
			{keyWith(s.Key(), jose.RS256, "sig"), jose.ErrKey},
			{rs, jose.ErrKey},
		} {
			v, err := detached.Open(compact, with(c.key), rules())
			if !errors.Is(err, c.want) || (v == nil) != (c.want != nil) {
				t.Errorf("%s with %+v: %v", alg, c.key, err)
			}
		}
	}
	if _, err := detached.Open(confused, func(jose.Header) (jose.Key, error) {
		t.Error("asked for the key of an HS256")
		return jose.Key{Public: spki}, nil
	}, all); !errors.Is(err, jose.ErrAlg) {
		t.Errorf("HS256: %v", err)
	}
	refused := errors.New("no such key")
	if _, err := detached.Open(compact, func(jose.Header) (jose.Key, error) { return jose.Key{}, refused }, rules()); !errors.Is(err, refused) {
		t.Errorf("key refused: %v", err)
	}
}

func keyWith(k jose.Key, alg jose.Alg, use string) jose.Key {
	k.Alg, k.Use = alg, use
	return k
}

func other(t testing.TB) jose.Key {
	t.Helper()
	k, err := ecdsa.GenerateKey(keys()[jose.ES256].(*ecdsa.PrivateKey).Curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return signer(t, k, jose.ES256).Key()
}
