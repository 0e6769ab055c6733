package detached

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha512"
	"fmt"
	"hash"

	"filippo.io/edwards25519"

	"github.com/stella-ops/stella/internal/jose"
)

// edSignature verifies one Ed25519 signature over a message that is hashed
// elsewhere (RFC 8032 section 5.1.7), without the cofactor and by comparing
// encodings: accepted is what crypto/ed25519 accepts, nothing else.
type edSignature struct {
	pub    ed25519.PublicKey
	r      []byte // the first half, never decoded
	s      *edwards25519.Scalar
	minusA *edwards25519.Point
}

// openEd reads public key and signature. A key that is no point verifies
// nothing, in crypto/ed25519 too; so does an s that is not below the order.
func openEd(key jose.Key, sig []byte) (*edSignature, error) {
	pub, ok := key.Public.(ed25519.PublicKey)
	if !ok || len(sig) != ed25519.SignatureSize {
		return nil, fmt.Errorf("%w: not an Ed25519 signature", jose.ErrSignature)
	}
	a, err := new(edwards25519.Point).SetBytes(pub)
	if err != nil {
		return nil, fmt.Errorf("%w: Ed25519 key %q is no point of the curve", jose.ErrSignature, key.KeyID)
	}
	s, err := edwards25519.NewScalar().SetCanonicalBytes(sig[32:])
	if err != nil {
		return nil, fmt.Errorf("%w: s is out of range", jose.ErrSignature)
	}
	return &edSignature{pub, sig[:32], s, a.Negate(a)}, nil
}

// hash is the one that the message goes into; R and A are in it already.
func (e *edSignature) hash() hash.Hash {
	h := sha512.New()
	h.Write(e.r)
	h.Write(e.pub)
	return h
}

// verify checks that [s]B - [k]A encodes to R, k being the sum.
func (e *edSignature) verify(key jose.Key, sum []byte) error {
	k, err := edwards25519.NewScalar().SetUniformBytes(sum)
	if err != nil {
		return fmt.Errorf("%w: %v", jose.ErrSignature, err)
	}
	r := new(edwards25519.Point).VarTimeDoubleScalarBaseMult(k, e.minusA, e.s)
	if !bytes.Equal(r.Bytes(), e.r) {
		return fmt.Errorf("%w with Ed25519 key %q", jose.ErrSignature, key.KeyID)
	}
	return nil
}
