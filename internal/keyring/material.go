package keyring

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/jose"
)

// newMaterial makes a P-256 key as PKCS #8 DER.
func newMaterial() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making key: %w", err)
	}
	return x509.MarshalPKCS8PrivateKey(key)
}

// parseMaterial reads PKCS #8 DER. Only P-256 (ES256) is taken: it is what
// every verifier of the platform accepts.
func parseMaterial(pkcs8 []byte) (crypto.Signer, error) {
	parsed, err := x509.ParsePKCS8PrivateKey(pkcs8)
	if err != nil {
		return nil, fault.Errorf(fault.Input, "signing key: not a PKCS #8 private key")
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, fault.Errorf(fault.Input, "signing key: only EC P-256 keys are used (ES256)").
			Hint("openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out KEY.pem")
	}
	return key, nil
}

// describeFile makes the staged Key for private material.
func describeFile(pkcs8 []byte, kid string, now time.Time) (Key, error) {
	signer, err := parseMaterial(pkcs8)
	if err != nil {
		return Key{}, err
	}
	return describe(signer.Public(), kid, now)
}

// describe makes the staged Key for a public one. An empty kid is made from
// the day and the key itself, so that it never names another key.
func describe(public crypto.PublicKey, kid string, now time.Time) (Key, error) {
	jwk, err := jose.NewKey(public, kid, jose.ES256)
	if err != nil {
		return Key{}, fmt.Errorf("describing key: %w", err)
	}
	jwk.Use = "sig"
	if kid == "" {
		if kid, err = deriveKID(jwk, now); err != nil {
			return Key{}, err
		}
		jwk.KeyID = kid
	}
	return Key{KID: kid, Alg: jose.ES256, State: Staged, JWK: jwk, Private: kid, StagedAt: now.UTC()}, nil
}

func deriveKID(jwk jose.Key, now time.Time) (string, error) {
	short, err := shortThumbprint(jwk)
	if err != nil {
		return "", err
	}
	return now.UTC().Format("20060102") + "-" + short, nil
}

// shortThumbprint is the first 48 bits of the RFC 7638 thumbprint in hex.
func shortThumbprint(jwk jose.Key) (string, error) {
	thumb, err := jwk.Thumbprint()
	if err != nil {
		return "", fmt.Errorf("naming key: %w", err)
	}
	raw, err := base64.RawURLEncoding.DecodeString(thumb)
	if err != nil || len(raw) != sha256.Size {
		return "", fmt.Errorf("internal error: thumbprint %q", thumb)
	}
	return hex.EncodeToString(raw[:6]), nil
}

func sameThumbprint(a, b jose.Key) bool {
	x, err1 := a.Thumbprint()
	y, err2 := b.Thumbprint()
	return err1 == nil && err2 == nil && x == y
}
