package users

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/stella-ops/stella/internal/authority/store"
)

// Reasons that OnRevoke is told: machine codes of the revocation bundle.
const (
	ReasonDisabled = "user_disabled"
	ReasonDeleted  = "user_deleted"
	ReasonPassword = "password_changed"
	ReasonRights   = "user_rights_reduced" // a scope, a role or a tenant was taken away
)

// Put creates a user, or replaces them whole when they exist; created tells
// the two apart. Done again after an error it ends in the same state.
func (d *Directory) Put(ctx context.Context, doc *Document, known func(tenant string) bool) (answer *Document, created bool, err error) {
	u, err := doc.toStore(known)
	if err != nil {
		return nil, false, err
	}
	if doc.Password != "" {
		if u.PasswordHash, err = d.newHash(ctx, doc.Password, u.Name); err != nil {
			return nil, false, err
		}
	}
	err = d.lease(ctx, u.Name, func(ctx context.Context) error {
		old, err := d.store.User(ctx, u.Name)
		if errors.Is(err, store.ErrNotFound) {
			created = true
			return d.create(ctx, u)
		}
		if err != nil {
			return err
		}
		u.Subject, u.CreatedAt, u.UpdatedAt = old.Subject, old.CreatedAt, d.after(old)
		if u.PasswordHash == "" {
			u.PasswordHash = old.PasswordHash
		}
		reason := why(old, u, doc.Password != "")
		if reason == ReasonRights {
			// Before, because doing it again finds nothing to take away.
			if err := d.revoke(ctx, u.Subject, reason); err != nil {
				return err
			}
		}
		if err := d.store.ReplaceUser(ctx, u); err != nil || reason == "" {
			return err
		}
		return d.revoke(ctx, u.Subject, reason)
	})
	if err != nil {
		return nil, false, err
	}
	return fromStore(u), created, nil
}

// why says why a replacement of a user ends what they were given; "" when it
// does not.
func why(old, u *store.User, password bool) string {
	less := func(old, now []string) bool {
		return slices.ContainsFunc(old, func(v string) bool { return !slices.Contains(now, v) })
	}
	switch {
	case u.Disabled:
		return ReasonDisabled
	case less(old.Scopes, u.Scopes) || less(old.Roles, u.Roles) || less(old.Tenants, u.Tenants):
		return ReasonRights
	case password:
		return ReasonPassword
	}
	return ""
}

func (d *Directory) revoke(ctx context.Context, subject, reason string) error {
	if err := d.onRevoke(ctx, subject, reason); err != nil {
		return fmt.Errorf("revoking what user %s was given: %w", subject, err)
	}
	return nil
}

// create gives u a subject that nobody ever had and stores it.
func (d *Directory) create(ctx context.Context, u *store.User) error {
	u.Subject = SubjectPrefix + rand.Text()
	u.CreatedAt = d.moment()
	u.UpdatedAt = u.CreatedAt
	return d.store.CreateUser(ctx, u)
}

// after is the time of a change of u. It differs from the one before, so that
// a login under way sees that there was a change.
func (d *Directory) after(u *store.User) time.Time {
	now := d.moment()
	if least := u.UpdatedAt.Add(time.Millisecond); now.Before(least) {
		return least
	}
	return now
}

// newHash judges and hashes a new password; it waits for its turn like a
// login.
func (d *Directory) newHash(ctx context.Context, password, name string) (string, error) {
	policy := d.policy()
	prepared, err := policy.Password.check(password, name)
	if err != nil {
		return "", invalid("password: %v", err)
	}
	leave, err := d.gate.enter(ctx)
	if err != nil {
		return "", err
	}
	defer leave()
	return d.seal(prepared, policy.Hashing), nil
}

// Get returns the document of a user, or store.ErrNotFound.
func (d *Directory) Get(ctx context.Context, name string) (*Document, error) {
	name = Normalise(name)
	u, err := d.store.User(ctx, name)
	if err != nil {
		return nil, err
	}
	doc := fromStore(u)
	at := d.moment()
	err = d.slots(name, d.policy().Lockout, at).locked(ctx)
	if l, ok := errors.AsType[*LockedOut](err); ok {
		until := at.Add(l.RetryAfter)
		doc.LockedUntil, err = &until, nil
	}
	return doc, err
}

// change applies f to a stored user and tells OnRevoke why.
func (d *Directory) change(ctx context.Context, name, reason string, f func(*store.User), then func(context.Context) error) (subject string, err error) {
	err = d.lease(ctx, name, func(ctx context.Context) error {
		u, err := d.store.User(ctx, name)
		if err != nil {
			return err
		}
		subject = u.Subject
		f(u)
		u.UpdatedAt = d.after(u)
		if err := d.store.ReplaceUser(ctx, u); err != nil {
			return err
		}
		if err := d.revoke(ctx, u.Subject, reason); err != nil {
			return err
		}
		return then(ctx)
	})
	return subject, err
}

// SetPassword changes the password and returns the subject. The lockout stays.
func (d *Directory) SetPassword(ctx context.Context, name, password string) (subject string, err error) {
	name = Normalise(name)
	phc, err := d.newHash(ctx, password, name)
	if err != nil {
		return "", err
	}
	return d.change(ctx, name, ReasonPassword, func(u *store.User) { u.PasswordHash = phc }, func(context.Context) error { return nil })
}

// Delete removes a user and returns the subject. The user is disabled first,
// then revoked, then removed: whatever stops it, doing it again finishes it,
// and nobody logs in between.
func (d *Directory) Delete(ctx context.Context, name string) (subject string, err error) {
	name = Normalise(name)
	return d.change(ctx, name, ReasonDeleted, func(u *store.User) { u.Disabled = true }, func(ctx context.Context) error {
		return d.store.DeleteUser(ctx, name)
	})
}

// Unlock forgets failed attempts and returns the subject.
func (d *Directory) Unlock(ctx context.Context, name string) (subject string, err error) {
	name = Normalise(name)
	u, err := d.store.User(ctx, name)
	if err != nil {
		return "", err
	}
	return u.Subject, d.slots(name, d.policy().Lockout, d.moment()).clear(ctx, 2)
}

// Ensure creates the user of doc if there is none of that name, and changes
// nothing otherwise. Any number of replicas may call it at once.
func (d *Directory) Ensure(ctx context.Context, doc *Document, known func(tenant string) bool) (created bool, err error) {
	u, err := doc.toStore(known)
	if err != nil {
		return false, err
	}
	if _, err := d.store.User(ctx, u.Name); !errors.Is(err, store.ErrNotFound) {
		return false, err
	}
	if u.PasswordHash, err = d.newHash(ctx, doc.Password, u.Name); err != nil {
		return false, err
	}
	err = d.create(ctx, u)
	if errors.Is(err, store.ErrExists) {
		return false, nil
	}
	return err == nil, err
}
