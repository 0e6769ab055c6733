package keyring

import (
	"context"
	"crypto"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/stella-ops/stella/internal/fault"
)

// openings are private keys at providers, opened without the keyring's lock:
// whatever a provider does, the history is read on.
type openings struct {
	mu    sync.Mutex
	byRef map[string]*opening
}

// opening is one attempt to open a key. key and err may be read once done is
// closed.
type opening struct {
	done  chan struct{}
	key   *remoteSigner
	err   error
	ended time.Time
	last  *remoteSigner // what an attempt before this one has opened
	was   error         // what it failed with
}

func (o *opening) running() bool {
	select {
	case <-o.done:
		return false
	default:
		return true
	}
}

// errOpening says that the first attempt is under way.
var errOpening = &ProviderError{fault.Errorf(fault.Transient, "the key is being opened")}

// A key that signs nothing now is tried again so long after a failed attempt,
// and after a good one.
const (
	openAgain  = 30 * time.Second
	openRepeat = 10 * time.Minute
)

// begin starts an attempt to open a key, or finds the one under way.
func (k *Keyring) begin(ref string) *opening {
	k.openings.mu.Lock()
	defer k.openings.mu.Unlock()
	before := k.openings.byRef[ref]
	if before != nil && before.running() {
		return before
	}
	o := &opening{done: make(chan struct{})}
	if before != nil {
		if o.was = before.err; before.err == nil {
			o.last = before.key
		}
	}
	k.openings.byRef[ref] = o
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), openWithin)
		defer cancel()
		o.key, o.err = k.fetch(ctx, ref)
		o.ended = k.o.Now()
		close(o.done)
		k.tellOpening(ref, before, o.err)
		k.reshow()
	}()
	return o
}

// tellOpening logs trouble with a key once when it begins and once when it ends.
func (k *Keyring) tellOpening(ref string, before *opening, err error) {
	was := before != nil && before.err != nil
	if err != nil && !was {
		k.o.Log.Error("private key cannot be used", "ref", ref, "err", err, "hints", fault.HintsOf(err))
	}
	if err == nil && was {
		k.o.Log.Info("private key can be used again", "ref", ref)
	}
}

// opened is what is known of a key now, without waiting.
func (k *Keyring) opened(ref string) (*remoteSigner, error) {
	k.openings.mu.Lock()
	o := k.openings.byRef[ref]
	k.openings.mu.Unlock()
	switch {
	case o != nil && o.running() && o.was != nil:
		return nil, o.was
	case o != nil && o.running() && o.last != nil:
		return o.last, nil
	case o == nil || o.running():
		return nil, errOpening
	}
	return o.key, o.err
}

// openNow opens a key as it is now and waits for it.
func (k *Keyring) openNow(ctx context.Context, ref string) (*remoteSigner, error) {
	return k.begin(ref).wait(ctx)
}

func (o *opening) wait(ctx context.Context) (*remoteSigner, error) {
	select {
	case <-o.done:
		return o.key, o.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// fetch opens a key at its provider and has it prove that it signs: a key that
// may be read but not used must not become the active one.
func (k *Keyring) fetch(ctx context.Context, ref string) (*remoteSigner, error) {
	p, err := k.provider(scheme(ref))
	if err != nil {
		return nil, err
	}
	key, err := p.Open(ctx, ref)
	if err != nil {
		return nil, ofProvider(ctx, err)
	}
	if pub := key.Public(); pub == nil || pub.Curve != elliptic.P256() {
		return nil, &ProviderError{fault.Errorf(fault.Trust, "%.200q is no EC P-256 key: only those are used (ES256)", ref)}
	}
	s := &remoteSigner{key: key}
	probe := sha256.Sum256([]byte("stella: may this key sign? " + rand.Text()))
	if _, err = s.sign(ctx, probe[:]); err != nil {
		return nil, err
	}
	return s, nil
}

// warm opens the keys that sign or may have to soon, so that a switch finds
// them open and trouble is known before it is needed.
func (k *Keyring) warm(ring *Ring) {
	var live []string
	for i := range ring.Keys {
		key := &ring.Keys[i]
		if scheme(key.Private) == "" || !key.InSet() || key.State == Tainted {
			continue
		}
		live = append(live, key.Private)
		k.openings.mu.Lock()
		o := k.openings.byRef[key.Private]
		k.openings.mu.Unlock()
		if o == nil || !o.running() && k.again(key.State, o) {
			k.begin(key.Private)
		}
	}
	k.openings.mu.Lock()
	defer k.openings.mu.Unlock()
	for ref, o := range k.openings.byRef {
		if !o.running() && !slices.Contains(live, ref) {
			delete(k.openings.byRef, ref)
		}
	}
}

// again reports whether a key is due to be opened once more.
func (k *Keyring) again(state State, o *opening) bool {
	switch {
	case o.err != nil && state == Active:
		return k.view.Load().signErr != nil
	case o.err != nil:
		return k.o.Now().Sub(o.ended) > openAgain
	}
	return state == Published && k.o.Now().Sub(o.ended) > openRepeat
}

// reshow lets the active key sign once it is open.
func (k *Keyring) reshow() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if v := k.view.Load(); v != nil && v.signErr != nil {
		k.show(context.Background(), v.ring)
	}
}

// open returns the private key behind a reference: a file now, a key at a
// provider as far as it is known.
func (k *Keyring) open(ctx context.Context, ref string) (crypto.Signer, error) {
	if scheme(ref) != "" {
		return k.opened(ref)
	}
	pkcs8, err := k.store.Key(ctx, ref)
	if err != nil {
		return nil, err
	}
	return parseMaterial(pkcs8)
}

// CannotSign says why this replica signs nothing now, or nil: what Signer
// says, or that the last signature failed.
func (k *Keyring) CannotSign() error {
	if _, err := k.Signer(); err != nil {
		return err
	}
	if v := k.view.Load(); v.remote != nil {
		return v.remote.trouble()
	}
	return nil
}

// KeptOutside reports whether the active key is at a provider.
func (k *Keyring) KeptOutside() bool {
	active := k.Ring().Active()
	return active != nil && scheme(active.Private) != ""
}

// Unusable lists the keys in the set whose private half this replica could not
// use when it last tried, in the order of the ring.
func (k *Keyring) Unusable() []KeyTrouble {
	var all []KeyTrouble
	v := k.view.Load()
	for i := range v.ring.Keys {
		key := &v.ring.Keys[i]
		if !key.InSet() || key.State == Tainted || scheme(key.Private) == "" {
			continue
		}
		s, err := k.opened(key.Private)
		if key.State == Active && v.remote != nil {
			s, err = v.remote, nil
		}
		if err == nil {
			err = s.trouble()
		}
		if err != nil && !errors.Is(err, errOpening) {
			all = append(all, KeyTrouble{KID: key.KID, Reference: key.Private, Error: err.Error()})
		}
	}
	return all
}
