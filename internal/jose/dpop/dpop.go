// Package dpop makes and checks DPoP proofs (RFC 9449).
//
// It guarantees that an accepted proof was the only one in the request, is
// signed by the private half of the public key it carries, is for this method
// and URL, is fresh on the server's clock, and, where asked, belongs to this
// access token and this key and carries an approved nonce. Whether it has been
// seen before is the caller's to find out; ReplayKey and ReplayBy say what to
// remember and until when.
package dpop

import (
	"errors"
	"fmt"
	"time"

	"github.com/stella-ops/stella/internal/jose"
)

// Every refusal wraps one of these.
var (
	ErrInvalidProof = errors.New("invalid DPoP proof")
	ErrUseNonce     = errors.New("DPoP nonce required")
)

// ErrWrongKey is wrapped, beside ErrInvalidProof, by the refusal of a good proof
// made with another key than Check.JKT names.
var ErrWrongKey = errors.New("proof is by another key")

// Type is the typ of a proof.
const Type = "dpop+jwt"

// Limits of a proof.
const (
	MaxProofBytes = 8 << 10          // the whole header value
	MaxIDBytes    = 256              // jti
	DefaultWindow = 30 * time.Second // MaxAge and MaxAhead of a Check that sets none
)

// Check is what a proof must satisfy.
type Check struct {
	Method      string
	URL         string // absolute URL of the request as the server knows itself
	Now         time.Time
	MaxAge      time.Duration // oldest accepted iat, inclusive; 0 means 30 s, negative none
	MaxAhead    time.Duration // iat in the future, inclusive; 0 means 30 s, negative none
	Algs        []jose.Alg    // empty means ES256 and EdDSA; HS* never count
	AccessToken string        // non-empty: ath is required and must match
	JKT         string        // non-empty: the proof key must have this thumbprint
	// Nonce, when set, judges the nonce ("" when absent); an error means ErrUseNonce.
	// It is asked last, about proofs that are otherwise good.
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

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrInvalidProof}, args...)...)
}
