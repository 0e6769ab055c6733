// Package detached verifies and makes detached JWS (RFC 7515 appendix F, RFC
// 7797) over payloads of any size as a stream.
//
// It guarantees that a payload is read once (twice for signing with Ed25519, as
// RFC 8032 demands), that memory stays constant whatever its size, and that a
// verdict is the one that package jose would give on the whole payload: the
// same rules on header, algorithm and key, and Ed25519 signatures accepted and
// refused exactly as crypto/ed25519 does. HMAC is refused always: who can
// verify with a shared key can forge with it. No payload byte is vouched for
// before Verify has returned nil.
package detached

import (
	"context"
	"fmt"
	"hash"
	"io"

	"github.com/stella-ops/stella/internal/jose"
)

// Verifier takes the payload of one detached JWS as it comes: an io.Writer and
// an io.ReaderFrom, bounded by nothing. It is for one goroutine at a time and
// holds less than 1.5 MiB. A payload as it is (b64 false) is hashed by the
// caller's goroutine; base64url above 256 KiB is hashed by another one, while
// the caller's encodes. NewLane(verifier) gives any payload a goroutine.
type Verifier struct {
	opened *jose.Opened
	key    jose.Key
	sum    hash.Hash
	ed     *edSignature // EdDSA only
	in     *input
	spent  bool
}

// Open reads a compact JWS with an empty payload part, asks key for the key that
// the header names and checks that it fits and that the signature has the right
// form, before any payload is read. Payloads as they are (b64 false) need "b64"
// in crit and in rules.Critical (RFC 7797 section 6); rules.MaxBytes bounds the
// JWS. Errors wrap what key returned, or jose.ErrMalformed, ErrTooLarge, ErrAlg
// (also for HS*), ErrCritical, ErrType, ErrKey or ErrSignature.
//
// Close the Verifier when it is not needed any more.
func Open(compact string, key func(h jose.Header) (jose.Key, error), rules jose.Rules) (*Verifier, error) {
	o, err := jose.OpenDetached(compact, rules)
	if err != nil {
		return nil, fmt.Errorf("opening detached JWS: %w", err)
	}
	switch o.Header.Alg {
	case jose.HS256, jose.HS384, jose.HS512:
		return nil, fmt.Errorf("opening detached JWS: %w: %q needs a shared key", jose.ErrAlg, o.Header.Alg)
	}
	k, err := key(o.Header)
	if err != nil {
		return nil, fmt.Errorf("choosing the key of a detached JWS: %w", err)
	}
	v := &Verifier{opened: o, key: k}
	if err := o.Fits(k); err != nil {
		return nil, fmt.Errorf("opening detached JWS: %w", err)
	}
	if o.Header.Alg == jose.EdDSA {
		if v.ed, err = openEd(k, o.Signature()); err != nil {
			return nil, fmt.Errorf("opening detached JWS: %w", err)
		}
		v.sum = v.ed.hash()
	} else {
		v.sum = o.Hash().New()
	}
	io.WriteString(v.sum, o.Prefix())
	v.in = newInput(v.sum, o.Header.B64)
	return v, nil
}

// Header is the protected header. Before Verify it is only what the JWS claims.
func (v *Verifier) Header() jose.Header { return v.opened.Header }

// Key is the key that Open was given, also before Verify.
func (v *Verifier) Key() jose.Key { return v.key }

// Write takes the next bytes of the payload. Its only error is ErrClosed.
func (v *Verifier) Write(p []byte) (int, error) {
	n, err := v.in.Write(p)
	if err != nil {
		return n, fmt.Errorf("writing payload: %w", err)
	}
	return n, nil
}

// ReadFrom takes the rest of the payload from r. Its errors are those of r,
// and ErrClosed.
func (v *Verifier) ReadFrom(r io.Reader) (int64, error) {
	n, err := v.in.ReadFrom(r)
	if err != nil {
		return n, fmt.Errorf("reading payload: %w", err)
	}
	return n, nil
}

// Verify tells, after the last byte, whether the signature is one of the key
// over the payload. The Verifier is closed by it. The error wraps
// jose.ErrSignature, or ErrClosed in a second call or after Close.
func (v *Verifier) Verify() error {
	if v.spent {
		return fmt.Errorf("verifying detached JWS: %w", ErrClosed)
	}
	if err := v.Close(); err != nil {
		return fmt.Errorf("verifying detached JWS: %w", err)
	}
	digest := v.sum.Sum(nil)
	if v.ed != nil {
		return v.ed.verify(v.key, digest)
	}
	return v.opened.VerifyDigest(v.key, digest)
}

// Close ends the Verifier and its goroutine, if it has one. It may be called at
// any time, also after Verify, and more than once; its error is always nil.
func (v *Verifier) Close() error {
	v.spent = true
	return v.in.Close()
}

// VerifyReader gives all of r to the Verifier, verifies and closes it. It
// answers how many bytes r had. The context is looked at between reads; a read
// that blocks is for r to end. Errors are those of r, of Verify, or the cause
// of ctx.
func VerifyReader(ctx context.Context, r io.Reader, v *Verifier) (int64, error) {
	n, err := v.ReadFrom(live{ctx, r})
	if err != nil {
		v.Close()
		return n, err
	}
	return n, v.Verify()
}

// live reads while its context lives.
type live struct {
	ctx context.Context
	r   io.Reader
}

func (l live) Read(p []byte) (int, error) {
	if l.ctx.Err() != nil {
		return 0, context.Cause(l.ctx)
	}
	return l.r.Read(p)
}
