package jose_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"testing"

	"github.com/stella-ops/stella/internal/jose"
)

var benchClaims = []byte(`{"iss":"https://authority.example","sub":"svc-feedser","aud":["https://jobs.example"],"exp":1900000000,"iat":1899999700,"jti":"c2FtcGxlLWp0aS1zYW1wbGU","client_id":"feedser","scope":"feedser.jobs.trigger","tenant":"default","cnf":{"jkt":"0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}}`)

// The floor: one hash and one signature over bytes of a token's length.
func BenchmarkSignFloor(b *testing.B) {
	key := ecKey(b, elliptic.P256())
	input := make([]byte, len(benchClaims)*4/3+80)
	b.ReportAllocs()
	for b.Loop() {
		sum := sha256.Sum256(input)
		if _, err := ecdsa.SignASN1(rand.Reader, key, sum[:]); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSign(b *testing.B) {
	s := newSigner(b, ecKey(b, elliptic.P256()), jose.ES256, "authority-signing-2026")
	header := map[string]any{"typ": "at+jwt"}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Sign(header, benchClaims); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSignBound(b *testing.B) {
	s, err := newSigner(b, ecKey(b, elliptic.P256()), jose.ES256, "authority-signing-2026").Bind(map[string]any{"typ": "at+jwt"})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Sign(benchClaims); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerifyFloor(b *testing.B) {
	key := ecKey(b, elliptic.P256())
	input := make([]byte, len(benchClaims)*4/3+80)
	sum := sha256.Sum256(input)
	sig, err := ecdsa.SignASN1(rand.Reader, key, sum[:])
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		sum := sha256.Sum256(input)
		if !ecdsa.VerifyASN1(&key.PublicKey, sum[:], sig) {
			b.Fatal("does not verify")
		}
	}
}

func BenchmarkParseVerifyClaims(b *testing.B) {
	s := newSigner(b, ecKey(b, elliptic.P256()), jose.ES256, "authority-signing-2026")
	compact, err := s.Sign(map[string]any{"typ": "at+jwt"}, benchClaims)
	if err != nil {
		b.Fatal(err)
	}
	rules := jose.Rules{Algs: []jose.Alg{jose.ES256}, Types: []string{"at+jwt"}}
	key := s.Key()
	b.ReportAllocs()
	for b.Loop() {
		j, err := jose.Parse(compact, rules)
		if err != nil {
			b.Fatal(err)
		}
		payload, err := j.Verify(key)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := jose.ParseClaims(payload); err != nil {
			b.Fatal(err)
		}
	}
}
