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
	k.mu.Lock()
	defer k.mu.Unlock()
	material, err := prepare(&c, k.o.Now())
	if err != nil {
		return nil, err
	}
	for try := 0; ; try++ {
		if err := k.refresh(ctx); err != nil {
			return nil, err
		}
		ring := k.Ring()
		if c.ExpectVersion != 0 && ring.Version != c.ExpectVersion {
			return nil, fmt.Errorf("%w: it is at version %d, not %d", ErrConflict, ring.Version, c.ExpectVersion)
		}
		if err := k.unused(c); err != nil {
			return nil, err
		}
		out, err := ring.Apply(c, k.o.Now())
		if err == nil {
			err = k.canSign(ctx, c, ring, out.Ring)
		}
		if err != nil || c.DryRun {
			return out, err
		}
		err = k.commit(ctx, c, out, material)
		if errors.Is(err, ErrConflict) && try < maxTries {
			material = nil // stored by the first try
			continue
		}
		if err != nil {
			return nil, err
		}
		k.tidy(ctx, out)
		return out, nil
	}
}

// prepare makes the key of a stage, once for all tries.
func prepare(c *Change, now time.Time) (pkcs8 []byte, err error) {
	if c.Action != Stage {
		return nil, nil
	}
	pkcs8 = c.Material
	if pkcs8 == nil {
		if pkcs8, err = newMaterial(); err != nil {
			return nil, err
		}
	}
	if c.NewKID != "" && !ValidKID(c.NewKID) {
		return nil, fault.Errorf(fault.Input, "kid %.140q: use 1 to 128 letters, digits, dots, underscores and hyphens", c.NewKID)
	}
	key, err := describe(pkcs8, c.NewKID, now)
	if err != nil {
		return nil, err
	}
	c.keys = []Key{key}
	return pkcs8, nil
}

// unused refuses a kid or a key that was ever used, also one that the state
// no longer carries along.
func (k *Keyring) unused(c Change) error {
	if c.Action != Stage {
		return nil
	}
	thumb, err := c.keys[0].JWK.Thumbprint()
	if err != nil {
		return fmt.Errorf("naming key: %w", err)
	}
	for _, name := range []string{c.keys[0].KID, thumb} {
		if kid, ok := k.used[name]; ok {
			return &OrderError{Message: fmt.Sprintf("stage: %q is the kid of, or the same key as, %q; neither a kid nor a key is ever used twice", c.keys[0].KID, kid)}
		}
	}
	return nil
}

// canSign refuses a change that would make a key active whose private half
// cannot be used: that would be an outage, and there is no hurry that wants it.
func (k *Keyring) canSign(ctx context.Context, c Change, before, after *Ring) error {
	heir := after.Active()
	if heir == nil || sameKey(before.Active(), heir) {
		return nil
	}
	if _, err := k.signer(ctx, heir); err != nil {
		return &OrderError{
			Message: fmt.Sprintf("%s: key %s could not sign: %v", c.Action, heir.KID, err),
			Next:    "repair its file, or take it back: stella auth rotate withdraw " + heir.KID,
		}
	}
	return nil
}

func (k *Keyring) commit(ctx context.Context, c Change, out *Outcome, material []byte) error {
	if material != nil {
		err := k.store.PutKey(ctx, c.keys[0].Private, material)
		if errors.Is(err, fs.ErrExist) && k.sameStored(ctx, c.keys[0].Private, material) {
			err = nil // left behind by a stage that was cut short
		}
		if errors.Is(err, fs.ErrExist) {
			return &OrderError{Message: fmt.Sprintf("a private key %q exists already; a kid is never used twice", c.keys[0].KID)}
		}
		if err != nil {
			return fmt.Errorf("storing private key %q: %w", c.keys[0].KID, err)
		}
	}
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
			return err
		}
		return fault.Errorf(fault.Transient, "recording %s: it may or may not have been done: %w", c.Action, err).
			Hint("see which: stella auth rotate status").
			Hint("then finish it: stella auth rotate advance")
	}
	return k.accept(ctx, rec)
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
	k.mu.Lock()
	defer k.mu.Unlock()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return fmt.Errorf("making the key that signs the history: %w", err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return fmt.Errorf("encoding the key that signs the history: %w", err)
	}
	if err := k.store.PutKey(ctx, sealName, pkcs8); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("storing the key that signs the history: %w", err)
	}
	c := Change{Request: Request{Action: Init}, Operator: "configuration", policy: &k.o.Policy}
	for range 2 {
		material, err := newMaterial()
		if err != nil {
			return err
		}
		key, err := describe(material, "", k.o.Now())
		if err != nil {
			return err
		}
		if err := k.store.PutKey(ctx, key.Private, material); err != nil {
			return fmt.Errorf("storing private key %q: %w", key.KID, err)
		}
		c.keys = append(c.keys, key)
	}
	out, err := (&Ring{}).Apply(c, k.o.Now())
	if err != nil {
		return err
	}
	return k.commit(ctx, c, out, nil)
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
