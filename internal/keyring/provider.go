package keyring

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/stella-ops/stella/internal/fault"
)

// Provider is where private keys live that never leave it: an HSM or a key
// management service. Its keys are EC P-256 and are named by references: URIs
// of its scheme, which hold no secret. Errors of an outage are of fault kind
// Transient; a key that is not there is fs.ErrNotExist.
type Provider interface {
	// Make makes a key under a name of letters, digits and hyphens, for signing
	// only and not extractable, and returns its reference and when it was made;
	// if there is a key of that name, it returns that one's. The reference names
	// this very key for as long as it exists, whatever becomes of the name.
	Make(ctx context.Context, name string) (ref string, made time.Time, err error)
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

// How long a provider may take. Opening happens while the history waits, so it
// must stay well below the sign lease.
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

// open returns the private key behind a reference, proved to sign.
func (k *Keyring) open(ctx context.Context, ref string) (crypto.Signer, error) {
	name := scheme(ref)
	if name == "" {
		pkcs8, err := k.store.Key(ctx, ref)
		if err != nil {
			return nil, err
		}
		return parseMaterial(pkcs8)
	}
	p, err := k.provider(name)
	if err != nil {
		return nil, err
	}
	within := openWithin
	if ring := k.Ring(); ring != nil {
		within = min(within, ring.Policy.SignLease.Duration()/3)
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	key, err := p.Open(ctx, ref)
	if err != nil {
		return nil, ofProvider(ctx, err)
	}
	if pub := key.Public(); pub == nil || pub.Curve != elliptic.P256() {
		return nil, fault.Errorf(fault.Input, "%s is no EC P-256 key: only those are used (ES256)", ref)
	}
	// A key that may be read but not used must not become the active one.
	probe := sha256.Sum256([]byte("stella: may this key sign? " + rand.Text()))
	if _, err := (remoteSigner{key}).sign(ctx, probe[:]); err != nil {
		return nil, err
	}
	return remoteSigner{key}, nil
}

// remoteSigner makes a crypto.Signer of a RemoteKey: bounded in time, and no
// signature leaves it that does not verify.
type remoteSigner struct{ key RemoteKey }

func (s remoteSigner) Public() crypto.PublicKey { return s.key.Public() }

func (s remoteSigner) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if opts.HashFunc() != crypto.SHA256 || len(digest) != sha256.Size {
		return nil, fmt.Errorf("internal error: not a SHA-256 digest")
	}
	ctx, cancel := context.WithTimeout(context.Background(), signWithin)
	defer cancel()
	return s.sign(ctx, digest)
}

func (s remoteSigner) sign(ctx context.Context, digest []byte) ([]byte, error) {
	sig, err := s.key.SignDigest(ctx, digest)
	if err != nil {
		return nil, ofProvider(ctx, err)
	}
	if !ecdsa.VerifyASN1(s.key.Public(), digest, sig) {
		return nil, &ProviderError{fault.Errorf(fault.Trust, "it returned a signature that the key's public half does not verify")}
	}
	return sig, nil
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

// destroyRemote destroys at their providers the keys that were made there and
// are over. What it misses, the next change destroys.
func (k *Keyring) destroyRemote(ctx context.Context) {
	for ref, kid := range k.overRemote() {
		if err := k.destroy(ctx, ref); err != nil {
			k.o.Log.WarnContext(ctx, "destroying private key", "kid", kid, "ref", ref, "err", err)
			continue
		}
		k.mu.Lock()
		delete(k.remote, ref)
		k.mu.Unlock()
	}
}

func (k *Keyring) overRemote() map[string]string {
	k.mu.Lock()
	defer k.mu.Unlock()
	over := map[string]string{}
	for ref, kid := range k.remote {
		if key := k.Ring().Find(kid); key == nil || key.State.Ended() {
			over[ref] = kid
		}
	}
	return over
}

func (k *Keyring) destroy(ctx context.Context, ref string) error {
	p, err := k.provider(scheme(ref))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), destroyWithin)
	defer cancel()
	return ofProvider(ctx, p.Destroy(ctx, ref))
}
