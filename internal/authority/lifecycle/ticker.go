package lifecycle

import (
	"context"
	"errors"
	"time"

	"github.com/stella-ops/stella/internal/keyring"
)

// Run activates scheduled keys when the timetable and what was seen at
// vantage points allow it, looking every interval until ctx ends. Any number
// of replicas may run it: the keyring lets one of them win.
func (a *API) Run(ctx context.Context, interval time.Duration) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	said := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := a.Advance(ctx)
		text := ""
		if err != nil && ctx.Err() == nil {
			text = err.Error()
		}
		if text != "" && text != said { // once for each reason, not once a second
			a.Log.WarnContext(ctx, "scheduled activation waits", "err", err)
		}
		said = text
	}
}

// Advance makes the activation that is due, if there is one.
func (a *API) Advance(ctx context.Context) error {
	ring := a.Keys.Ring()
	if ring == nil || !waiting(ring) {
		return nil
	}
	look, cancel := context.WithTimeout(ctx, a.Timeout)
	defer cancel()
	points, err := a.Points(look)
	if err != nil && ring.Active() != nil { // without one, time alone decides
		return err
	}
	for _, s := range ring.Plan(a.Now(), points) {
		if s.Action != keyring.Activate || !s.Auto || !s.Due {
			continue
		}
		c := keyring.Change{Operator: "schedule", Vantage: points}
		c.Request = keyring.Request{Action: keyring.Activate, KID: s.KID, Reason: s.Why, ExpectVersion: ring.Version}
		_, err := a.change(ctx, c)
		if errors.Is(err, keyring.ErrConflict) || isOrder(err) && !keyring.IsCannotSign(err) {
			return nil // another replica was first, or the next look decides
		}
		return err
	}
	return nil
}

// waiting reports whether an activation may come by itself.
func waiting(ring *keyring.Ring) bool {
	for _, k := range ring.Keys {
		if k.State == keyring.Published && (!k.ActivateAt.IsZero() || ring.Active() == nil) {
			return true
		}
	}
	return false
}
