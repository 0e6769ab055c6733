package jose

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"slices"
	"unicode/utf8"

	"github.com/stella-ops/stella/internal/jose/strictjson"
)

// Bounds of key material and of what goes with it.
const (
	MaxKeyIDBytes = 512 // kid, in headers and keys
	minRSABits    = 2048
	maxRSABits    = 8192 // the work of a verification grows with it
)

// Key is a public JWK (RFC 7517 section 4), or a symmetric key for HS*. A
// symmetric key is made with NewKey; it is never parsed from nor written as JSON.
type Key struct {
	KeyID  string
	Alg    Alg    // "" when the JWK has none
	Use    string // "" or "sig", …
	Public any    // *ecdsa.PublicKey, ed25519.PublicKey, *rsa.PublicKey or []byte (oct)
	Extra  map[string]json.RawMessage
}

// NewKey makes a JWK for a public key (or, from a []byte, a symmetric one).
// With an alg, the key must fit it and "use" becomes "sig"; both may be left
// empty. Errors wrap ErrKey, or ErrAlg for an unknown alg.
func NewKey(pub crypto.PublicKey, kid string, alg Alg) (Key, error) {
	k := Key{KeyID: kid, Alg: alg, Public: pub}
	if len(kid) > MaxKeyIDBytes || !utf8.ValidString(kid) {
		return Key{}, unusable("kid is longer than %d bytes or not UTF-8", MaxKeyIDBytes)
	}
	if err := checkMaterial(pub); err != nil {
		return Key{}, err
	}
	if alg != "" {
		k.Use = "sig"
		if err := k.fits(alg); err != nil {
			return Key{}, err
		}
	}
	return k, nil
}

// checkMaterial judges a public key by itself.
func checkMaterial(pub crypto.PublicKey) error {
	switch p := pub.(type) {
	case *ecdsa.PublicKey:
		if p == nil || p.Curve == nil {
			return unusable("no EC key")
		}
		if coordinateSize(p.Curve.Params().Name) == 0 {
			return unusable("curve %s is not known", p.Curve.Params().Name)
		}
		if _, err := p.Bytes(); err != nil {
			return unusable("%v", err)
		}
	case ed25519.PublicKey:
		if len(p) != ed25519.PublicKeySize {
			return unusable("Ed25519 key has %d bytes", len(p))
		}
		if smallOrder(p) {
			return unusable("Ed25519 key is a point of small order")
		}
	case *rsa.PublicKey:
		if p == nil || p.N == nil {
			return unusable("no RSA key")
		}
		if n := p.N.BitLen(); n < minRSABits || n > maxRSABits {
			return unusable("RSA modulus has %d bits, need %d to %d", n, minRSABits, maxRSABits)
		}
		if p.E < 3 || p.E&1 == 0 || p.N.Bit(0) == 0 {
			return unusable("RSA modulus or exponent is even or too small")
		}
	case []byte:
		if len(p) == 0 {
			return unusable("empty symmetric key")
		}
	default:
		return unusable("keys of type %T are not known", pub)
	}
	return nil
}

// fits checks that the key may be used with the algorithm.
func (k Key) fits(alg Alg) error {
	s, ok := suiteOf(alg)
	if !ok {
		return unknownAlg(alg)
	}
	if k.Alg != "" && k.Alg != alg {
		return unusable("key is for %q, not for %q", k.Alg, alg)
	}
	if k.Use != "" && k.Use != "sig" {
		return unusable("key is for use %q", k.Use)
	}
	if raw, ok := k.Extra["key_ops"]; ok {
		ops, err := strictjson.Texts("key_ops", raw)
		if err != nil || !slices.Contains(ops, "verify") {
			return unusable("key_ops does not contain verify")
		}
	}
	if pub, ok := k.Public.(*rsa.PublicKey); ok && pub != nil && pub.N != nil && roca(pub.N) {
		return unusable("RSA key comes from a chip with the ROCA flaw (CVE-2017-15361)")
	}
	return s.fits(alg, k.Public)
}

// fits checks type, curve and size of a key against an algorithm.
func (s suite) fits(alg Alg, pub crypto.PublicKey) error {
	ok := false
	switch p := pub.(type) {
	case *ecdsa.PublicKey:
		ok = s.family == familyEC && p != nil && p.Curve != nil && p.Curve.Params().Name == s.curve
	case *rsa.PublicKey:
		ok = s.family == familyPSS || s.family == familyPKCS1
		if ok {
			return checkMaterial(p)
		}
	case ed25519.PublicKey:
		ok = s.family == familyEd && len(p) == ed25519.PublicKeySize
	case []byte:
		if ok = s.family == familyHMAC; ok && len(p) < s.size {
			return unusable("%s needs a key of %d bytes or more (RFC 7518 section 3.2)", alg, s.size)
		}
	}
	if !ok {
		return unusable("a %s key is not for %s", describe(pub), alg)
	}
	return nil
}

func describe(pub crypto.PublicKey) string {
	switch p := pub.(type) {
	case *ecdsa.PublicKey:
		if p != nil && p.Curve != nil {
			return p.Curve.Params().Name
		}
		return "EC"
	case *rsa.PublicKey:
		return "RSA"
	case ed25519.PublicKey:
		return "Ed25519"
	case []byte:
		return "symmetric"
	}
	return "foreign"
}
