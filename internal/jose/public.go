package jose

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
)

// ParsePublic reads one public key of at most MaxSetBytes: a JWK, or one PEM
// block with a public key (PKIX) or a certificate, of which only the key is
// read. Errors wrap ErrMalformed, ErrTooLarge or ErrKey.
func ParsePublic(data []byte) (crypto.PublicKey, error) {
	if len(data) > MaxSetBytes {
		return nil, tooLarge("public key", len(data), MaxSetBytes)
	}
	if trimmed := bytes.TrimSpace(data); len(trimmed) > 0 && trimmed[0] == '{' {
		key, err := ParseKey(trimmed)
		return key.Public, err
	}
	block, rest := pem.Decode(data)
	if block == nil || len(bytes.TrimSpace(rest)) > 0 {
		return nil, malformed("neither a JWK nor exactly one PEM block")
	}
	var pub crypto.PublicKey
	var err error
	switch block.Type {
	case "PUBLIC KEY":
		pub, err = x509.ParsePKIXPublicKey(block.Bytes)
	case "CERTIFICATE":
		var cert *x509.Certificate
		if cert, err = x509.ParseCertificate(block.Bytes); err == nil {
			pub = cert.PublicKey
		}
	default:
		return nil, unusable("a PEM block %.40q; PUBLIC KEY or CERTIFICATE is needed", block.Type)
	}
	if err != nil {
		return nil, malformed("%w", err)
	}
	return pub, checkMaterial(pub)
}
