package keyring

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/stella-ops/stella/internal/fault"
)

// newKey is a key on its way into the history.
type newKey struct {
	Key
	pkcs8 []byte // to be stored first; nil for a key at a provider
	slot  int    // of the intent under which a provider made it; 0: none did
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
		return k.remoteKey(ctx, c)
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

// firstSlots is how many keys a new history begins with: one that signs and one
// that stands by.
const firstSlots = 2

// remoteKey has the provider of new keys make one for a stage that would be
// allowed. It is called by one caller at a time.
func (k *Keyring) remoteKey(ctx context.Context, c Change) (*newKey, error) {
	rehearsal := c
	rehearsal.DryRun = true
	rehearsed, err := k.newKey(ctx, rehearsal)
	if err == nil {
		_, err = k.try(ctx, rehearsal, rehearsed, "")
	}
	if err != nil {
		return nil, err
	}
	slot := 1
	for n := range firstSlots {
		name, err := k.store.Intent(ctx, k.o.Replica, n+1)
		if err != nil {
			return nil, fmt.Errorf("looking for a key that was cut short: %w", err)
		}
		if name != "" {
			slot = n + 1
			break
		}
	}
	key, err := k.makeRemote(ctx, slot, c.NewKID)
	return &newKey{Key: key, slot: slot}, err
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

// maxNames bounds how many names are tried for one key.
const maxNames = 3

// makeRemote has a key made. Its name is random and is stored before: a stage
// that is cut short finds the key again by it, so none is left behind, and a copy
// of this history or an older one of it does not find this key. The making is
// not cut short when the caller goes: half made, it could be lost.
func (k *Keyring) makeRemote(ctx context.Context, slot int, kid string) (key Key, err error) {
	k.mu.Lock()
	err = k.brake.check(k.o.Now())
	k.mu.Unlock()
	if err != nil {
		return Key{}, err
	}
	defer func() { k.braked(err) }()
	p, err := k.provider(k.o.NewKeys)
	if err != nil {
		return Key{}, err
	}
	making, cancel := context.WithTimeout(context.WithoutCancel(ctx), makeWithin)
	defer cancel()
	for range maxNames {
		name, err := k.intend(making, slot)
		if err != nil {
			return Key{}, err
		}
		ref, err := p.Make(making, name)
		if err = ofProvider(making, err); err == nil {
			key, err = k.describeRemote(making, ref, kid)
		}
		if err == nil && !k.isUsed(key) {
			return key, nil
		}
		if err != nil && fault.KindOf(err) != fault.Order {
			return Key{}, fmt.Errorf("having a key made by %s: %w", k.o.NewKeys, err)
		}
		// The key of that name was recorded before, or has ended since.
		if err := k.store.SetIntent(making, k.o.Replica, slot, ""); err != nil {
			return Key{}, fmt.Errorf("forgetting key %s: %w", name, err)
		}
	}
	return Key{}, &ProviderError{fault.Errorf(fault.Config, "of %d new names each named a key that cannot be used", maxNames)}
}

// intend returns the name that is stored in the slot, or stores a new one.
func (k *Keyring) intend(ctx context.Context, slot int) (string, error) {
	own, err := k.ownNames(ctx)
	if err != nil {
		return "", err
	}
	name, err := k.store.Intent(ctx, k.o.Replica, slot)
	if err == nil && !(strings.HasPrefix(name, own) && namePattern.MatchString(name)) {
		name = own + strings.ToLower(rand.Text()[:16])
		err = k.store.SetIntent(ctx, k.o.Replica, slot, name)
	}
	if err != nil {
		return "", fmt.Errorf("noting the key that is to be made: %w", err)
	}
	return name, nil
}

var namePattern = regexp.MustCompile(`^stella-[0-9a-f]{12}-[a-z2-7]{16}$`)

// settled forgets the intents of keys that are recorded. One that is not
// forgotten is noticed by the next stage, for its key is in use.
func (k *Keyring) settled(ctx context.Context, slots ...int) {
	for _, slot := range slots {
		if err := k.store.SetIntent(context.WithoutCancel(ctx), k.o.Replica, slot, ""); err != nil {
			k.o.Log.WarnContext(ctx, "forgetting that a key was to be made", "err", err)
		}
	}
}

func (k *Keyring) isUsed(key Key) bool {
	thumb, err := key.JWK.Thumbprint()
	k.mu.Lock()
	defer k.mu.Unlock()
	return err != nil || k.used[thumb] != ""
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
