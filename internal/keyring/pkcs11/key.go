//go:build pkcs11 && cgo

package pkcs11

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"

	p11 "github.com/miekg/pkcs11"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/keyring"
)

// Open implements keyring.Provider: it finds the private key by its CKA_ID alone
// and reads the public key object of the same CKA_ID. Errors: Input for a bad
// reference, fs.ErrNotExist for a missing key, Config for two keys of one CKA_ID
// or no public half, Transient for a token that is away, Config for a refused
// PIN; and the key is held to what a name is by Make.
func (p *Provider) Open(ctx context.Context, ref string) (keyring.RemoteKey, error) {
	r, err := p.o.parse(ref)
	if err != nil {
		return nil, err
	}
	pub, err := do(ctx, p, func(_ context.Context, s session) (*ecdsa.PublicKey, error) { return s.pair(r.id) })
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", r, err)
	}
	return key{p, r, pub}, nil
}

// Adopt implements keyring.Provider: it holds a key to what Open does and
// returns its reference with the token in it. What Open calls Config or Trust is
// of kind Input for a key that somebody asks to use; the other errors are those
// of Open.
func (p *Provider) Adopt(ctx context.Context, ref string) (string, error) {
	r, err := p.o.parse(ref)
	if err != nil {
		return "", err
	}
	_, err = do(ctx, p, func(_ context.Context, s session) (*ecdsa.PublicKey, error) {
		pub, err := s.pair(r.id)
		// The login lies behind us, so these are about the key and no other thing.
		if kind := fault.KindOf(err); kind == fault.Config || kind == fault.Trust {
			err = fault.As(fault.Input, err)
		}
		return pub, err
	})
	if err != nil {
		return "", fmt.Errorf("looking at %s: %w", r, err)
	}
	r.token = p.o.Token
	return r.String(), nil
}

// pair checks both halves of the key with an id.
func (s session) pair(id []byte) (*ecdsa.PublicKey, error) {
	private, err := s.one(p11.CKO_PRIVATE_KEY, id)
	if err != nil {
		return nil, err
	}
	if err := s.check(private, "the key"); err != nil {
		return nil, err
	}
	return s.public(id)
}

func (s session) public(id []byte) (*ecdsa.PublicKey, error) {
	o, err := s.one(p11.CKO_PUBLIC_KEY, id)
	if errors.Is(err, fs.ErrNotExist) {
		// The private half is there, so this is no missing key.
		return nil, fault.Errorf(fault.Config, "the token has a private key, but no public key of CKA_ID %x", id)
	} else if err != nil {
		return nil, err
	}
	values, err := s.attributes(o, p11.CKA_EC_POINT)
	if err != nil {
		return nil, err
	}
	pub, err := publicKey(values[0])
	return pub, fault.As(fault.Trust, err)
}

// Destroy implements keyring.Provider: it destroys the private key object of the
// reference's CKA_ID, then the public one, so that what was cut short can be
// repeated. Two keys of one CKA_ID are both left, which is an error of kind
// Config; the other errors are those of Open, without fs.ErrNotExist.
func (p *Provider) Destroy(ctx context.Context, ref string) error {
	r, err := p.o.parse(ref)
	if err != nil {
		return err
	}
	_, err = do(ctx, p, func(_ context.Context, s session) (struct{}, error) {
		for _, class := range []uint{p11.CKO_PRIVATE_KEY, p11.CKO_PUBLIC_KEY} {
			o, err := s.one(class, r.id)
			if err == nil {
				err = s.m.ctx.DestroyObject(s.h, o)
			}
			if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, p11.Error(p11.CKR_OBJECT_HANDLE_INVALID)) {
				return struct{}{}, err
			}
		}
		return struct{}{}, nil
	})
	if err != nil {
		return fmt.Errorf("destroying %s: %w", r, err)
	}
	return nil
}

// key is a private key in the token. It keeps no handle: one does not outlive a
// login, and another host may destroy the key at any time.
type key struct {
	p   *Provider
	ref reference
	pub *ecdsa.PublicKey
}

func (k key) Public() *ecdsa.PublicKey { return k.pub }

// SignDigest signs 32 bytes by CKM_ECDSA (current mechanisms, 2.3.6). A key that
// was destroyed since is fs.ErrNotExist; a token that is away is Transient.
func (k key) SignDigest(ctx context.Context, digest []byte) ([]byte, error) {
	if len(digest) != sha256.Size {
		return nil, fault.Errorf(fault.Input, "a digest of %d bytes, want %d", len(digest), sha256.Size)
	}
	digest = append([]byte(nil), digest...) // the call may outlive its caller
	sig, err := do(ctx, k.p, func(_ context.Context, s session) ([]byte, error) {
		o, err := s.one(p11.CKO_PRIVATE_KEY, k.ref.id)
		if err != nil {
			return nil, err
		}
		if err := s.m.ctx.SignInit(s.h, []*p11.Mechanism{p11.NewMechanism(p11.CKM_ECDSA, nil)}, o); err != nil {
			return nil, err
		}
		rs, err := s.m.ctx.Sign(s.h, digest)
		if err != nil {
			return nil, err
		}
		return signature(rs)
	})
	if err != nil {
		return nil, fmt.Errorf("signing with %s: %w", k.ref, err)
	}
	return sig, nil
}
