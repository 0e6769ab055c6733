package refresh

import (
	"context"
	"errors"

	"github.com/stella-ops/stella/internal/authority/store"
)

// End ends the token's family: no token of it works from now on, and the
// access tokens that are still alive are given to Ended.
func (h *Held) End(ctx context.Context) error {
	return h.families.end(ctx, h.handle.id, &h.Family)
}

// Revoke ends the family of a token that belongs to a client, whether the
// token itself is spent or not (RFC 7009 section 2.1). A token of another
// client, and one that is none of ours, is left alone: ErrInvalid.
func (f *Families) Revoke(ctx context.Context, token, clientID string) error {
	h, err := parse(token)
	if err != nil {
		return err
	}
	fam, err := f.family(ctx, h.id)
	if err != nil {
		return err
	}
	made := fam.step
	if h.number > 0 {
		if made, err = f.step(ctx, h.id, h.number-1); err != nil {
			return err
		}
	}
	if fam.ClientID != clientID || !same(made.Next, h.hash()) {
		return ErrInvalid
	}
	return f.end(ctx, h.id, &fam.Family)
}

func (f *Families) end(ctx context.Context, id string, fam *Family) error {
	err := f.Store.Insert(ctx, store.Record{Kind: store.Tokens, ID: id + "/" + ended, Data: []byte(`{}`), Until: fam.Expires})
	if err != nil && !errors.Is(err, store.ErrExists) {
		return err
	}
	// Also when it had ended before: that call may have been cut short here.
	alive, err := f.alive(ctx, id)
	if err != nil || len(alive) == 0 || f.Ended == nil {
		return err
	}
	return f.Ended(ctx, fam, alive)
}

// alive lists the access tokens of a family that have not expired. Their
// number is small: the newest are the last ones.
func (f *Families) alive(ctx context.Context, id string) ([]Access, error) {
	fam, err := f.family(ctx, id)
	if err != nil {
		return nil, err
	}
	now := f.Now()
	var alive []Access
	keep := func(a Access) {
		if a.JTI != "" && now.Before(a.Expires) {
			alive = append(alive, a)
		}
	}
	keep(fam.Access)
	last, err := f.last(ctx, id)
	if err != nil {
		return nil, err
	}
	for n := last; n > 0; n-- {
		s, err := f.step(ctx, id, n-1)
		if err != nil {
			return nil, err
		}
		if !now.Before(s.Access.Expires) {
			break
		}
		keep(s.Access)
	}
	return alive, nil
}

// last returns how many tokens of a family are spent, in a number of reads
// that grows with the logarithm.
func (f *Families) last(ctx context.Context, id string) (uint32, error) {
	spent := func(n uint32) (bool, error) {
		_, err := f.Store.Record(ctx, store.Tokens, key(id, n))
		if errors.Is(err, store.ErrNotFound) {
			return false, nil
		}
		return err == nil, err
	}
	var low, high uint32 = 0, 1 // low are spent for sure
	for high <= maxUses {
		is, err := spent(high - 1)
		if err != nil {
			return 0, err
		}
		if !is {
			break
		}
		low, high = high, 2*high
	}
	for high-low > 1 {
		mid := low + (high-low)/2
		is, err := spent(mid - 1)
		if err != nil {
			return 0, err
		}
		if is {
			low = mid
		} else {
			high = mid
		}
	}
	return low, nil
}
