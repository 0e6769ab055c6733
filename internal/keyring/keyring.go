package keyring

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/ledger"
)

// KindChange is the kind of the ledger entries of a keyring.
const KindChange = "stella.keyring.change/v1"

// record is the body of a ledger entry: what was asked, by whom, and the
// whole state that came of it.
type record struct {
	Action   Action  `json:"action"`
	KID      string  `json:"kid,omitempty"`
	From     State   `json:"from,omitempty"`
	To       State   `json:"to,omitempty"`
	Also     []Moved `json:"also,omitempty"`
	Operator string  `json:"operator"`
	Replica  string  `json:"replica"`
	Reason   string  `json:"reason,omitempty"`
	Force    bool    `json:"force,omitempty"`
	Outage   bool    `json:"outage,omitempty"`
	Ring     *Ring   `json:"ring"`
}

// Options of a Keyring.
type Options struct {
	Policy          Policy              // recorded in the history when it differs from the state's
	CreateIfMissing bool                // make a first keyring where there is none
	Replica         string              // who writes, for the history
	Providers       map[string]Provider // of keys outside the Store, by scheme
	TakeKeysIn      bool                // stage may name a key that an operator made at a Provider
	NewKeys         string              // the scheme of the Provider that makes new keys; empty: they are made here and kept in the Store
	Now             func() time.Time    // nil: time.Now
	Log             *slog.Logger        // nil: discard
}

// Keyring is a replica's live view of the keys. It is safe for concurrent
// use, and any number of replicas may share a Store.
type Keyring struct {
	store Store
	o     Options

	mu    sync.Mutex // guards all down to brake, and every use of the store that writes records or keys
	chain ledger.Chain
	seal  *jose.Signer // signs the history; read when first needed

	ring   *Ring             // after the last record of chain
	used   map[string]string // every kid ever used, and every key's thumbprint: what it was
	remote map[string]string // references of live keys that a provider made for us: their kid
	over   map[string]*over  // those that have ended and are not destroyed, by reference
	brake  brake
	making sync.Mutex    // one stage at a time has a key made; guards the intents in the store
	kick   chan struct{} // wakes reap

	openings openings

	view atomic.Pointer[view]
	seen atomic.Pointer[time.Time] // o.Now of the last complete look at the history
}

// view is what the token path reads, without a lock.
type view struct {
	ring    *Ring
	signer  *jose.Signer
	remote  *remoteSigner // behind signer, if the key is at a provider
	signErr error
}

// New makes a Keyring on store. Load must succeed before anything else.
func New(store Store, o Options) *Keyring {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Keyring{store: store, o: o, used: map[string]string{}, remote: map[string]string{}, over: map[string]*over{},
		kick: make(chan struct{}, 1), openings: openings{byRef: map[string]*opening{}}}
}

// Load reads and verifies the whole history, creates it if that is wanted,
// and records the policy when it differs. ErrMissing where there is none;
// ledger.ErrBroken (fault kind Trust) where it does not verify.
func (k *Keyring) Load(ctx context.Context) error {
	if err := k.Refresh(ctx); err != nil {
		return err
	}
	if k.Ring() == nil {
		if !k.o.CreateIfMissing {
			return fault.As(fault.Config, ErrMissing)
		}
		if err := k.create(ctx); err != nil && !errors.Is(err, ErrConflict) {
			return err
		}
		if err := k.Refresh(ctx); err != nil {
			return err
		}
	}
	// One wait, so that a replica whose provider answers can sign when it is up.
	if active := k.Ring().Active(); active != nil && scheme(active.Private) != "" && k.view.Load().signErr != nil {
		_, _ = k.openNow(ctx, active.Private)
		k.reshow()
	}
	if k.Ring().Policy != k.o.Policy {
		c := Change{Request: Request{Action: SetPolicy}, Operator: "configuration", policy: &k.o.Policy}
		if _, err := k.Change(ctx, c); err != nil {
			return fmt.Errorf("recording changed lifetimes: %w", err)
		}
	}
	return nil
}

// Refresh reads what is new in the history and renews the sign lease.
func (k *Keyring) Refresh(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.refresh(ctx)
}

func (k *Keyring) refresh(ctx context.Context) error {
	began := k.o.Now()
	records, err := k.news(ctx)
	if err != nil {
		return fmt.Errorf("reading key history: %w", err)
	}
	for _, rec := range records {
		if err = k.accept(rec); err != nil {
			break
		}
	}
	if v := k.view.Load(); k.ring != nil && (v == nil || v.ring != k.ring || v.signErr != nil) {
		k.show(ctx, k.ring) // also when only the private key may be readable by now
	}
	if err != nil {
		return err
	}
	if k.ring != nil {
		k.warm(k.ring)
	}
	k.seen.Store(&began)
	return nil
}

// news reads the records after the chain, and the last one of the chain again:
// a history that has lost it, or has another in its place, was rolled back or
// replaced, and saying nothing new is not the same as being in reach.
func (k *Keyring) news(ctx context.Context) ([]ledger.Record, error) {
	head := k.chain.Seq()
	if head == 0 {
		return k.store.Entries(ctx, 0)
	}
	records, err := k.store.Entries(ctx, head-1)
	if err != nil {
		return nil, err
	}
	if len(records) == 0 || records[0].Digest() != k.chain.Head() {
		return nil, fault.Errorf(fault.Trust, "record %d is gone or is another one: the history was rolled back or replaced while this replica ran", head)
	}
	return records[1:], nil
}

// accept verifies one record and takes it in; show makes it the view.
func (k *Keyring) accept(rec ledger.Record) error {
	next := k.chain
	entry, err := next.Accept(rec)
	if err != nil {
		return fault.As(fault.Trust, fmt.Errorf("reading key history: %w", err))
	}
	var body record
	if entry.Kind != KindChange {
		return fault.Errorf(fault.Trust, "reading key history: record %d is a %q", rec.Seq, entry.Kind)
	}
	if err := jose.DecodeStrict(entry.Body, &body); err != nil || body.Ring == nil || body.Ring.Version != rec.Seq {
		return fault.Errorf(fault.Trust, "reading key history: record %d holds no state (%v)", rec.Seq, err)
	}
	k.chain = next
	for _, key := range body.Ring.Keys {
		if k.used[key.KID] != "" {
			continue // a kid never gets another key
		}
		k.used[key.KID] = key.KID
		if thumb, err := key.JWK.Thumbprint(); err == nil {
			k.used[thumb] = key.KID
		}
	}
	k.remember(&body)
	k.ring = body.Ring
	return nil
}

func (k *Keyring) show(ctx context.Context, ring *Ring) {
	v := &view{ring: ring}
	if old := k.view.Load(); old != nil && old.signErr == nil && sameKey(old.ring.Active(), ring.Active()) {
		v.signer, v.remote = old.signer, old.remote
	} else {
		v.signer, v.remote, v.signErr = k.signer(ctx, ring.Active())
	}
	k.view.Store(v)
}

func sameKey(a, b *Key) bool { return a != nil && b != nil && a.KID == b.KID }

func (k *Keyring) signer(ctx context.Context, active *Key) (*jose.Signer, *remoteSigner, error) {
	if active == nil {
		return nil, nil, ErrNoActive
	}
	key, err := k.open(ctx, active.Private)
	if err != nil {
		return nil, nil, fmt.Errorf("reading private key %q: %w", active.KID, err)
	}
	s, err := jose.NewSigner(key, active.Alg, active.KID)
	if err != nil {
		return nil, nil, fmt.Errorf("using private key %q: %w", active.KID, err)
	}
	if !sameThumbprint(s.Key(), active.JWK) {
		return nil, nil, fault.Errorf(fault.Trust, "private key %q does not match the published key of that kid", active.KID)
	}
	remote, _ := key.(*remoteSigner)
	return s, remote, nil
}

// Follow refreshes every interval until ctx ends, and has ended keys destroyed
// at their providers. An outage of the store is
// logged once when it begins and once when it ends.
func (k *Keyring) Follow(ctx context.Context, interval time.Duration) {
	if len(k.o.Providers) > 0 {
		var wg sync.WaitGroup
		wg.Go(func() { k.reap(ctx) })
		defer wg.Wait()
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := k.Refresh(ctx)
		if err != nil && !failing && ctx.Err() == nil {
			k.o.Log.ErrorContext(ctx, "key history out of reach", "err", err, "sign_lease", k.lease())
		}
		if err == nil && failing {
			k.o.Log.InfoContext(ctx, "key history back in reach")
		}
		failing = err != nil
	}
}

// Ring returns the current state, which the caller must not change; nil
// before Load.
func (k *Keyring) Ring() *Ring {
	if v := k.view.Load(); v != nil {
		return v.ring
	}
	return nil
}

// Signer returns the signer of the active key. Errors: ErrNoActive, ErrLease,
// or that its private key cannot be read.
func (k *Keyring) Signer() (*jose.Signer, error) {
	v := k.view.Load()
	if v == nil {
		return nil, ErrNoActive
	}
	if v.signErr != nil {
		return nil, v.signErr
	}
	if k.Stale() {
		return nil, ErrLease
	}
	return v.signer, nil
}

// Stale reports whether the sign lease is lost: this replica has not seen the
// history for so long that it may have missed a taint. Neither a clock that is
// set back nor a machine that was asleep prolongs the lease.
func (k *Keyring) Stale() bool {
	unseen, lease := k.Unseen(), k.lease()
	return unseen > lease || unseen < -lease
}

// Unseen is the time since the last complete look at the history, by the
// monotonic clock or by the wall clock, whichever says more; negative when the
// only clock there is was set back.
func (k *Keyring) Unseen() time.Duration {
	seen := k.seen.Load()
	if seen == nil {
		return math.MaxInt64
	}
	now := k.o.Now()
	return max(now.Sub(*seen), now.Round(0).Sub(seen.Round(0)))
}

// MaxAge is the cache lifetime to serve with the set now; zero (do not store)
// once the sign lease is lost, for the set may be out of date.
func (k *Keyring) MaxAge() time.Duration {
	if k.Stale() {
		return 0
	}
	return k.Ring().MaxAge(k.o.Now())
}

func (k *Keyring) lease() time.Duration { return k.Ring().Policy.SignLease.Duration() }

// History returns all records, verified.
func (k *Keyring) History(ctx context.Context) ([]ledger.Record, error) {
	records, err := k.store.Entries(ctx, 0)
	if err != nil {
		return nil, fmt.Errorf("reading key history: %w", err)
	}
	var chain ledger.Chain
	for _, rec := range records {
		if _, err := chain.Accept(rec); err != nil {
			return nil, fault.As(fault.Trust, err)
		}
	}
	return records, nil
}
