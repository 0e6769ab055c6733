package dpop_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"testing"

	"github.com/stella-ops/stella/internal/jose/dpop"
)

// The floor: one point parsed, one hash, one signature verified.
func BenchmarkVerifyFloor(b *testing.B) {
	f := newFixture(b)
	point, err := f.key.PublicKey.Bytes()
	if err != nil {
		b.Fatal(err)
	}
	input := []byte(f.input(f.header(), claims()))
	sum := sha256.Sum256(input)
	sig, err := ecdsa.SignASN1(rand.Reader, f.key, sum[:])
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		pub, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
		if err != nil {
			b.Fatal(err)
		}
		sum := sha256.Sum256(input)
		if !ecdsa.VerifyASN1(pub, sum[:], sig) {
			b.Fatal("does not verify")
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	f := newFixture(b)
	proof := []string{f.sign(f.header(), set(claims(), "ath", ath("tok"), "nonce", "abcdefghijkl"))}
	c := check()
	c.AccessToken, c.JKT = "tok", f.jkt
	b.ReportAllocs()
	for b.Loop() {
		if _, err := dpop.Verify(proof, c); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkProof(b *testing.B) {
	p, err := dpop.NewProver(newFixture(b).key)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Proof(method, target, dpop.ProofOptions{Now: now, AccessToken: "tok"}); err != nil {
			b.Fatal(err)
		}
	}
}
