package users

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stella-ops/stella/internal/authority/problem"
	"github.com/stella-ops/stella/internal/authority/store"
)

// A user is replaced whole, so two who change one user at the same time would
// each undo the other: a better hash stored at login must not bring back the
// old password, or an enabled user. Whoever changes a user holds a lease: a
// record of this minute that nobody else has, with none of the minutes beside
// it. Of two at a border each sees the other, and at least one gives way. A
// lease that a dead process has left stands in the way for two minutes at most.
const (
	leaseMinute = int64(60)
	leaseWork   = 10 * time.Second // a change ends by then
	leaseHolds  = 40 * time.Second // longer than leaseWork by more than clocks differ
)

// errChanging means that another change of the user is under way.
var errChanging = problem.New(problem.Conflict, "another change of this user is under way; try again in a minute")

// lease calls f, which changes the user of that name, while nobody else does,
// or returns errChanging.
func (d *Directory) lease(ctx context.Context, name string, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, leaseWork)
	defer cancel()
	now := d.moment()
	minute := now.Unix() / leaseMinute
	id := func(m int64) string { return fmt.Sprintf("%s/change/%d", nameKey(name), m) }
	err := d.store.Insert(ctx, store.Record{Kind: store.Attempts, ID: id(minute), Data: []byte("{}"), Until: now.Add(leaseHolds)})
	if errors.Is(err, store.ErrExists) {
		return errChanging
	}
	if err != nil {
		return fmt.Errorf("beginning to change a user: %w", err)
	}
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaseWork)
		defer cancel()
		_ = d.store.Remove(end, store.Attempts, id(minute)) // it ends by itself too
	}()
	for _, m := range []int64{minute - 1, minute + 1} {
		r, err := d.store.Record(ctx, store.Attempts, id(m))
		switch {
		case errors.Is(err, store.ErrNotFound):
		case err != nil:
			return fmt.Errorf("beginning to change a user: %w", err)
		case r.Until.After(now):
			return errChanging
		}
	}
	return f(ctx)
}

// rehash stores the password under the parameters of today's policy. It is
// left to the next login when anything stands in the way.
func (d *Directory) rehash(ctx context.Context, was *store.User, password string, h Hashing) {
	prepared, err := opaque(password)
	if err != nil {
		return
	}
	phc := d.seal(prepared, h)
	err = d.lease(ctx, was.Name, func(ctx context.Context) error {
		u, err := d.store.User(ctx, was.Name)
		if err != nil || u.Subject != was.Subject || u.PasswordHash != was.PasswordHash {
			return err
		}
		u.PasswordHash = phc
		return d.store.ReplaceUser(ctx, u)
	})
	if err != nil && !errors.Is(err, errChanging) {
		d.log.WarnContext(ctx, "storing a password under the new parameters; the next login tries again", "err", err)
	}
}
