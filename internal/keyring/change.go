package keyring

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/jose"
)

// sealName is the private key that signs the history. It never signs tokens.
const sealName = "history"

// maxTries bounds how often a change is judged again because another writer
// was faster. Each loss is another's success, so a hundred means hundreds of
// replicas writing at once.
const maxTries = 100

// orphanAge is how old an unreferenced private key must be before it is
// destroyed: a stage that is under way elsewhere has stored its key but not
// yet its record.
const orphanAge = time.Hour

// Change makes one transition durable and returns what it did. Errors:
// *OrderError when it is not allowed now, ErrConflict when the state is not
// the expected version, fault kinds Input and NotFound for a bad request.
// After any other error the change may or may not have been recorded.
func (k *Keyring) Change(ctx context.Context, c Change) (*Outcome, error) {
	if c.Action == Stage && k.o.NewKeys != "" {
		k.making.Lock()
		defer k.making.Unlock()
	}
	if c.Action == Taint {
		ctx = context.WithoutCancel(ctx) // an emergency is not dropped when its caller goes
	}
	var key *newKey
	for try := 0; ; try++ {
		var err error
		if c.Action == Stage && key == nil {
			if key, err = k.newKey(ctx, c); err != nil {
				return nil, err
			}
		}
		proved := ""
		if needsProof(c.Action) {
			if proved, err = k.prove(ctx, &c); err != nil {
				return nil, err
			}
		}
		out, err := k.try(ctx, c, key, proved)
		if err == nil && key != nil && key.slot != 0 {
			k.settled(ctx, key.slot)
		}
		if !errors.Is(err, errRaced) || try == maxTries {
			return out, err
		}
	}
}

// try is Change, once. errRaced (an ErrConflict) when another writer was
// faster and the change may be allowed still.
func (k *Keyring) try(ctx context.Context, c Change, key *newKey, proved string) (*Outcome, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.refresh(ctx); err != nil {
		return nil, err
	}
	ring := k.Ring()
	if c.ExpectVersion != 0 && ring.Version != c.ExpectVersion {
		return nil, fmt.Errorf("%w: it is at version %d, not %d", ErrConflict, ring.Version, c.ExpectVersion)
	}
	if key != nil {
		if err := k.unused(key); err != nil {
			return nil, err
		}
		c.keys = []Key{key.Key}
	}
	out, err := ring.Apply(c, k.o.Now())
	if err == nil {
		if heir := out.Ring.Active(); heir != nil && !sameKey(ring.Active(), heir) && heir.KID != proved {
			err = errRaced // a newer state has another heir
		}
	}
	if err != nil || c.DryRun {
		return out, err
	}
	if key != nil && key.pkcs8 != nil {
		if err := k.putKey(ctx, key); err != nil {
			return nil, err
		}
	}
	if err := k.commit(ctx, c, out); err != nil {
		return nil, err
	}
	k.tidy(ctx, out)
	select {
	case k.kick <- struct{}{}:
	default:
	}
	return out, nil
}

// unused refuses a kid or a key that was ever used, also one that the state
// no longer carries along.
func (k *Keyring) unused(key *newKey) error {
	thumb, err := key.JWK.Thumbprint()
	if err != nil {
		return fmt.Errorf("naming key: %w", err)
	}
	for _, name := range []string{key.KID, thumb} {
		if kid, ok := k.used[name]; ok {
			return &OrderError{Message: fmt.Sprintf("stage: %q is the kid of, or the same key as, %q; neither a kid nor a key is ever used twice", key.KID, kid)}
		}
	}
	return nil
}

// putKey stores the private half before the record that names it.
func (k *Keyring) putKey(ctx context.Context, key *newKey) error {
	err := k.store.PutKey(ctx, key.Private, key.pkcs8)
	if errors.Is(err, fs.ErrExist) && k.sameStored(ctx, key.Private, key.pkcs8) {
		err = nil // left behind by a stage that was cut short
	}
	if errors.Is(err, fs.ErrExist) {
		return &OrderError{Message: fmt.Sprintf("a private key %q exists already; a kid is never used twice", key.KID)}
	}
	if err != nil {
		return fmt.Errorf("storing private key %q: %w", key.KID, err)
	}
	key.pkcs8 = nil // once is enough, also if the record loses a race
	return nil
}

func (k *Keyring) commit(ctx context.Context, c Change, out *Outcome) error {
	seal, err := k.sealSigner(ctx)
	if err != nil {
		return err
	}
	rec, err := k.chain.Next(seal, out.Ring.At, KindChange, record{
		Action: c.Action, KID: out.KID, From: out.From, To: out.To, Also: out.Also,
		Operator: c.Operator, Replica: k.o.Replica, Reason: c.Reason, Force: c.Force, Outage: c.Outage,
		Ring: out.Ring,
	})
	if err != nil {
		return err
	}
	if err := k.store.Append(ctx, rec); err != nil {
		if errors.Is(err, ErrConflict) {
			return errRaced
		}
		return fault.Errorf(fault.Transient, "recording %s: it may or may not have been done: %w", c.Action, err).
			Hint("see which: stella auth rotate status").
			Hint("then finish it: stella auth rotate advance")
	}
	if err := k.accept(rec); err != nil {
		return err
	}
	k.show(ctx, k.ring)
	return nil
}

func (k *Keyring) sameStored(ctx context.Context, name string, pkcs8 []byte) bool {
	stored, err := k.store.Key(ctx, name)
	return err == nil && bytes.Equal(stored, pkcs8)
}

func (k *Keyring) sealSigner(ctx context.Context) (*jose.Signer, error) {
	if k.seal != nil {
		return k.seal, nil
	}
	pkcs8, err := k.store.Key(ctx, sealName)
	if err != nil {
		return nil, fmt.Errorf("reading the key that signs the history: %w", err)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(pkcs8)
	key, ok := parsed.(ed25519.PrivateKey)
	if err != nil || !ok {
		return nil, fault.Errorf(fault.Trust, "the key that signs the history is not an Ed25519 key in PKCS #8")
	}
	seal, err := jose.NewSigner(key, jose.EdDSA, "")
	if err != nil {
		return nil, fmt.Errorf("using the key that signs the history: %w", err)
	}
	if k.chain.Seq() > 0 && !sameThumbprint(seal.Key(), k.chain.Key()) {
		return nil, fault.Errorf(fault.Trust, "the key that signs the history is not the one the history began with")
	}
	k.seal = seal
	return seal, nil
}

// create makes the first record: one active key and one standby. Of several
// replicas that try, one wins; the others get ErrConflict.
func (k *Keyring) create(ctx context.Context) error {
	if err := k.storeSeal(ctx); err != nil {
		return err
	}
	c := Change{Request: Request{Action: Init}, Operator: "configuration", policy: &k.o.Policy}
	for n := range firstSlots {
		key, err := k.firstKey(ctx, n+1)
		if err != nil {
			return err
		}
		c.keys = append(c.keys, key)
	}
	out, err := (&Ring{}).Apply(c, k.o.Now())
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.commit(ctx, c, out); err != nil {
		return err
	}
	if k.o.NewKeys != "" {
		k.settled(ctx, 1, 2)
	}
	return nil
}

// storeSeal makes the key that signs the history, if there is none.
func (k *Keyring) storeSeal(ctx context.Context) error {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return fmt.Errorf("making the key that signs the history: %w", err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return fmt.Errorf("encoding the key that signs the history: %w", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.store.PutKey(ctx, sealName, pkcs8); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("storing the key that signs the history: %w", err)
	}
	return nil
}

// firstKey makes the n-th key of a keyring that is not there yet.
func (k *Keyring) firstKey(ctx context.Context, n int) (Key, error) {
	if k.o.NewKeys != "" {
		return k.makeRemote(ctx, n, "")
	}
	pkcs8, err := newMaterial()
	if err != nil {
		return Key{}, err
	}
	key, err := describeFile(pkcs8, "", k.o.Now())
	if err != nil {
		return Key{}, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return key, k.putKey(ctx, &newKey{Key: key, pkcs8: pkcs8})
}

// tidy destroys private keys that no key needs any more. What it misses, the
// next change destroys.
func (k *Keyring) tidy(ctx context.Context, out *Outcome) {
	stored, err := k.store.Keys(ctx)
	if err != nil {
		k.o.Log.WarnContext(ctx, "looking for private keys to destroy", "err", err)
		return
	}
	for _, s := range stored {
		key := out.Ring.Find(s.Name)
		needed := s.Name == sealName || key != nil && !key.State.Ended()
		if needed || key == nil && k.o.Now().Sub(s.Stored) < orphanAge {
			continue
		}
		if err := k.store.DestroyKey(ctx, s.Name); err != nil {
			k.o.Log.WarnContext(ctx, "destroying private key", "kid", s.Name, "err", err)
		}
	}
}
