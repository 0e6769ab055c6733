package keyring

import (
	"context"
	"time"
)

// over is a key that a provider made for us and that has ended.
type over struct {
	kid   string
	at    time.Time // when it ended
	by    string    // which replica ended it
	err   error     // of the last attempt to have it destroyed
	next  time.Time // when to try again
	pause time.Duration
}

// The replica that ends a key has it destroyed. If it is gone, others do so an
// hour later; and a replica that starts looks back a week, no further, for
// what was destroyed long ago need not be destroyed again.
const (
	reapOthers = time.Hour
	reapBack   = 7 * 24 * time.Hour
	reapFirst  = 10 * time.Second
	reapLast   = time.Hour
)

// remember keeps the books of keys at providers; called for each record.
func (k *Keyring) remember(body *record) {
	ring := body.Ring
	for _, key := range ring.Keys {
		if scheme(key.Private) == "" || key.Given || key.State.Ended() {
			continue
		}
		k.remote[key.Private] = key.KID
	}
	for ref, kid := range k.remote {
		if key := ring.Find(kid); key != nil && !key.State.Ended() {
			continue
		}
		delete(k.remote, ref)
		if k.o.Now().Sub(ring.At) < reapBack {
			k.over[ref] = &over{kid: kid, at: ring.At, by: body.Replica}
		}
	}
}

// reap has ended keys destroyed at their providers until ctx ends: at once
// after a change of this replica's own, else as they become due.
func (k *Keyring) reap(ctx context.Context) {
	tick := time.NewTicker(reapFirst)
	defer tick.Stop()
	for {
		k.DestroyDue(ctx)
		select {
		case <-ctx.Done():
			return
		case <-k.kick:
		case <-tick.C:
		}
	}
}

// DestroyDue tries once to have destroyed, at their providers, the ended keys
// that are due. Follow does it in the background.
func (k *Keyring) DestroyDue(ctx context.Context) {
	for ref, o := range k.due() {
		if ctx.Err() != nil {
			return
		}
		err := k.destroy(ctx, ref)
		if err != nil && ctx.Err() != nil {
			return // not its fault
		}
		k.mu.Lock()
		if err == nil {
			delete(k.over, ref)
			k.o.Log.InfoContext(ctx, "private key destroyed", "kid", o.kid, "ref", ref)
		} else {
			o.pause = min(max(2*o.pause, reapFirst), reapLast)
			o.err, o.next = err, k.o.Now().Add(o.pause)
			k.o.Log.WarnContext(ctx, "destroying private key", "kid", o.kid, "ref", ref, "err", err, "again_in", o.pause.String())
		}
		k.mu.Unlock()
	}
}

func (k *Keyring) due() map[string]*over {
	k.mu.Lock()
	defer k.mu.Unlock()
	now, due := k.o.Now(), map[string]*over{}
	for ref, o := range k.over {
		if !now.Before(o.next) && (o.by == k.o.Replica || now.Sub(o.at) > reapOthers) {
			due[ref] = o
		}
	}
	return due
}

func (k *Keyring) destroy(ctx context.Context, ref string) error {
	p, err := k.provider(scheme(ref))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, destroyWithin)
	defer cancel()
	return ofProvider(ctx, p.Destroy(ctx, ref))
}

// NotDestroyed lists ended keys that could not be destroyed yet.
func (k *Keyring) NotDestroyed() []KeyTrouble {
	k.mu.Lock()
	defer k.mu.Unlock()
	var all []KeyTrouble
	for ref, o := range k.over {
		if o.err != nil {
			all = append(all, KeyTrouble{KID: o.kid, Reference: ref, Error: o.err.Error()})
		}
	}
	return all
}
