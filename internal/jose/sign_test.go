package jose_test

import (
	"crypto"
	"crypto/elliptic"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	gojose "github.com/go-jose/go-jose/v4"
	"pgregory.net/rapid"

	"github.com/stella-ops/stella/internal/jose"
)

// Everything we sign, go-jose verifies, and the reverse.
func TestInterop(t *testing.T) {
	for _, alg := range asymmetric() {
		t.Run(string(alg), func(t *testing.T) {
			key := keyFor(t, alg)
			ours := newSigner(t, opaque{key}, alg, "k1")
			theirs, err := gojose.NewSigner(gojose.SigningKey{Algorithm: gojose.SignatureAlgorithm(alg), Key: key}, nil)
			if err != nil {
				t.Fatal(err)
			}
			rules := jose.Rules{Algs: []jose.Alg{alg}, Critical: []string{"b64"}, MaxBytes: 1 << 20}
			rapid.Check(t, func(rt *rapid.T) {
				payload := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(rt, "payload")
				compact, err := ours.Sign(map[string]any{"typ": rapid.StringN(0, 20, -1).Draw(rt, "typ")}, payload)
				if err != nil {
					rt.Fatal(err)
				}
				parsed, err := gojose.ParseSignedCompact(compact, []gojose.SignatureAlgorithm{gojose.SignatureAlgorithm(alg)})
				if err != nil {
					rt.Fatal(err)
				}
				if got, err := parsed.Verify(key.Public()); err != nil || string(got) != string(payload) {
					rt.Fatalf("go-jose: %q, %v", got, err)
				}
				signed, err := theirs.Sign(payload)
				if err != nil {
					rt.Fatal(err)
				}
				if compact, err = signed.CompactSerialize(); err != nil {
					rt.Fatal(err)
				}
				verifyOurs(rt, compact, payload, rules, ours.Key())
			})
		})
	}
}

func verifyOurs(t interface{ Fatal(...any) }, compact string, payload []byte, rules jose.Rules, key jose.Key) {
	j, err := jose.Parse(compact, rules)
	if err != nil {
		t.Fatal(err)
	}
	got, err := j.Verify(key)
	if err != nil || string(got) != string(payload) {
		t.Fatal(string(got), err)
	}
}

// Detached, unencoded: any octets, and go-jose agrees on ES256.
func TestInteropDetached(t *testing.T) {
	for _, alg := range []jose.Alg{jose.ES256, jose.EdDSA} {
		key := keyFor(t, alg)
		ours := newSigner(t, key, alg, "k1")
		rules := jose.Rules{Algs: []jose.Alg{alg}, Critical: []string{"b64"}}
		rapid.Check(t, func(rt *rapid.T) {
			payload := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(rt, "payload")
			compact, err := ours.SignDetached(map[string]any{"typ": "x"}, payload)
			if err != nil {
				rt.Fatal(err)
			}
			j, err := jose.ParseDetached(compact, payload, rules)
			if err != nil {
				rt.Fatal(err)
			}
			if _, err := j.Verify(ours.Key()); err != nil {
				rt.Fatal(err)
			}
			theirs, err := gojose.ParseDetached(compact, payload, []gojose.SignatureAlgorithm{gojose.SignatureAlgorithm(alg)})
			if err != nil {
				rt.Fatal(err)
			}
			if err := theirs.DetachedVerify(payload, key.Public()); err != nil {
				rt.Fatal(err)
			}
			other := append(slices.Clone(payload), 0)
			if j, err = jose.ParseDetached(compact, other, rules); err != nil {
				rt.Fatal(err)
			}
			if _, err := j.Verify(ours.Key()); !errors.Is(err, jose.ErrSignature) {
				rt.Fatal(err)
			}
		})
	}
}

func TestDetachedNeedsAnEmptyPart(t *testing.T) { // X05
	s := newSigner(t, ecKey(t, elliptic.P256()), jose.ES256, "")
	compact, err := s.Sign(nil, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	rules := jose.Rules{Algs: []jose.Alg{jose.ES256}}
	if _, err := jose.ParseDetached(compact, []byte("x"), rules); !errors.Is(err, jose.ErrMalformed) {
		t.Errorf("payload inside: %v", err)
	}
	parts := strings.Split(compact, ".")
	j, err := jose.ParseDetached(parts[0]+".."+parts[2], []byte("x"), rules)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := j.Verify(s.Key()); err != nil {
		t.Error("control:", err)
	}
}

// Any two keys of any two algorithms: only the right pair verifies.
func TestOnlyTheRightKeyAndAlgorithm(t *testing.T) {
	algs := asymmetric()
	rules := jose.Rules{Algs: allAlgs()}
	type made struct {
		compact string
		key     jose.Key
	}
	all := make(map[jose.Alg]made)
	for _, alg := range algs {
		s := newSigner(t, keyFor(t, alg), alg, "")
		compact, err := s.Sign(nil, []byte("{}"))
		if err != nil {
			t.Fatal(err)
		}
		all[alg] = made{compact, s.Key()}
	}
	for a, m := range all {
		for b, other := range all {
			err := attempt{m.compact, rules, other.key}.run()
			if a == b && err != nil || a != b && !errors.Is(err, jose.ErrKey) {
				t.Errorf("%s message, %s key: %v", a, b, err)
			}
		}
	}
}

func TestNewSignerRefuses(t *testing.T) {
	p256 := ecKey(t, elliptic.P256())
	for name, f := range map[string]func() (*jose.Signer, error){
		"P-256 for ES384": func() (*jose.Signer, error) { return jose.NewSigner(p256, jose.ES384, "") },
		"P-224":           func() (*jose.Signer, error) { return jose.NewSigner(ecKey(t, elliptic.P224()), jose.ES256, "") },
		"EC for EdDSA":    func() (*jose.Signer, error) { return jose.NewSigner(p256, jose.EdDSA, "") },
		"EC for HS256":    func() (*jose.Signer, error) { return jose.NewSigner(p256, jose.HS256, "") },
		"none":            func() (*jose.Signer, error) { return jose.NewSigner(p256, "none", "") },
		"no key":          func() (*jose.Signer, error) { return jose.NewSigner(nil, jose.ES256, "") },
		"kid not UTF-8":   func() (*jose.Signer, error) { return jose.NewSigner(p256, jose.ES256, "\xff") },
		"kid too long":    func() (*jose.Signer, error) { return jose.NewSigner(p256, jose.ES256, strings.Repeat("k", 513)) },
	} {
		if _, err := f(); !errors.Is(err, jose.ErrKey) && !errors.Is(err, jose.ErrAlg) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := jose.NewSigner(p256, jose.ES256, "k"); err != nil {
		t.Error("control:", err)
	}
}

func TestSignHeaders(t *testing.T) {
	s := newSigner(t, ecKey(t, elliptic.P256()), jose.ES256, "k1")
	for name, value := range map[string]any{
		"alg": "none", "kid": "k2", "b64": false, "zip": "DEF", "enc": "A128GCM",
		"jwk": map[string]any{"kty": "oct", "k": "AA"}, "x": make(chan int), "twice": json.RawMessage(`{"a":1,"a":2}`),
	} {
		if _, err := s.Sign(map[string]any{name: value}, nil); err == nil {
			t.Errorf("header %q accepted", name)
		}
	}
	if _, err := s.SignDetached(map[string]any{"crit": []string{"x"}}, nil); err == nil {
		t.Error("crit of a caller accepted")
	}
	compact, err := s.Sign(map[string]any{"typ": "at+jwt", "jwk": s.Key(), "x": 1}, []byte("{}"))
	if err != nil {
		t.Fatal(err)
	}
	j, err := jose.Parse(compact, jose.Rules{Algs: []jose.Alg{jose.ES256}, AllowJWK: true})
	if err != nil {
		t.Fatal(err)
	}
	if got := slices.Sorted(maps.Keys(j.Header.Raw)); !slices.Equal(got, []string{"alg", "jwk", "kid", "typ", "x"}) {
		t.Errorf("members %q", got)
	}
	if j.Header.KeyID != "k1" || j.Header.Type != "at+jwt" || !samePublic(j.Header.JWK.Public, s.Key().Public) {
		t.Errorf("header %+v", j.Header)
	}
}

// badSigner answers with what a broken HSM might.
type badSigner struct {
	crypto.Signer
	answer []byte
	err    error
}

func (b badSigner) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { return b.answer, b.err }

func TestSignerAnswers(t *testing.T) {
	down := errors.New("HSM is gone")
	for name, b := range map[string]badSigner{
		"error":           {err: down},
		"empty":           {},
		"raw, not DER":    {answer: make([]byte, 64)},
		"r zero":          {answer: []byte{0x30, 6, 2, 1, 0, 2, 1, 1}},
		"r negative":      {answer: []byte{0x30, 6, 2, 1, 0x80, 2, 1, 1}},
		"r not minimal":   {answer: []byte{0x30, 7, 2, 2, 0, 1, 2, 1, 1}},
		"trailing byte":   {answer: []byte{0x30, 6, 2, 1, 1, 2, 1, 1, 0}},
		"trailing inside": {answer: []byte{0x30, 7, 2, 1, 1, 2, 1, 1, 0}},
		"cut":             {answer: []byte{0x30, 6, 2, 1, 1, 2, 9, 1}},
		"long form":       {answer: []byte{0x30, 0x81, 6, 2, 1, 1, 2, 1, 1}},
		"other curve":     {answer: append(append([]byte{0x30, 38, 2, 33}, slices.Repeat([]byte{1}, 33)...), 2, 1, 1)},
	} {
		b.Signer = ecKey(t, elliptic.P256())
		_, err := newSigner(t, b, jose.ES256, "").Sign(nil, nil)
		if !errors.Is(err, jose.ErrSigner) || b.err != nil && !errors.Is(err, down) {
			t.Errorf("%s: %v", name, err)
		}
	}
	ok := badSigner{Signer: ecKey(t, elliptic.P256()), answer: []byte{0x30, 6, 2, 1, 1, 2, 1, 2}}
	compact, err := newSigner(t, ok, jose.ES256, "").Sign(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	sig := unb64(t, compact[strings.LastIndexByte(compact, '.')+1:])
	if len(sig) != 64 || sig[31] != 1 || sig[63] != 2 {
		t.Errorf("signature %x", sig)
	}
}
