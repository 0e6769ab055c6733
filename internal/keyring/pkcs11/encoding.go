package pkcs11

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/asn1"
	"fmt"
	"math/big"
)

const (
	pointSize = 65 // 04 || X || Y on P-256
	halfSize  = 32 // of a signature r || s
)

// publicKey reads CKA_EC_POINT. PKCS #11 v2.40 (current mechanisms, 2.3.3) wants
// the point in a DER OCTET STRING, but some tokens give it bare.
func publicKey(point []byte) (*ecdsa.PublicKey, error) {
	if len(point) != pointSize {
		var inner []byte
		rest, err := asn1.Unmarshal(point, &inner)
		if err != nil || len(rest) != 0 || len(inner) != pointSize {
			return nil, fmt.Errorf("its CKA_EC_POINT of %d bytes is no uncompressed P-256 point", len(point))
		}
		point = inner
	}
	pub, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		return nil, fmt.Errorf("reading its CKA_EC_POINT: %w", err)
	}
	return pub, nil
}

// signature makes the ASN.1 form (RFC 3279, section 2.2.3) of what CKM_ECDSA
// gives: r and s, of equal length, one behind the other.
func signature(rs []byte) ([]byte, error) {
	if len(rs) != 2*halfSize {
		return nil, fmt.Errorf("the token's signature has %d bytes, want %d", len(rs), 2*halfSize)
	}
	zero := make([]byte, halfSize)
	if bytes.Equal(rs[:halfSize], zero) || bytes.Equal(rs[halfSize:], zero) {
		return nil, fmt.Errorf("the token's signature is zero")
	}
	return asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(rs[:halfSize]), new(big.Int).SetBytes(rs[halfSize:])})
}
