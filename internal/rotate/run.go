package rotate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/keyring"
	"github.com/stella-ops/stella/internal/signals"
)

// run does every automatic step that is due, and under Wait waits for the
// next until none is left.
func (d *Driver) run(ctx context.Context, o Options, s *Summary) error {
	refused := 0 // in a row
	for {
		report, err := d.refresh(ctx)
		if err != nil {
			return err
		}
		if now := activeKID(report); now != s.To && now != "" && !s.made(now) {
			// The Authority activates what is scheduled by itself, too.
			s.Changes = append(s.Changes, keyring.Moved{KID: now, From: keyring.Published, To: keyring.Active})
			d.tell(Event{Type: Changed, Action: keyring.Activate, KID: now, To: keyring.Active})
		}
		s.Report, s.To = report, activeKID(report)
		s.Steps = append([]keyring.Step{}, report.Steps...) // empty, never absent
		step := nextAuto(report)
		switch {
		case step == nil:
			return nil
		case step.Due:
			err := d.do(ctx, *step, report.Version, s)
			if err == nil {
				refused = 0
				continue
			}
			refused++
			if err := d.again(ctx, err, o, refused); err != nil {
				return err
			}
		case !o.Wait:
			return nil
		default:
			if err := d.wait(ctx, *step, report); err != nil {
				return err
			}
		}
	}
}

// maxRefused bounds how often in a row a step that was due may be refused for
// its order, by replicas whose clocks differ or because others are at work.
const maxRefused = 5

// again decides whether to look again after a due step failed: nil means yes,
// once a pause is over. Whether it was done or not, the next look tells.
func (d *Driver) again(ctx context.Context, err error, o Options, refused int) error {
	switch kind := fault.KindOf(err); {
	case ctx.Err() != nil:
		return err
	case errors.Is(err, keyring.ErrConflict) && refused < maxRefused:
		return nil // somebody else did something
	case o.Wait && (kind == fault.Transient || kind == fault.Order && refused < maxRefused):
		delays := d.delays()
		delay := delays[min(refused, len(delays))-1]
		d.tell(Event{Type: Warning, Text: fmt.Sprintf("%v; looking again in %s", err, delay)})
		return signals.Sleep(ctx, delay)
	}
	return err
}

func (d *Driver) delays() []time.Duration {
	if len(d.Delays) > 0 {
		return d.Delays
	}
	return []time.Duration{time.Second, 2 * time.Second, 5 * time.Second}
}

func (d *Driver) do(ctx context.Context, step keyring.Step, version uint64, s *Summary) error {
	req := keyring.Request{Action: step.Action, KID: step.KID, ExpectVersion: version}
	if step.Action == keyring.Revoke {
		req.Reason = "nothing honest signed by this tainted key is alive any more"
	}
	_, err := d.change(ctx, req, s)
	return err
}

// The interval between looks while something is waited for.
const (
	minLook = 200 * time.Millisecond
	maxLook = 30 * time.Second
)

// lookEvery is how often vantage points are looked at: several times within a
// cache lifetime, so that a gap is seen.
func lookEvery(p keyring.Policy) time.Duration {
	return max(min(p.CacheLifetime.Duration()/5, maxLook), minLook)
}

// wait waits for step, but no longer than until the next look. While there is
// a standby the vantage points are looked at whatever is waited for: when an
// emergency comes, the standby must be known to have been everywhere.
func (d *Driver) wait(ctx context.Context, step keyring.Step, report *keyring.Report) error {
	left := max(step.NotBefore.Sub(report.Now), 0)
	nap := left
	places := len(report.Vantage) + len(d.Looker.Extra)
	switch look := lookEvery(report.Policy); {
	case step.Blocked != "":
		nap = look
	case places > 0 && ringOf(report).Standby() != nil:
		nap = min(nap, look)
	}
	nap = max(nap, 50*time.Millisecond)
	d.tell(Event{Type: Waiting, Action: step.Action, KID: step.KID, Until: step.NotBefore, Left: left, Text: step.Blocked})
	if d.Sleep != nil {
		return d.Sleep(ctx, nap)
	}
	return signals.Sleep(ctx, nap)
}
