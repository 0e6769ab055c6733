// Package jose reads, verifies and makes JWS, JWK and JWT (RFC 7515, 7517,
// 7518, 7519, 7638, 7797 and 8037) strictly.
//
// It guarantees that nothing is accepted that the caller did not list: no
// algorithm outside Rules.Algs ("none" never), no critical header outside
// Rules.Critical, no key of another type, curve, "alg", "use" or "key_ops" than
// the algorithm needs. What is accepted has one reading only: no member name
// twice at any depth, no lax base64, no invalid UTF-8, no DER signature, no
// trailing data, and every size is bounded. Keys that a message brings along
// are never trusted and URLs in a message are never followed.
package jose

import (
	"crypto"
	"errors"
	"fmt"

	"github.com/stella-ops/stella/internal/jose/strictjson"
)

// Alg is a JWS algorithm name (RFC 7518 section 3.1, RFC 8037 section 3.1).
type Alg string

// The algorithms this package knows. Which of them a caller accepts is said in Rules.
const (
	ES256 Alg = "ES256"
	ES384 Alg = "ES384"
	ES512 Alg = "ES512"
	PS256 Alg = "PS256"
	PS384 Alg = "PS384"
	PS512 Alg = "PS512"
	RS256 Alg = "RS256"
	RS384 Alg = "RS384"
	RS512 Alg = "RS512"
	EdDSA Alg = "EdDSA"
	HS256 Alg = "HS256"
	HS384 Alg = "HS384"
	HS512 Alg = "HS512"
)

// Sentinel errors; every error of this package wraps one of them.
var (
	ErrMalformed = strictjson.ErrMalformed
	ErrTooLarge  = errors.New("too large")
	ErrAlg       = errors.New("algorithm not allowed")
	ErrCritical  = errors.New("critical header not understood")
	ErrType      = errors.New("type not allowed")
	ErrKey       = errors.New("key not usable")
	ErrSignature = errors.New("signature does not verify")
	ErrExpired   = errors.New("expired")
	ErrNotYet    = errors.New("not yet valid")
	ErrSigner    = errors.New("signer failed") // the error of the crypto.Signer is wrapped too
)

// family is the kind of signature an algorithm makes.
type family uint8

const (
	familyEC family = iota + 1
	familyPSS
	familyPKCS1
	familyEd
	familyHMAC
)

// suite is what an algorithm name stands for.
type suite struct {
	family family
	hash   crypto.Hash
	size   int    // bytes of one EC coordinate, or of an HMAC
	curve  string // EC only
}

// suiteOf looks an algorithm up; "none" is not among them, in any spelling.
func suiteOf(a Alg) (suite, bool) {
	switch a {
	case ES256:
		return suite{familyEC, crypto.SHA256, 32, "P-256"}, true
	case ES384:
		return suite{familyEC, crypto.SHA384, 48, "P-384"}, true
	case ES512:
		return suite{familyEC, crypto.SHA512, 66, "P-521"}, true
	case PS256:
		return suite{familyPSS, crypto.SHA256, 0, ""}, true
	case PS384:
		return suite{familyPSS, crypto.SHA384, 0, ""}, true
	case PS512:
		return suite{familyPSS, crypto.SHA512, 0, ""}, true
	case RS256:
		return suite{familyPKCS1, crypto.SHA256, 0, ""}, true
	case RS384:
		return suite{familyPKCS1, crypto.SHA384, 0, ""}, true
	case RS512:
		return suite{familyPKCS1, crypto.SHA512, 0, ""}, true
	case EdDSA:
		return suite{familyEd, 0, 0, ""}, true
	case HS256:
		return suite{familyHMAC, crypto.SHA256, 32, ""}, true
	case HS384:
		return suite{familyHMAC, crypto.SHA384, 48, ""}, true
	case HS512:
		return suite{familyHMAC, crypto.SHA512, 64, ""}, true
	}
	return suite{}, false
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrMalformed}, args...)...)
}

func unusable(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrKey}, args...)...)
}

func tooLarge(what string, have, limit int) error {
	return fmt.Errorf("%w: %s has %d bytes, limit %d", ErrTooLarge, what, have, limit)
}

func unknownAlg(alg Alg) error { return fmt.Errorf("%w: %q is not known", ErrAlg, alg) }
