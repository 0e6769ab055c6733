package keyring

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"

	"github.com/stella-ops/stella/internal/fault"
)

// Provider is where private keys live that never leave it: an HSM or a key
// management service. Its keys are EC P-256 and are named by references: URIs
// of its scheme, which hold no secret. Errors of an outage are of fault kind
// Transient; a key that is not there is fs.ErrNotExist.
type Provider interface {
	// Make makes a key under a name of letters, digits and hyphens, for signing
	// only and not extractable, and returns its reference; if there is a key of
	// that name, it returns that one's. The reference names this very key for as
	// long as it exists, whatever becomes of the name.
	Make(ctx context.Context, name string) (ref string, err error)
	// Adopt checks a key that an operator made and returns its reference, with
	// whatever pins it down further. A key that was ever outside the provider, or
	// may leave it, is refused, and so is one that signs by another algorithm.
	Adopt(ctx context.Context, ref string) (pinned string, err error)
	// Open finds the key that a reference names.
	Open(ctx context.Context, ref string) (RemoteKey, error)
	// Destroy makes a key unusable, as finally as the provider allows, and no
	// other key. A missing key is no error.
	Destroy(ctx context.Context, ref string) error
}

// RemoteKey is a private key at a Provider, safe for concurrent use.
type RemoteKey interface {
	// Public is the public half, asked for once by Open.
	Public() *ecdsa.PublicKey
	// SignDigest signs a SHA-256 digest and returns an ASN.1 ECDSA signature.
	SignDigest(ctx context.Context, digest []byte) ([]byte, error)
}

// How long a provider may take.
const (
	makeWithin    = 30 * time.Second
	destroyWithin = 10 * time.Second
	openWithin    = 3 * time.Second
	signWithin    = 2 * time.Second
)

// scheme is the provider of a reference, or "" for a file of the Store.
func scheme(ref string) string {
	s, _, ok := strings.Cut(ref, ":")
	if !ok {
		return ""
	}
	return s
}

func (k *Keyring) provider(name string) (Provider, error) {
	if p := k.o.Providers[name]; p != nil {
		return p, nil
	}
	return nil, &ProviderError{fault.Errorf(fault.Config, "%q is not configured here", name).
		Hint("set signing.%s in the Authority's configuration", name)}
}

// remoteSigner makes a crypto.Signer of a RemoteKey: bounded in time, and no
// signature leaves it that does not verify.
type remoteSigner struct {
	key  RemoteKey
	last atomic.Pointer[error] // of the latest signature
}

// Public implements crypto.Signer.
func (s *remoteSigner) Public() crypto.PublicKey { return s.key.Public() }

// Sign implements crypto.Signer.
func (s *remoteSigner) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if opts.HashFunc() != crypto.SHA256 || len(digest) != sha256.Size {
		return nil, fmt.Errorf("internal error: not a SHA-256 digest")
	}
	ctx, cancel := context.WithTimeout(context.Background(), signWithin)
	defer cancel()
	return s.sign(ctx, digest)
}

func (s *remoteSigner) sign(ctx context.Context, digest []byte) ([]byte, error) {
	sig, err := s.key.SignDigest(ctx, digest)
	if err = ofProvider(ctx, err); err == nil && !ecdsa.VerifyASN1(s.key.Public(), digest, sig) {
		err = &ProviderError{fault.Errorf(fault.Trust, "it returned a signature that the key's public half does not verify")}
	}
	s.last.Store(&err)
	if err != nil {
		return nil, err
	}
	return sig, nil
}

// trouble is the error of the latest signature.
func (s *remoteSigner) trouble() error {
	if err := s.last.Load(); err != nil {
		return *err
	}
	return nil
}

// ProviderError says that a Provider did not do what was asked of it. Its kind
// is that of Err; whoever drives the keyring may read it, for that is not who
// has to log in there.
type ProviderError struct{ Err error }

// Error implements error.
func (e *ProviderError) Error() string { return "the provider of keys: " + e.Err.Error() }

// Unwrap returns what the provider said.
func (e *ProviderError) Unwrap() error { return e.Err }

// ofProvider marks an error of a provider. A call that was cut short is
// Transient, as it deserves.
func ofProvider(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		err = fault.Errorf(fault.Transient, "no answer in time: %w", err)
	}
	return &ProviderError{err}
}
