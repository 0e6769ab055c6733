// Package revoke is the Authority's side of revocation: what was revoked, the
// signed list of it, and the calls that add to it and hand it out.
//
// It guarantees that a revocation is in effect on every replica when Add
// returns, and that a later one never takes an earlier one back; that lists
// have strictly rising sequences, one content each, the same bytes from every
// replica, also when replicas race or are killed; that no list is signed by a
// key that it revokes, and that a revoked key stays on the list for ever; and
// that what the store cannot answer is an error, never "not revoked".
package revoke

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/stella-ops/stella/internal/authority/store"
	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/revocation"
)

// Longest is the longest life of anything that a revocation of a subject or
// client refuses, refresh tokens included.
const Longest = 400 * 24 * time.Hour

// Bounds of what is added: of each name in bytes, and of how far ahead a token
// may be said to expire.
const (
	maxID     = 256
	maxExpiry = 24 * time.Hour
)

// RevokedKey is a signing key in state revoked.
type RevokedKey struct {
	KID    string
	At     time.Time
	Reason string // a machine code, see revocation.Code; may be empty
}

// Options of a Register.
type Options struct {
	Records store.Records
	Issuer  string
	// Keys returns the revoked signing keys. It reads no store.
	Keys func() []RevokedKey
	// Signer is the signer of the active key; ES256.
	Signer func() (*jose.Signer, error)
	// Current reports whether a list signed under a kid may go on being
	// handed out: true for the active key and for those that may have become
	// active without this replica knowing yet, false for retiring, retired,
	// tainted and revoked ones.
	Current func(kid string) bool
	// TokenLifetime is the longest life that a configuration may give to an
	// access token, not what it says now: tokens from before a change are
	// alive too. Skew is what clocks of verifiers may be off. Entries leave the
	// list when every token they could be about has expired, by both and a
	// minute.
	TokenLifetime, Skew time.Duration
	Now                 func() time.Time // nil: time.Now
}

// Register keeps revocations in a store that all replicas share. Safe for
// concurrent use.
type Register struct {
	o      Options
	sem    chan struct{} // one look at the lists at a time; guards last, oldest and looked
	last   *List
	oldest int64 // the first sequence that may still be stored
	looked time.Time
	dirty  atomic.Bool // something was added here since the last look
}

// New makes a Register.
func New(o Options) *Register {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Register{o: o, sem: make(chan struct{}, 1)}
}

// Entry is a revocation to add.
type Entry struct {
	revocation.Entry
	// Expiry is the exp of the token, with category token, at most a day ahead;
	// zero: the longest that it can be.
	Expiry time.Time
}

// Add stores a revocation and reports whether it says anything new; it is in
// effect when the error is nil. A zero RevokedAt means now. For a token the
// first revocation stays, and one that has expired needs none; for a subject
// or client the one that reaches furthest counts. Signing keys are revoked in the keyring. Errors have the
// fault kind Input when e is not a revocation.
func (r *Register) Add(ctx context.Context, e Entry) (created bool, err error) {
	now := r.o.Now()
	if e.RevokedAt.IsZero() {
		e.RevokedAt = now
	}
	if err := r.check(&e, now); err != nil {
		return false, err
	}
	e.RevokedAt = time.Unix(revocation.Cutoff(e.RevokedAt), 0).UTC()
	switch e.Category {
	case revocation.Token:
		if !now.Before(e.Expiry.Add(r.o.Skew)) {
			return false, nil // it is refused everywhere already
		}
		created, err = r.insert(ctx, tokenID(e.ID), e.Entry, e.Expiry.Add(r.o.Skew+margin))
	case revocation.Subject:
		created, err = r.extend(ctx, e.Entry, e.SubjectID)
	case revocation.Client:
		created, err = r.extend(ctx, e.Entry, e.ClientID)
	}
	if err != nil {
		return false, fmt.Errorf("storing a revocation: %w", err)
	}
	r.dirty.Store(true)
	return created, nil
}

// longest is when any access token of now has expired.
func (r *Register) longest() time.Time { return r.o.Now().Add(r.o.TokenLifetime + r.o.Skew) }

// check completes an entry and holds it to what a list may contain.
func (r *Register) check(e *Entry, now time.Time) error {
	bad := func(format string, args ...any) error {
		return fault.Errorf(fault.Input, "not a revocation: "+format, args...)
	}
	switch e.Category {
	case revocation.Token:
		if e.Expiry.IsZero() {
			e.Expiry = now.Add(r.o.TokenLifetime + r.o.Skew)
		}
		if latest := now.Add(maxExpiry); e.Expiry.After(latest) {
			e.Expiry = latest // or callers could fill the list for good
		}
	case revocation.Subject, revocation.Client:
	case revocation.Key:
		return bad("signing keys are revoked in the keyring (POST /internal/keyring/transitions)")
	}
	switch {
	case len(e.ID) > maxID || len(e.SubjectID) > maxID || len(e.ClientID) > maxID:
		return bad("a name has more than %d bytes", maxID)
	case e.Reason == "":
		return bad("the reason is missing")
	case e.RevokedAt.After(now.Add(r.o.Skew + 6*time.Second)):
		return bad("its time is in the future")
	case e.RevokedAt.Before(now.Add(-Longest)):
		return bad("its time is more than %d days ago, when nothing that is valid now existed", int(Longest.Hours()/24))
	}
	_, err := revocation.Encode(&revocation.Bundle{
		Issuer: r.o.Issuer, IssuedAt: now, SchemaVersion: revocation.SchemaVersion, Revocations: []revocation.Entry{e.Entry},
	})
	if err != nil {
		return fault.As(fault.Input, err)
	}
	return nil
}

// Revoked reports whether something that the claims describe is revoked, and
// the reason code. It asks the store, so what another replica added a moment
// ago counts.
func (r *Register) Revoked(ctx context.Context, c revocation.Claims) (reason string, revoked bool, err error) {
	for _, k := range r.o.Keys() {
		if k.KID == c.KID {
			return k.Reason, true, nil
		}
	}
	if c.TokenID != "" {
		switch e, err := r.read(ctx, tokenID(c.TokenID)); {
		case err == nil:
			return e.Reason, true, nil
		case !errors.Is(err, store.ErrNotFound):
			return "", false, fmt.Errorf("reading revocations: %w", err)
		}
	}
	for _, of := range []struct {
		category revocation.Category
		name     string
	}{{revocation.Subject, c.Subject}, {revocation.Client, c.ClientID}} {
		if of.name == "" {
			continue
		}
		e, err := r.furthest(ctx, of.category, of.name, c.IssuedAt)
		if err != nil {
			return "", false, fmt.Errorf("reading revocations: %w", err)
		}
		if e != nil && c.IssuedAt.Unix() <= revocation.Cutoff(e.RevokedAt) {
			return e.Reason, true, nil
		}
	}
	return "", false, nil
}
