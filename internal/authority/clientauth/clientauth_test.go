package clientauth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"testing"

	"github.com/stella-ops/stella/internal/authority/clients"
	"github.com/stella-ops/stella/internal/jose"
)

// Whatever is wrong with the client of an assertion, a signature of the
// assertion's algorithm is really verified, so that it costs the same.
func TestAssertionOfNobodyIsVerified(t *testing.T) {
	nobody, err := newStandIn()
	if err != nil {
		t.Fatal(err)
	}
	e := &Authenticator{nobody: nobody}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rs, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	signers := map[jose.Alg]crypto.Signer{jose.ES256: ec, jose.EdDSA: edwards, jose.PS256: rs}
	with := func(alg jose.Alg, kid string) *clients.Client {
		k, err := jose.NewKey(signers[alg].Public(), kid, alg)
		if err != nil {
			t.Fatal(err)
		}
		return &clients.Client{ID: "c", Method: clients.PrivateKeyJWT, Keys: jose.Set{Keys: []jose.Key{k}}}
	}
	other := map[jose.Alg]jose.Alg{jose.ES256: jose.EdDSA, jose.EdDSA: jose.PS256, jose.PS256: jose.ES256}
	for alg, priv := range signers {
		s, err := jose.NewSigner(priv, alg, "k")
		if err != nil {
			t.Fatal(err)
		}
		compact, err := s.Sign(nil, []byte(`{}`))
		if err != nil {
			t.Fatal(err)
		}
		j, err := jose.Parse(compact, jose.Rules{Algs: []jose.Alg{alg}})
		if err != nil {
			t.Fatal(err)
		}
		key, ok := e.assertionKey(with(alg, "k"), j.Header)
		if _, err := j.Verify(key); err != nil || !ok {
			t.Fatalf("%s: control: %v %v", alg, ok, err)
		}
		for name, c := range map[string]*clients.Client{
			"unknown client": nil, "other method": {ID: "c", Method: clients.SecretBasic}, "other kid": with(alg, "l"),
			"other algorithm": with(other[alg], "k"),
		} {
			key, ok := e.assertionKey(c, j.Header)
			if _, err := j.Verify(key); ok || !errors.Is(err, jose.ErrSignature) || errors.Is(err, jose.ErrKey) {
				t.Errorf("%s: %s: %v %v", alg, name, ok, err)
			}
		}
	}
}
