// Package jose parses, verifies and makes JWS, JWK and JWT (RFC 7515, 7517,
// 7519, 7638, 7797, 8037), strictly.
package jose

import (
	"crypto"
	"encoding/json"
	"errors"
	"time"
)

// Alg is a JWS algorithm name (RFC 7518 section 3.1, RFC 8037).
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
	ErrMalformed = errors.New("malformed")
	ErrTooLarge  = errors.New("too large")
	ErrAlg       = errors.New("algorithm not allowed")
	ErrCritical  = errors.New("critical header not understood")
	ErrType      = errors.New("type not allowed")
	ErrKey       = errors.New("key not usable")
	ErrSignature = errors.New("signature does not verify")
	ErrExpired   = errors.New("expired")
	ErrNotYet    = errors.New("not yet valid")
)

// Key is a public JWK (or, for HS* in tests and Basic-derived uses, a symmetric one).
type Key struct {
	KeyID  string
	Alg    Alg    // "" when the JWK has none
	Use    string // "" or "sig", …
	Public any    // *ecdsa.PublicKey, ed25519.PublicKey, *rsa.PublicKey or []byte (oct)
	Extra  map[string]json.RawMessage
}

// NewKey makes a JWK for a public key.
func NewKey(pub crypto.PublicKey, kid string, alg Alg) (Key, error) { panic("todo") }

// ParseKey parses one public JWK. Private members are refused.
func ParseKey(data []byte) (Key, error) { panic("todo") }

// ParsePrivateKey parses a private JWK (tests, air gap).
func ParsePrivateKey(data []byte) (crypto.Signer, Key, error) { panic("todo") }

// Thumbprint is the RFC 7638 SHA-256 thumbprint, base64url.
func (k Key) Thumbprint() (string, error) { panic("todo") }

// MarshalJSON writes the public JWK with members in lexical order.
func (k Key) MarshalJSON() ([]byte, error) { panic("todo") }

// UnmarshalJSON is ParseKey.
func (k *Key) UnmarshalJSON(data []byte) error { panic("todo") }

// Set is a JWK set (RFC 7517 section 5).
type Set struct {
	Keys []Key `json:"keys"`
}

// MaxSetBytes and MaxSetKeys bound a JWK set.
const (
	MaxSetBytes = 256 << 10
	MaxSetKeys  = 100
)

// ParseSet parses a JWK set: bounded, no private members, no kid twice; keys of an unknown kty are skipped.
func ParseSet(data []byte) (Set, error) { panic("todo") }

// Key finds the key with that kid.
func (s Set) Key(kid string) (Key, bool) { panic("todo") }

// Header is a parsed protected header.
type Header struct {
	Alg      Alg
	KeyID    string
	Type     string // as written
	JWK      *Key   // only when Rules.AllowJWK
	Critical []string
	B64      bool // true unless RFC 7797 says otherwise
	Raw      map[string]json.RawMessage
}

// Rules say what a caller accepts. The zero value accepts nothing.
type Rules struct {
	Algs     []Alg
	Types    []string // accepted typ values, compared per RFC 7515 4.1.9 (case-insensitive, optional application/ prefix); empty: any, also none
	Critical []string // crit names understood (only "b64" has meaning here)
	AllowJWK bool     // a public jwk header is parsed, otherwise refused
	MaxBytes int      // whole JWS; 0 means 16 KiB
}

// JWS is a parsed but not yet verified JWS.
type JWS struct {
	Header Header
	// unexported: signing input, payload, signature
}

// Parse parses a compact JWS.
func Parse(compact string, rules Rules) (*JWS, error) { panic("todo") }

// ParseDetached parses a compact JWS with an empty payload part (RFC 7515 appendix F; RFC 7797 when b64 is false and understood).
func ParseDetached(compact string, payload []byte, rules Rules) (*JWS, error) { panic("todo") }

// UnverifiedPayload is the payload before any check; only for choosing a key.
func (j *JWS) UnverifiedPayload() []byte { panic("todo") }

// Verify checks the signature and returns the payload. Alg must fit the key's type, curve, "alg" and "use".
func (j *JWS) Verify(key Key) ([]byte, error) { panic("todo") }

// Signer makes JWS with one key. It takes any crypto.Signer (HSMs included) and writes JWS signatures, never DER.
type Signer struct{}

// NewSigner binds a private key to an algorithm and kid.
func NewSigner(key crypto.Signer, alg Alg, kid string) (*Signer, error) { panic("todo") }

// Key is the signer's public JWK.
func (s *Signer) Key() Key { panic("todo") }

// Sign makes a compact JWS. Header members besides alg and kid come from header (typ, jwk, …); kid is left out when empty.
func (s *Signer) Sign(header map[string]any, payload []byte) (string, error) { panic("todo") }

// SignDetached makes a compact JWS with an empty payload part, b64=false and crit ["b64"] (RFC 7797).
func (s *Signer) SignDetached(header map[string]any, payload []byte) (string, error) { panic("todo") }

// Claims is a strictly parsed JWT claims set: no duplicate names, NumericDate integers in a sane range.
type Claims struct {
	Issuer    string
	Subject   string
	Audience  []string
	Expiry    time.Time // zero when absent, likewise below
	NotBefore time.Time
	IssuedAt  time.Time
	ID        string
	Raw       map[string]json.RawMessage
}

// ParseClaims parses a JWT payload.
func ParseClaims(payload []byte) (*Claims, error) { panic("todo") }

// Decode unmarshals one claim into v; false when absent.
func (c *Claims) Decode(name string, v any) (bool, error) { panic("todo") }

// ValidAt checks exp (required), nbf and iat against now with the allowed skew.
func (c *Claims) ValidAt(now time.Time, skew time.Duration) error { panic("todo") }

// DecodeStrict unmarshals JSON refusing duplicate member names (at any depth), unknown fields of structs, trailing data and invalid UTF-8.
func DecodeStrict(data []byte, v any) error { panic("todo") }
