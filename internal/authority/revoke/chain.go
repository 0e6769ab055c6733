package revoke

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/stella-ops/stella/internal/authority/store"
	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/revocation"
)

// Records are written once, yet the time up to which a subject's tokens are
// refused must be able to move, and a look-up must need no list. So each
// subject (and client) has a chain of records numbered from 0, each reaching
// further than the one before; the last one counts, and a unique insert of the
// next number is what moves it. There is one chain for each era, an era being
// a stretch of time of fixed length, and all records of a chain end together:
// a chain never loses its beginning before its end.

// era is the length of an era. Changing it would hide what is stored.
const era = 32 * 24 * time.Hour

// margin is how long something that cannot matter any more is left alone, so
// that replicas whose clocks differ do not contradict each other.
const margin = time.Minute

func eraOf(t time.Time) int64 { return t.Unix() / int64(era/time.Second) }

func tokenID(jti string) string { return "token:" + jti }

// linkID has a tail of fixed length, so that no name can look like another
// name's record.
func linkID(c revocation.Category, name string, era, n int64) string {
	return fmt.Sprintf("%s:%s:%05d:%010d", c, name, era, n)
}

// insert stores an entry under an ID, reporting false when that is taken.
func (r *Register) insert(ctx context.Context, id string, e revocation.Entry, until time.Time) (bool, error) {
	data, err := json.Marshal(e)
	if err != nil {
		return false, fmt.Errorf("encoding a revocation: %w", err)
	}
	err = r.o.Records.Insert(ctx, store.Record{Kind: store.Revocations, ID: id, Data: data, Until: until})
	if errors.Is(err, store.ErrExists) {
		return false, nil
	}
	return err == nil, err
}

// read returns the entry under an ID, or store.ErrNotFound.
func (r *Register) read(ctx context.Context, id string) (*revocation.Entry, error) {
	rec, err := r.o.Records.Record(ctx, store.Revocations, id)
	if err != nil {
		return nil, err
	}
	return decode(rec)
}

func decode(rec *store.Record) (*revocation.Entry, error) {
	var e revocation.Entry
	if err := jose.DecodeStrict(rec.Data, &e); err != nil {
		return nil, fmt.Errorf("revocation %q in the store: %w", rec.ID, err)
	}
	return &e, nil
}

// extend adds a link unless the chain reaches as far already.
func (r *Register) extend(ctx context.Context, e revocation.Entry, name string) (bool, error) {
	number := eraOf(e.RevokedAt)
	until := time.Unix((number+1)*int64(era/time.Second), 0).Add(Longest + margin)
	for {
		last, n, err := r.lastLink(ctx, e.Category, name, number)
		if err != nil {
			return false, err
		}
		if last != nil && !e.RevokedAt.After(last.RevokedAt) {
			return false, nil
		}
		if ok, err := r.insert(ctx, linkID(e.Category, name, number, n), e, until); ok || err != nil {
			return ok, err
		}
		if err := ctx.Err(); err != nil {
			return false, err
		}
	}
}

// lastLink returns the last entry of a chain, nil when there is none, and the
// number of the next. It reads a number of records that grows with the
// logarithm of the chain's length.
func (r *Register) lastLink(ctx context.Context, c revocation.Category, name string, number int64) (last *revocation.Entry, next int64, err error) {
	at := func(n int64) (bool, error) {
		e, err := r.read(ctx, linkID(c, name, number, n))
		if errors.Is(err, store.ErrNotFound) {
			return false, nil
		}
		if err == nil {
			last, next = e, n+1
		}
		return err == nil, err
	}
	// The chain has a link low-1 (or low is 0) and has no link high.
	low, high, step := int64(0), int64(-1), int64(1)
	for high < 0 || low < high {
		n := low + step - 1
		if high >= 0 {
			n = low + (high-low)/2
		}
		ok, err := at(n)
		switch {
		case err != nil:
			return nil, 0, err
		case ok:
			low, step = n+1, step*2
		default:
			high = n
		}
	}
	return last, next, nil
}

// furthest returns the entry that refuses the most of a subject's or client's
// tokens that were issued at iat or later, or nil.
func (r *Register) furthest(ctx context.Context, c revocation.Category, name string, iat time.Time) (*revocation.Entry, error) {
	now := r.o.Now()
	// Another replica's clock may be in the next era already.
	newest := eraOf(now.Add(2*r.o.Skew + 3*time.Second))
	first := max(eraOf(iat), eraOf(now.Add(-Longest)))
	for n := newest; n >= first; n-- {
		last, _, err := r.lastLink(ctx, c, name, n)
		if err != nil || last != nil {
			return last, err
		}
	}
	return nil, nil
}
