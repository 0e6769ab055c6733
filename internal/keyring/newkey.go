package keyring

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/stella-ops/stella/internal/fault"
)

// newKey is a key on its way into the history.
type newKey struct {
	Key
	pkcs8 []byte // to be stored first; nil for a key at a provider
	made  bool   // by a provider, under a name that another replica may use as well
}

// newKey makes or finds the key of a stage. It is called without the lock,
// because a provider may take its time.
func (k *Keyring) newKey(ctx context.Context, c Change) (*newKey, error) {
	if c.NewKID != "" && !ValidKID(c.NewKID) {
		return nil, fault.Errorf(fault.Input, "kid %.140q: use 1 to 128 letters, digits, dots, underscores and hyphens", c.NewKID)
	}
	switch {
	case c.Reference != "":
		key, err := k.takenIn(ctx, c.Reference, c.NewKID)
		return &newKey{Key: key}, err
	case c.Material == nil && k.o.NewKeys != "" && !c.DryRun:
		key, err := k.remoteKey(ctx, c.NewKID)
		return &newKey{Key: key, made: true}, err
	}
	pkcs8 := c.Material
	if pkcs8 == nil {
		var err error
		if pkcs8, err = newMaterial(); err != nil {
			return nil, err
		}
	}
	key, err := describeFile(pkcs8, c.NewKID, k.o.Now())
	return &newKey{Key: key, pkcs8: pkcs8}, err
}

// takenIn describes a key that an operator made at a provider. It is theirs:
// it is not destroyed when its time is over.
func (k *Keyring) takenIn(ctx context.Context, ref, kid string) (Key, error) {
	if _, err := k.provider(scheme(ref)); err != nil {
		return Key{}, fault.Errorf(fault.Input, "key reference %.200q: want one of a provider that is configured", ref).
			Hint("providers: signing.pkcs11, signing.awskms, signing.hashivault")
	}
	key, err := k.describeRemote(ctx, ref, kid)
	if errors.Is(err, fs.ErrNotExist) {
		err = fault.As(fault.Input, err)
	}
	key.Given = true
	return key, err
}

// remoteKey has the provider of new keys make the next one.
func (k *Keyring) remoteKey(ctx context.Context, kid string) (Key, error) {
	k.mu.Lock()
	err := k.refresh(ctx)
	name := ""
	if err == nil {
		name, err = k.nextName(ctx, 1)
	}
	k.mu.Unlock()
	if err != nil {
		return Key{}, err
	}
	return k.makeRemote(ctx, name, kid)
}

// nextName is what the n-th key from now on is called at a provider. Being
// made from the history's own key, it meets no other keyring's; a stage that
// was cut short finds the key that it made, so none is left behind.
func (k *Keyring) nextName(ctx context.Context, n int) (string, error) {
	seal, err := k.sealSigner(ctx)
	if err != nil {
		return "", err
	}
	id, err := shortThumbprint(seal.Key())
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("stella-%s-%d", id, k.count+n), nil
}

func (k *Keyring) makeRemote(ctx context.Context, name, kid string) (Key, error) {
	p, err := k.provider(k.o.NewKeys)
	if err != nil {
		return Key{}, err
	}
	making, cancel := context.WithTimeout(ctx, makeWithin)
	defer cancel()
	ref, err := p.Make(making, name)
	if err != nil {
		return Key{}, fmt.Errorf("having a key made by %s: %w", k.o.NewKeys, ofProvider(making, err))
	}
	return k.describeRemote(ctx, ref, kid)
}

func (k *Keyring) describeRemote(ctx context.Context, ref, kid string) (Key, error) {
	signer, err := k.open(ctx, ref)
	if err != nil {
		return Key{}, fmt.Errorf("opening key %s: %w", ref, err)
	}
	key, err := describe(signer.Public(), kid, k.o.Now())
	key.Private = ref
	return key, err
}
