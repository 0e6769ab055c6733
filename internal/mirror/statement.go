package mirror

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/stella-ops/stella/internal/mirror/store"
	"github.com/stella-ops/stella/internal/objstore"
	"github.com/stella-ops/stella/internal/release"
)

// statement fetches and verifies the statement. What does not verify may be a
// statement and a signature of which a publisher has written only one: it
// counts when it stays the same.
func (r *run) statement(ctx context.Context, etag string) (*release.Statement, error) {
	data, jws, tag, err := r.pair(ctx, etag)
	if err != nil {
		return nil, err
	}
	r.seen.statement, r.seen.jws, r.seen.etag = data, jws, tag
	// What was accepted while its key was valid stays so: see Policy.Verify.
	at := r.m.now()
	if release.Digest(data) == r.state.Pin.Digest && !r.state.PinnedAt.IsZero() {
		at = r.state.PinnedAt
	}
	st, signatures, err := r.m.Policy.Verify(data, jws, r.feed.Name, at)
	r.seen.signatures = signatures
	if err != nil {
		r.seen.facts = store.Facts{Feed: r.feed.Name, Digest: release.Digest(data)}
		if r.knownError(err) {
			return nil, err
		}
		stable := r.settle(ctx, err, func() (bool, error) {
			again, jagain, _, err := r.pair(ctx, "")
			return err == nil && bytes.Equal(again, data) && bytes.Equal(jagain, jws), err
		})
		if stable != nil {
			return nil, stable
		}
		return nil, err
	}
	r.seen.facts = store.FromStatement(st, data, jws).Facts
	return st, nil
}

// pair reads statement and signature file. A missing signature file is an
// empty one.
func (r *run) pair(ctx context.Context, etag string) (data, jws []byte, tag string, err error) {
	data, info, err := r.src.Small(ctx, release.FileStatement, r.m.Policy.Limits.Statement, etag)
	if err != nil {
		return nil, nil, "", err
	}
	jws, _, err = r.src.Small(ctx, release.FileSignature, release.MaxSignature, "")
	if errors.Is(err, objstore.ErrNotFound) {
		err = nil
	}
	return data, jws, info.ETag, err
}

// known reports whether this very release was refused for this reason before,
// and the source had nothing better since. It need not be looked at again.
func (r *run) known(why release.Reason, member string) bool {
	last := r.state.Refused
	return last != nil && last.Reason == why && last.Member == member && last.Digest == r.seen.facts.Digest && !last.At.Before(r.state.Contact.At)
}

// knownError is known for an error.
func (r *run) knownError(err error) bool {
	refused, ok := errors.AsType[*release.Refusal](err)
	return ok && r.known(refused.Reason, refused.Member)
}

// settle looks again for a while whether what does not fit stays the same. The
// result is nil when it does, errMoved when it does not.
func (r *run) settle(ctx context.Context, why error, same func() (bool, error)) error {
	r.m.notify(Event{Type: Settling, Feed: r.feed.Name, Text: why.Error()})
	total := r.m.settle()
	for _, part := range []time.Duration{8, 8, 4, 2} {
		if err := r.m.sleep(ctx, total/part); err != nil {
			return err
		}
		still, err := same()
		switch {
		case errors.Is(err, errMoved), errors.Is(err, objstore.ErrNotFound), errors.Is(err, objstore.ErrChanged), err == nil && !still:
			return errMoved
		case err != nil:
			return err
		}
	}
	return nil
}
