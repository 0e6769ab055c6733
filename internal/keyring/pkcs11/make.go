//go:build pkcs11 && cgo

package pkcs11

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"

	p11 "github.com/miekg/pkcs11"
)

// Make implements keyring.Provider. The name is the CKA_LABEL of both halves,
// 1 to 128 letters, digits and hyphens; the new key has a random CKA_ID of 16
// bytes. If several hosts race, each returns a key that signs, and from then on
// the name gives the one with the lowest CKA_ID; the others stay in the token.
// A key of that name that is not EC P-256 or not for signing is an error of kind
// Config; one that is or was extractable, of kind Trust.
func (p *Provider) Make(ctx context.Context, name string) (string, error) {
	if err := checkName(name); err != nil {
		return "", err
	}
	id, err := do(ctx, p, func(ctx context.Context, s session) ([]byte, error) {
		// Not every token makes a key in one step for those who look meanwhile:
		// SoftHSM shows a key that has not all its attributes yet.
		p.m.making.Lock()
		defer p.m.making.Unlock()
		id, err := s.named(name)
		if !errors.Is(err, fs.ErrNotExist) {
			return id, err
		}
		if err := ctx.Err(); err != nil { // make no key for nobody
			return nil, err
		}
		if err := s.generate(name); err != nil {
			return nil, err
		}
		return s.named(name)
	})
	if err != nil {
		return "", fmt.Errorf("making key %q: %w", name, err)
	}
	return reference{p.o.Token, name, id}.String(), nil
}

// generate makes a pair by CKM_EC_KEY_PAIR_GEN (current mechanisms, 2.3.5).
func (s session) generate(name string) error {
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		return err
	}
	both := []*p11.Attribute{
		p11.NewAttribute(p11.CKA_KEY_TYPE, p11.CKK_EC), p11.NewAttribute(p11.CKA_TOKEN, true),
		p11.NewAttribute(p11.CKA_LABEL, name), p11.NewAttribute(p11.CKA_ID, id),
	}
	public := append([]*p11.Attribute{
		p11.NewAttribute(p11.CKA_CLASS, p11.CKO_PUBLIC_KEY), p11.NewAttribute(p11.CKA_EC_PARAMS, p256()),
		p11.NewAttribute(p11.CKA_PRIVATE, false), p11.NewAttribute(p11.CKA_VERIFY, true),
	}, both...)
	// What is not said is the token's choice: say what the key is not for.
	private := append([]*p11.Attribute{
		p11.NewAttribute(p11.CKA_CLASS, p11.CKO_PRIVATE_KEY), p11.NewAttribute(p11.CKA_PRIVATE, true),
		p11.NewAttribute(p11.CKA_SENSITIVE, true), p11.NewAttribute(p11.CKA_EXTRACTABLE, false),
		p11.NewAttribute(p11.CKA_SIGN, true), p11.NewAttribute(p11.CKA_SIGN_RECOVER, false),
		p11.NewAttribute(p11.CKA_DECRYPT, false), p11.NewAttribute(p11.CKA_UNWRAP, false), p11.NewAttribute(p11.CKA_DERIVE, false),
	}, both...)
	mechanism := []*p11.Mechanism{p11.NewMechanism(p11.CKM_EC_KEY_PAIR_GEN, nil)}
	if _, _, err := s.m.ctx.GenerateKeyPair(s.h, mechanism, public, private); err != nil {
		return fmt.Errorf("generating a pair: %w", err)
	}
	return nil
}
