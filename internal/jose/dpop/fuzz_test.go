package dpop_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	gojose "github.com/go-jose/go-jose/v4"

	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/jose/dpop"
)

// FuzzVerify feeds whole header values: only what go-jose verifies too with
// the embedded key may pass.
func FuzzVerify(f *testing.F) {
	data, err := os.ReadFile("testdata/rfc9449-examples.json")
	if err != nil {
		f.Fatal(err)
	}
	var v struct{ Proofs []struct{ Proof string } }
	if err := json.Unmarshal(data, &v); err != nil {
		f.Fatal(err)
	}
	for _, p := range v.Proofs {
		f.Add(p.Proof)
	}
	f.Add(newFixture(f).good())
	f.Add("e30.e30.AA")
	f.Fuzz(func(t *testing.T, proof string) {
		got, err := dpop.Verify([]string{proof}, check())
		if err != nil {
			if !errors.Is(err, dpop.ErrInvalidProof) {
				t.Fatalf("foreign error %v", err)
			}
			return
		}
		j, err := gojose.ParseSignedCompact(proof, []gojose.SignatureAlgorithm{gojose.ES256, gojose.EdDSA})
		if err != nil {
			t.Fatalf("go-jose refuses %q: %v", proof, err)
		}
		if _, err := j.Verify(got.Key.Public); err != nil {
			t.Fatalf("go-jose: %v", err)
		}
	})
}

// FuzzClaims signs whatever the claims are, so that the checks behind the
// signature are reached.
func FuzzClaims(f *testing.F) {
	f.Add(`{"jti":"a","htm":"POST","htu":"https://a.example/token","iat":1800000000}`)
	f.Add(`{"jti":"a","htm":"POST","htu":"HTTPS://A.example:443/./%74oken?x#y","iat":1800000030,"nonce":"n","ath":"x"}`)
	f.Add(`{"jti":"","htm":"GET","htu":"","iat":-1}`)
	// Ed25519, since its signatures have nothing random that would unsettle the fuzzer.
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	signer, err := jose.NewSigner(key, jose.EdDSA, "")
	if err != nil {
		f.Fatal(err)
	}
	jkt, err := signer.Key().Thumbprint()
	if err != nil {
		f.Fatal(err)
	}
	bound, err := signer.Bind(map[string]any{"typ": dpop.Type, "jwk": jose.Key{Public: key.Public()}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, claims string) {
		proof, err := bound.Sign([]byte(claims))
		if err != nil {
			t.Fatal(err)
		}
		got, err := dpop.Verify([]string{proof}, check())
		if err != nil {
			if !errors.Is(err, dpop.ErrInvalidProof) {
				t.Fatalf("foreign error %v", err)
			}
			return
		}
		var raw map[string]json.RawMessage
		if err := json.Unmarshal([]byte(claims), &raw); err != nil {
			t.Fatal(err)
		}
		var c struct {
			Jti, Htm, Htu string
			Iat           int64
		}
		for name, v := range map[string]any{"jti": &c.Jti, "htm": &c.Htm, "htu": &c.Htu, "iat": &c.Iat} {
			if err := json.Unmarshal(raw[name], v); err != nil {
				t.Fatal(err)
			}
		}
		if c.Htm != method || c.Jti != got.ID || c.Iat != got.IssuedAt.Unix() || len(c.Jti) == 0 || len(c.Jti) > 256 {
			t.Fatalf("accepted %q as %+v", claims, got)
		}
		if age := now.Unix() - c.Iat; age > 30 || age < -30 {
			t.Fatalf("accepted iat %d s old", age)
		}
		if !strings.Contains(strings.ToLower(c.Htu), "://") {
			t.Fatalf("accepted htu %q", c.Htu)
		}
		if got.ReplayBy.Before(now) || got.JKT != jkt || len(got.ReplayKey) != len(b64(make([]byte, sha256.Size))) {
			t.Fatalf("%+v", got)
		}
	})
}
