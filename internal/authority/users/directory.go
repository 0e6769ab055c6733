package users

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/stella-ops/stella/internal/authority/audit"
	"github.com/stella-ops/stella/internal/authority/store"
)

// PluginName is how this directory is called in logs.
const PluginName = "standard"

// Store is what a Directory needs of the Authority's store.
type Store interface {
	store.Users
	store.Records
}

// Outcome is how an attempt to log in ended.
type Outcome string

// The outcomes.
const (
	Accepted Outcome = "accepted"
	Refused  Outcome = "refused"
	Locked   Outcome = "locked"
	Failed   Outcome = "failed" // the store cannot answer, or too many log in
)

// Options of a Directory. Store and Policy are required.
type Options struct {
	Store  Store
	Policy func() Policy
	// OnRevoke is called when what a person was given before must end: the
	// user was disabled or deleted, lost a scope, role or tenant, or got another
	// password. It may be called more than once for the same, before and after
	// the change is stored; an error makes the caller of the change try again.
	OnRevoke func(ctx context.Context, subject, reason string) error
	// Observe is told of every attempt.
	Observe func(Outcome)
	Hash    HashFunc // nil: argon2id
	Hashes  int      // under way at a time; 0: one for each CPU
	Now     func() time.Time
	Log     *slog.Logger
}

// Directory is the people who can log in. Safe for concurrent use.
type Directory struct {
	store    Store
	policy   func() Policy
	onRevoke func(ctx context.Context, subject, reason string) error
	observe  func(Outcome)
	hash     HashFunc
	gate     gate
	now      func() time.Time
	log      *slog.Logger
}

// New makes a Directory.
func New(o Options) *Directory {
	d := &Directory{store: o.Store, policy: o.Policy, onRevoke: o.OnRevoke, observe: o.Observe, hash: o.Hash, now: o.Now, log: o.Log}
	if o.Hashes <= 0 {
		o.Hashes = runtime.GOMAXPROCS(0)
	}
	d.gate = make(gate, o.Hashes)
	if d.onRevoke == nil {
		d.onRevoke = func(context.Context, string, string) error { return nil }
	}
	if d.observe == nil {
		d.observe = func(Outcome) {}
	}
	if d.hash == nil {
		d.hash = argon2id
	}
	if d.now == nil {
		d.now = time.Now
	}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	return d
}

// Authenticate checks a name and a password that came from remote, an IP
// address. Errors are ErrCredentials, *LockedOut, ErrBusy, or that the store
// cannot answer. What reaches the store for a name that nobody has is bounded
// by the rate of hashes and goes after one lockout window.
func (d *Directory) Authenticate(ctx context.Context, name, password, remote string) (*Person, error) {
	name = Normalise(name)
	p, err := d.authenticate(ctx, name, password)
	if _, locked := errors.AsType[*LockedOut](err); locked || errors.Is(err, ErrCredentials) {
		d.identify(ctx, name)
	}
	d.report(ctx, name, remote, err)
	return p, err
}

// identify names in the audit record of a refusal whom it is about, if there is
// somebody of that name: what else people type there is no name. It costs the
// same whether there is or not.
func (d *Directory) identify(ctx context.Context, name string) {
	if u, err := d.store.User(ctx, name); err == nil {
		audit.Of(ctx).Subject(u.Subject, u.Name, u.DisplayName, "")
	}
}

func (d *Directory) authenticate(ctx context.Context, name, password string) (*Person, error) {
	policy, at := d.policy(), d.moment()
	attempts := d.slots(name, policy.Lockout, at)
	if err := attempts.locked(ctx); err != nil {
		return nil, err
	}
	// Only who may hash takes a slot, so that a flood of names writes no
	// faster than it hashes, and an attempt that is not made is not counted.
	leave, err := d.gate.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	u, err := d.store.User(ctx, name)
	switch {
	case errors.Is(err, store.ErrNotFound):
		u = &store.User{Name: name, Disabled: true}
	case err != nil:
		return nil, fmt.Errorf("reading a user: %w", err)
	}
	if err := attempts.take(ctx); err != nil {
		return nil, err
	}
	good, hashed := d.matches(password, u.PasswordHash, policy.Hashing)
	if !good || u.Disabled {
		return nil, attempts.failed()
	}
	// Somebody may have disabled the user or changed the password meanwhile.
	switch now, err := d.store.User(ctx, name); {
	case errors.Is(err, store.ErrNotFound):
		return nil, attempts.failed()
	case err != nil:
		return nil, fmt.Errorf("reading a user: %w", err)
	case !now.UpdatedAt.Equal(u.UpdatedAt) || now.Subject != u.Subject:
		return nil, attempts.failed()
	}
	if err := attempts.clear(ctx, 1); err != nil {
		return nil, err
	}
	if hashed.Hashing != policy.Hashing {
		d.rehash(ctx, u, password, policy.Hashing)
	}
	return person(u, at), nil
}

// Current returns the person as the store has them now: ErrGone when the user
// was deleted, replaced by another person or disabled; any other error means
// that the store cannot answer. AuthTime is zero.
func (d *Directory) Current(ctx context.Context, name, subject string) (*Person, error) {
	u, err := d.store.User(ctx, name)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, ErrGone
	case err != nil:
		return nil, fmt.Errorf("reading a user: %w", err)
	case u.Disabled || u.Subject != subject:
		return nil, ErrGone
	}
	return person(u, time.Time{}), nil
}

// moment is now as the store keeps it.
func (d *Directory) moment() time.Time { return d.now().UTC().Truncate(time.Millisecond) }

func person(u *store.User, at time.Time) *Person {
	tenants := slices.Clone(u.Tenants)
	if u.Tenant != "" && !slices.Contains(tenants, u.Tenant) {
		tenants = append(tenants, u.Tenant)
	}
	slices.Sort(tenants)
	return &Person{
		Name: u.Name, Subject: u.Subject, DisplayName: u.DisplayName, Scopes: slices.Sorted(slices.Values(u.Scopes)),
		Roles: slices.Sorted(slices.Values(u.Roles)), Tenant: u.Tenant, Tenants: tenants, AuthTime: at,
	}
}

// Normalise returns a name as it is stored: people type it in any case, and
// with spaces around it.
func Normalise(name string) string { return strings.ToLower(strings.TrimSpace(name)) }
