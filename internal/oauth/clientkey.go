package oauth

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/secret"
)

// LoadSigner reads a client's private key from ref: PEM (PKCS #8 or SEC 1) or
// a private JWK; EC, Ed25519 or RSA. kid names it to the Authority; empty
// means the kid of the JWK, else its thumbprint. Errors are of kind Config
// and never contain key material.
func LoadSigner(ref secret.Ref, kid string) (*jose.Signer, error) {
	s, err := ref.Load()
	if err != nil {
		return nil, err
	}
	defer s.Clear()
	key, fromJWK, err := parsePrivate(s.Reveal())
	if err != nil {
		return nil, fault.Errorf(fault.Config, "private key %s: %w", ref, err)
	}
	alg, err := algFor(key)
	if err != nil {
		return nil, fault.Errorf(fault.Config, "private key %s: %w", ref, err)
	}
	if kid == "" {
		kid = fromJWK
	}
	if kid == "" {
		pub, err := jose.NewKey(key.Public(), "", alg)
		if err != nil {
			return nil, fault.Errorf(fault.Config, "private key %s: %w", ref, err)
		}
		if kid, err = pub.Thumbprint(); err != nil {
			return nil, fault.Errorf(fault.Config, "private key %s: %w", ref, err)
		}
	}
	signer, err := jose.NewSigner(key, alg, kid)
	if err != nil {
		return nil, fault.Errorf(fault.Config, "private key %s: %w", ref, err)
	}
	return signer, nil
}

// LoadDPoPKey reads a private key on P-256 from ref, in the forms of
// LoadSigner. Errors are of kind Config.
func LoadDPoPKey(ref secret.Ref) (*ecdsa.PrivateKey, error) {
	s, err := ref.Load()
	if err != nil {
		return nil, err
	}
	defer s.Clear()
	key, _, err := parsePrivate(s.Reveal())
	if err != nil {
		return nil, fault.Errorf(fault.Config, "DPoP key %s: %w", ref, err)
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok || ec.Curve != elliptic.P256() {
		return nil, fault.Errorf(fault.Config, "DPoP key %s is not a P-256 key", ref)
	}
	return ec, nil
}

func parsePrivate(data []byte) (key crypto.Signer, kid string, err error) {
	if trimmed := bytes.TrimSpace(data); len(trimmed) > 0 && trimmed[0] == '{' {
		key, pub, err := jose.ParsePrivateKey(trimmed)
		return key, pub.KeyID, err
	}
	block, rest := pem.Decode(data)
	if block == nil || len(bytes.TrimSpace(rest)) > 0 {
		return nil, "", fmt.Errorf("neither one PEM block nor a JWK")
	}
	if block.Type == "EC PRIVATE KEY" {
		key, err := x509.ParseECPrivateKey(block.Bytes)
		return key, "", err
	}
	any, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, "", fmt.Errorf("not a PKCS #8 private key")
	}
	signer, ok := any.(crypto.Signer)
	if !ok {
		return nil, "", fmt.Errorf("a key of type %T cannot sign", any)
	}
	return signer, "", nil
}

func algFor(key crypto.Signer) (jose.Alg, error) {
	switch k := key.Public().(type) {
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return jose.ES256, nil
		case elliptic.P384():
			return jose.ES384, nil
		case elliptic.P521():
			return jose.ES512, nil
		}
		return "", fmt.Errorf("curve %s is not known", k.Curve.Params().Name)
	case ed25519.PublicKey:
		return jose.EdDSA, nil
	case *rsa.PublicKey:
		return jose.PS256, nil
	}
	return "", fmt.Errorf("no algorithm for a key of type %T", key.Public())
}
