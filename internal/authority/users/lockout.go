package users

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/stella-ops/stella/internal/authority/store"
)

// The domain separates these hashes from any other of the same name.
const attemptDomain = "stella.authority.login-attempt/v1\x00"

// nameKey stands for a name in the store: whoever reads the records does not
// read names, or what was typed in place of a name.
func nameKey(name string) string {
	sum := sha256.Sum256([]byte(attemptDomain + name))
	return hex.EncodeToString(sum[:])
}

// slots are the attempts of one name. Each attempt takes one by a unique
// insert before the password is looked at, so the count is exact under any
// race. The last slot of a window is the lock at the same time: it holds until
// one window after it was taken, whatever becomes of the process that took it.
type slots struct {
	records store.Records
	Lockout
	key   string
	at    time.Time
	taken int
}

func (d *Directory) slots(name string, l Lockout, at time.Time) *slots {
	return &slots{records: d.store, Lockout: l, key: nameKey(name), at: at}
}

// start is the beginning of the window with at in it, or of one before it.
func (s *slots) start(back int64) int64 {
	window := int64(s.Window / time.Second)
	return (s.at.Unix()/window - back) * window
}

func (s *slots) id(start int64, k int) string { return fmt.Sprintf("%s/%d/%d", s.key, start, k) }

// locked returns LockedOut while the last slot of this window or the one
// before it is taken and holds.
func (s *slots) locked(ctx context.Context) error {
	if !s.Enabled {
		return nil
	}
	for back := range int64(2) {
		r, err := s.records.Record(ctx, store.Attempts, s.id(s.start(back), s.MaxAttempts))
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return fmt.Errorf("reading failed logins: %w", err)
		}
		if left := r.Until.Sub(s.at); left > 0 {
			return &LockedOut{left}
		}
	}
	return nil
}

// take uses up the next slot, or returns LockedOut when none is left.
func (s *slots) take(ctx context.Context) error {
	if !s.Enabled {
		return nil
	}
	start := s.start(0)
	for k := 1; k <= s.MaxAttempts; k++ {
		err := s.records.Insert(ctx, store.Record{
			Kind: store.Attempts, ID: s.id(start, k), Data: []byte("{}"), Until: s.at.Add(s.Window),
		})
		switch {
		case err == nil:
			s.taken = k
			return nil
		case !errors.Is(err, store.ErrExists):
			return fmt.Errorf("counting a login: %w", err)
		}
	}
	if err := s.locked(ctx); err != nil {
		return err
	}
	// The last slot was given back in this moment: the next attempt finds room.
	return &LockedOut{time.Second}
}

// failed is the answer to a wrong password in the slot that was taken.
func (s *slots) failed() error {
	if s.Enabled && s.taken == s.MaxAttempts {
		return &LockedOut{s.Window}
	}
	return ErrCredentials
}

// clear forgets the attempts of the given number of windows, this one first.
func (s *slots) clear(ctx context.Context, windows int64) error {
	if !s.Enabled {
		return nil
	}
	for back := range windows {
		for k := 1; k <= s.MaxAttempts; k++ {
			err := s.records.Remove(ctx, store.Attempts, s.id(s.start(back), k))
			if err != nil && !errors.Is(err, store.ErrNotFound) {
				return fmt.Errorf("forgetting failed logins: %w", err)
			}
		}
	}
	return nil
}
