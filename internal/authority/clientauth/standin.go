package clientauth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"math/big"

	"github.com/stella-ops/stella/internal/jose"
)

// standIn stands in for a client that does not exist, so that the check costs
// the same.
type standIn struct {
	hash [32]byte
	keys map[jose.Alg]jose.Key // one for each algorithm of an assertion
}

// usualRSABits is the most usual size of an RSA key.
const usualRSABits = 2048

func newStandIn() (standIn, error) {
	var d standIn
	if _, err := rand.Read(d.hash[:]); err != nil {
		return d, fmt.Errorf("drawing random bytes: %w", err)
	}
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return d, fmt.Errorf("making a key: %w", err)
	}
	edwards, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return d, fmt.Errorf("making a key: %w", err)
	}
	// Nobody needs the private key: any odd number costs as much to verify
	// with, and is drawn at once.
	n := make([]byte, usualRSABits/8)
	if _, err := rand.Read(n); err != nil {
		return d, fmt.Errorf("drawing random bytes: %w", err)
	}
	n[0] |= 0x80
	n[len(n)-1] |= 1
	d.keys = map[jose.Alg]jose.Key{}
	for alg, public := range map[jose.Alg]crypto.PublicKey{
		jose.ES256: priv.Public(), jose.EdDSA: edwards,
		jose.PS256: &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: 65537},
	} {
		if d.keys[alg], err = jose.NewKey(public, "", alg); err != nil {
			return d, fmt.Errorf("describing a key: %w", err)
		}
	}
	return d, nil
}
