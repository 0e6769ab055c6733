package keyring

import (
	"context"
	"errors"
	"fmt"
)

// prove asks the private half of the key that c would make active, without the
// lock, because a provider may take its time. It notes in c which keys cannot
// sign, so that a taint finds another heir, or none if an outage is accepted;
// any other change is refused: making such a key active would be an outage, and
// there is no hurry that wants it.
func (k *Keyring) prove(ctx context.Context, c *Change) (proved string, err error) {
	ring := k.Ring()
	trials := map[string]*opening{}
	if c.Action == Taint { // all at once, for there may be no time
		for i := range ring.Keys {
			if key := &ring.Keys[i]; key.State == Published && scheme(key.Private) != "" {
				trials[key.KID] = k.begin(key.Private)
			}
		}
	}
	for {
		out, err := ring.Apply(*c, k.o.Now())
		if err != nil {
			return "", nil // to be judged by the newest state
		}
		heir := out.Ring.Active()
		if heir == nil || sameKey(ring.Active(), heir) {
			return "", nil
		}
		if err = k.tryOut(ctx, heir, trials[heir.KID]); err == nil {
			return heir.KID, nil
		}
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		if c.Action != Taint {
			return "", cannotSign(c.Action, heir, err)
		}
		if c.unusable == nil {
			c.unusable = map[string]error{}
		}
		c.unusable[heir.KID] = err
	}
}

// tryOut proves that a key signs, by the trial that has begun if there is one.
func (k *Keyring) tryOut(ctx context.Context, key *Key, trial *opening) error {
	if scheme(key.Private) != "" {
		if trial == nil {
			trial = k.begin(key.Private)
		}
		if _, err := trial.wait(ctx); err != nil {
			return err
		}
	}
	_, _, err := k.signer(ctx, key)
	return err
}

// CannotSignError refuses to make a key active whose private half cannot be
// used now. It is an order error, which time alone does not cure.
type CannotSignError struct {
	*OrderError
	Err error
}

// Unwrap returns the refusal and its cause.
func (e *CannotSignError) Unwrap() []error { return []error{e.OrderError, e.Err} }

func cannotSign(a Action, heir *Key, err error) error {
	next := fmt.Sprintf("make it usable again, or take it back: stella auth rotate withdraw %s", heir.KID)
	if heir.State == Retiring || a == Undo {
		next = "make it usable again, or leave it; see: stella auth rotate status"
	}
	return &CannotSignError{&OrderError{Message: fmt.Sprintf("%s: key %s could not sign: %v", a, heir.KID, err), Next: next}, err}
}

// needsProof reports whether a may make another key active.
func needsProof(a Action) bool { return a == Activate || a == Undo || a == Taint }

// IsCannotSign reports whether err refuses a key that could not sign.
func IsCannotSign(err error) bool { return errors.As(err, new(*CannotSignError)) }
