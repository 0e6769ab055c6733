package keyring

import (
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/stella-ops/stella/internal/fault"
)

// newKey is a key on its way into the history.
type newKey struct {
	Key
	pkcs8 []byte // to be stored first; nil for a key at a provider
	made  bool   // by a provider, as this replica's next-th
	next  int
}

// newKey makes or finds the key of a stage. It is called without the lock,
// because a provider may take its time.
func (k *Keyring) newKey(ctx context.Context, c Change) (*newKey, error) {
	if c.NewKID != "" && !ValidKID(c.NewKID) {
		return nil, fault.Errorf(fault.Input, "kid %.140q: use 1 to 128 letters, digits, dots, underscores and hyphens", c.NewKID)
	}
	if err := checkReason(c); err != nil {
		return nil, err // before anything is made
	}
	switch {
	case c.Reference != "":
		key, err := k.takenIn(ctx, c.Reference, c.NewKID)
		return &newKey{Key: key}, err
	case c.Material == nil && k.o.NewKeys != "" && !c.DryRun:
		key, next, err := k.remoteKey(ctx, c.NewKID)
		return &newKey{Key: key, made: true, next: next}, err
	}
	pkcs8 := c.Material
	if pkcs8 == nil {
		var err error
		if pkcs8, err = newMaterial(); err != nil {
			return nil, err
		}
	}
	key, err := describeFile(pkcs8, c.NewKID, k.o.Now())
	if c.Material == nil && k.o.NewKeys != "" {
		key.Private = k.o.NewKeys + ":" // a rehearsal; it would be made there
	}
	return &newKey{Key: key, pkcs8: pkcs8}, err
}

// takenIn describes a key that an operator made at a provider. It is theirs:
// it is not destroyed when its time is over.
func (k *Keyring) takenIn(ctx context.Context, ref, kid string) (Key, error) {
	p := k.o.Providers[scheme(ref)]
	switch {
	case !k.o.TakeKeysIn:
		return Key{}, fault.Errorf(fault.Input, "keys are not taken in here by reference").Hint("the Authority's configuration: signing.takeKeysIn: true")
	case p == nil:
		return Key{}, fault.Errorf(fault.Input, "key reference %.200q: want one of a provider that is configured (%s)", ref, k.schemes()).
			Hint("providers: signing.pkcs11, signing.awskms, signing.hashivault")
	}
	own, err := k.ownNames(ctx)
	if err != nil {
		return Key{}, err
	}
	if strings.Contains(ref, own) {
		return Key{}, fault.Errorf(fault.Input, "key reference %.200q: such names are for keys that the Authority makes itself", ref)
	}
	adopting, cancel := context.WithTimeout(ctx, openWithin)
	defer cancel()
	var key Key
	pinned, err := p.Adopt(adopting, ref)
	if err = ofProvider(adopting, err); err == nil {
		key, err = k.describeRemote(ctx, pinned, kid)
	}
	if err != nil {
		err = fmt.Errorf("taking in key %.200q: %w", ref, err)
		if kind := fault.KindOf(err); kind != fault.Transient && kind != fault.Denied && kind != fault.Interrupted {
			err = fault.As(fault.Input, err) // it is the caller who named it
		}
	}
	key.Given = true
	return key, err
}

// schemes lists the providers that are configured.
func (k *Keyring) schemes() string {
	if len(k.o.Providers) == 0 {
		return "there is none"
	}
	return strings.Join(slices.Sorted(maps.Keys(k.o.Providers)), ", ")
}

// maxNames is how many names are tried for one key. Other than the first are
// needed only where a key of that name is an old one: of a history that was
// rolled back, or of one that this is a copy of.
const maxNames = 4

// remoteKey has the provider of new keys make the next one. A key that was made
// for a stage that was cut short is found by its name, so none is left behind.
func (k *Keyring) remoteKey(ctx context.Context, kid string) (key Key, next int, err error) {
	k.mu.Lock()
	err = k.brake.check(k.o.Now())
	if err == nil {
		err = k.refresh(ctx)
	}
	next = k.count + 1
	k.mu.Unlock()
	if err == nil {
		key, err = k.makeRemote(ctx, next, kid)
	}
	return key, next, err
}

// ownNames is how the names of all keys begin that providers make for this
// history: with the name of the key that signs it.
func (k *Keyring) ownNames(ctx context.Context) (string, error) {
	k.mu.Lock()
	seal, err := k.sealSigner(ctx)
	k.mu.Unlock()
	if err != nil {
		return "", err
	}
	id, err := shortThumbprint(seal.Key())
	return "stella-" + id + "-", err
}

// makeRemote has the n-th key made for this replica. The making is not cut
// short when the caller goes: half made, it could be lost.
func (k *Keyring) makeRemote(ctx context.Context, n int, kid string) (Key, error) {
	p, err := k.provider(k.o.NewKeys)
	if err != nil {
		return Key{}, err
	}
	own, err := k.ownNames(ctx)
	if err != nil {
		return Key{}, err
	}
	making, cancel := context.WithTimeout(context.WithoutCancel(ctx), makeWithin)
	defer cancel()
	replica := sha256.Sum256([]byte(k.o.Replica))
	name := fmt.Sprintf("%s%x-%d", own, replica[:4], n)
	for again := range maxNames {
		full := name
		if again > 0 {
			full = fmt.Sprintf("%s-%d", name, again)
		}
		ref, made, err := p.Make(making, full)
		if err != nil {
			err = fmt.Errorf("having a key made by %s: %w", k.o.NewKeys, ofProvider(making, err))
			k.braked(err)
			return Key{}, err
		}
		if k.o.Now().Sub(made) > orphanAge {
			continue
		}
		k.braked(nil)
		return k.describeRemote(making, ref, kid)
	}
	err = &ProviderError{fault.Errorf(fault.Config, "there are keys named %s, %s-1 and so on that are older than %s, or its clock is off by more than that", name, name, orphanAge)}
	k.braked(err)
	return Key{}, err
}

func (k *Keyring) describeRemote(ctx context.Context, ref, kid string) (Key, error) {
	signer, err := k.openNow(ctx, ref)
	if err != nil {
		return Key{}, fmt.Errorf("opening key %.200q: %w", ref, err)
	}
	key, err := describe(signer.Public(), kid, k.o.Now())
	key.Private = ref
	return key, err
}

// brake keeps failing attempts to make a key apart: each may leave something
// behind at the provider that costs money.
type brake struct {
	fails int
	until time.Time
	err   error
}

// Two failures are free, then the pauses double.
const (
	brakeFree  = 2
	brakeFirst = 10 * time.Second
	brakeLast  = time.Hour
)

func (b *brake) check(now time.Time) error {
	if left := b.until.Sub(now); left > 0 {
		return &ProviderError{fault.Errorf(fault.KindOf(b.err), "no key is made before %s, because that failed %d times: %w", stamp(b.until), b.fails, b.err)}
	}
	return nil
}

// braked notes how making a key ended.
func (k *Keyring) braked(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err == nil {
		k.brake = brake{}
		return
	}
	b := &k.brake
	b.err = err
	if b.fails++; b.fails > brakeFree {
		b.until = k.o.Now().Add(min(brakeFirst<<min(b.fails-brakeFree-1, 10), brakeLast))
	}
}
