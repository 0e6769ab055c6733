package jose

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"math/big"
)

// Thumbprint is the SHA-256 thumbprint of RFC 7638 section 3, base64url. The
// error wraps ErrKey; symmetric keys have none here.
func (k Key) Thumbprint() (string, error) {
	m, err := materialOf(k.Public)
	if err != nil {
		return "", err
	}
	b, sep := make([]byte, 0, 256), byte('{')
	for _, p := range m {
		b = append(append(append(b, sep, '"'), p.name...), `":"`...)
		b, sep = append(append(b, p.value...), '"'), ','
	}
	sum := sha256.Sum256(append(b, '}'))
	return encode64(sum[:]), nil
}

// param is one member of a JWK whose value needs no JSON escapes.
type param struct{ name, value string }

// materialOf gives the required members of a public key in lexical order.
func materialOf(pub crypto.PublicKey) ([]param, error) {
	switch p := pub.(type) {
	case *ecdsa.PublicKey:
		if p == nil || p.Curve == nil {
			break
		}
		b, err := p.Bytes()
		crv := p.Curve.Params().Name
		n := coordinateSize(crv)
		if err != nil || n == 0 || len(b) != 1+2*n {
			return nil, unusable("EC key on %q: %v", crv, err)
		}
		return []param{{"crv", crv}, {"kty", "EC"}, {"x", encode64(b[1 : 1+n])}, {"y", encode64(b[1+n:])}}, nil
	case ed25519.PublicKey:
		return []param{{"crv", "Ed25519"}, {"kty", "OKP"}, {"x", encode64(p)}}, nil
	case *rsa.PublicKey:
		if p == nil || p.N == nil {
			break
		}
		var e [8]byte
		binary.BigEndian.PutUint64(e[:], uint64(p.E))
		return []param{{"e", encode64(new(big.Int).SetBytes(e[:]).Bytes())}, {"kty", "RSA"}, {"n", encode64(p.N.Bytes())}}, nil
	}
	return nil, unusable("a %s key has no public JWK", describe(pub))
}

// coordinateSize is the length of a coordinate in bytes, 0 for an unknown curve.
func coordinateSize(curve string) int {
	switch curve {
	case "P-256":
		return 32
	case "P-384":
		return 48
	case "P-521":
		return 66
	}
	return 0
}
