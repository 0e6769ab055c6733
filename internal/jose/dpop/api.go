// Package dpop makes and checks DPoP proofs (RFC 9449).
package dpop

import (
	"crypto"
	"errors"
	"time"

	"github.com/stella-ops/stella/internal/jose"
)

// Every refusal wraps one of these.
var (
	ErrInvalidProof = errors.New("invalid DPoP proof")
	ErrUseNonce     = errors.New("DPoP nonce required")
)

// Type is the typ of a proof.
const Type = "dpop+jwt"

// Prover makes proofs with one key. ES256 for P-256, EdDSA for Ed25519.
type Prover struct{}

// NewProver binds a key.
func NewProver(key crypto.Signer) (*Prover, error) { panic("todo") }

// Thumbprint is the jkt.
func (p *Prover) Thumbprint() string { panic("todo") }

// ProofOptions are the optional parts of a proof.
type ProofOptions struct {
	Now         time.Time
	AccessToken string // sets ath
	Nonce       string
}

// Proof makes a fresh proof for one request. The URL's query and fragment are left out of htu.
func (p *Prover) Proof(method, url string, o ProofOptions) (string, error) { panic("todo") }

// Check is what a proof must satisfy.
type Check struct {
	Method      string
	URL         string // absolute URL of the request as the server knows itself
	Now         time.Time
	MaxAge      time.Duration // oldest accepted iat; 0 means 30 s
	MaxAhead    time.Duration // iat in the future; 0 means 30 s
	Algs        []jose.Alg    // empty means ES256 and EdDSA
	AccessToken string        // non-empty: ath is required and must match
	JKT         string        // non-empty: the proof key must have this thumbprint
	// Nonce, when set, judges the nonce ("" when absent); an error means ErrUseNonce.
	Nonce func(nonce string) error
}

// Proof is a verified proof.
type Proof struct {
	Key       jose.Key
	JKT       string
	ID        string // jti, 1 to 256 bytes
	IssuedAt  time.Time
	ReplayKey string    // what to remember: hash over jkt and jti, fixed length
	ReplayBy  time.Time // until when (IssuedAt + MaxAge + MaxAhead, so that a proof from the future is remembered long enough)
}

// Verify checks the DPoP header values of one request (r.Header.Values("DPoP")). Replay is the caller's to check, with ReplayKey.
func Verify(values []string, c Check) (*Proof, error) { panic("todo") }
