package device

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/stella-ops/stella/internal/authority/store"
)

const (
	// early is how much sooner than asked a poll may come: networks are not
	// even.
	early = time.Second
	// slot is what no two polls may fall into, whatever the interval.
	slot = Interval - early
	// maxSlow bounds how often the interval grows, so to two minutes.
	maxSlow = 23
)

// poll counts a poll of an undecided request and returns ErrPending or a
// *SlowDown.
//
// Time is cut into slots, beginning with the request; the first poll of a slot
// is a unique insert, so of polls at one moment exactly one is in time. The
// slots before it tell when the last one was. Each slow_down is a record too:
// their number makes the interval. A caller at the pace of the interval costs
// three reads and one insert.
func (c *Codes) poll(ctx context.Context, r *request) error {
	now := c.Now()
	slow, last, err := c.slowed(ctx, r)
	if err != nil {
		return err
	}
	interval := Interval * time.Duration(slow+1)
	this := int64(now.Sub(r.Begun) / slot)
	switch err := c.insert(ctx, store.DeviceEvents, pollEvent(r, this), r.until(), now); {
	case errors.Is(err, store.ErrExists):
		return c.slowDown(ctx, r, slow, now)
	case err != nil:
		return err
	}
	for n := this - 1; n >= max(0, this-int64(interval/slot)-1); n-- {
		var at time.Time
		err := c.read(ctx, store.DeviceEvents, pollEvent(r, n), &at)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if at.After(last) {
			last = at
		}
		break
	}
	if !last.IsZero() && now.Sub(last) < interval-early {
		return c.slowDown(ctx, r, slow, now)
	}
	return ErrPending
}

func pollEvent(r *request, n int64) string { return r.event("poll/" + strconv.FormatInt(n, 10)) }

func slowEvent(r *request, n int) string { return r.event("slow/" + strconv.Itoa(n)) }

// slowed returns how many slow_downs r has had and when the last was.
func (c *Codes) slowed(ctx context.Context, r *request) (n int, last time.Time, err error) {
	for n < maxSlow {
		var at time.Time
		err := c.read(ctx, store.DeviceEvents, slowEvent(r, n), &at)
		if errors.Is(err, store.ErrNotFound) {
			return n, last, nil
		}
		if err != nil {
			return 0, last, err
		}
		last = at
		n++
	}
	return n, last, nil
}

// slowDown records one more slow_down beyond the n that are known.
func (c *Codes) slowDown(ctx context.Context, r *request, n int, now time.Time) error {
	for ; n < maxSlow; n++ {
		err := c.insert(ctx, store.DeviceEvents, slowEvent(r, n), r.until(), now)
		if err == nil {
			n++
			break
		}
		if !errors.Is(err, store.ErrExists) {
			return err
		}
	}
	return &SlowDown{Interval * time.Duration(n+1)}
}
