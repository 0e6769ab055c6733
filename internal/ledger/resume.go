package ledger

import (
	"fmt"
	"time"

	"github.com/stella-ops/stella/internal/jose"
)

// Resume makes a chain that ends with rec, for a caller that accepted it
// before, remembers its Digest, and wants to go on without reading everything
// again. That nothing before rec was changed, only Accept from the first record
// on can tell. Errors wrap ErrBroken.
func Resume(rec Record, digest string, key jose.Key) (Chain, error) {
	if rec.Digest() != digest {
		return Chain{}, fmt.Errorf("%w: record %d is %s, expected %s", ErrBroken, rec.Seq, rec.Digest(), digest)
	}
	var e Entry
	if err := jose.DecodeStrict(rec.Payload, &e); err != nil {
		return Chain{}, fmt.Errorf("%w: record %d: %w", ErrBroken, rec.Seq, err)
	}
	return Chain{key: key, head: rec, at: e.At}, nil
}

// At is the time of the last accepted record; the next one may not be earlier.
func (c *Chain) At() time.Time { return c.at }
