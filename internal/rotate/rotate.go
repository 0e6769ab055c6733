package rotate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/keyring"
)

// EventType says what an Event is about.
type EventType string

// The events of a rotation.
const (
	Looked  EventType = "looked"  // a vantage point was looked at
	Changed EventType = "changed" // a transition was made
	Waiting EventType = "waiting" // nothing may be done before Until
	Warning EventType = "warning"
)

// Event is one thing that happened.
type Event struct {
	Type   EventType
	Action keyring.Action
	KID    string
	To     keyring.State
	Until  time.Time // Waiting: by the Authority's clock
	Left   time.Duration
	Text   string
}

// Driver drives the lifecycle of the keys of one Authority.
type Driver struct {
	API    *API
	Looker *Looker
	Events func(Event) // nil: nobody listens
	// Sleep waits; nil means a timer that ends early with ctx.
	Sleep func(ctx context.Context, d time.Duration) error
	// Delays are the waits before questions (not changes) are asked again
	// after a passing failure; nil means 1 s, 2 s, 5 s.
	Delays []time.Duration
}

// Options of Rotate and Advance.
type Options struct {
	Wait   bool   // go on until nothing is left to do
	Force  bool   // Rotate: switch now, whoever may not know the key yet
	Reason string // recorded with the schedule; required with Force
}

// Summary is how far a run came.
type Summary struct {
	From     string          `json:"from_kid,omitempty"` // the key that was active at the start
	To       string          `json:"to_kid,omitempty"`   // the key that is active at the end
	Switched bool            `json:"switched"`
	Changes  []keyring.Moved `json:"changes"`
	Steps    []keyring.Step  `json:"steps"` // what is left
	Report   *keyring.Report `json:"report"`
}

// made reports whether this run itself made kid the active key.
func (s *Summary) made(kid string) bool {
	for _, c := range s.Changes {
		if c.KID == kid && c.To == keyring.Active {
			return true
		}
	}
	return false
}

// Rotate makes the standby the active key and publishes the next standby. A
// rotation that is under way is continued. Without Wait it does what may be
// done now; when the switch itself is not yet allowed, the error has kind
// Partial and the rest is left to advance. The Summary is there in any case.
func (d *Driver) Rotate(ctx context.Context, o Options) (*Summary, error) {
	report, err := d.refresh(ctx)
	if err != nil {
		return nil, err
	}
	s := &Summary{From: activeKID(report), To: activeKID(report)}
	target, err := d.schedule(ctx, report, o, s)
	if err != nil {
		return s, err
	}
	if o.Force {
		if _, err := d.change(ctx, keyring.Request{Action: keyring.Activate, KID: target, Force: true, Reason: o.Reason}, s); err != nil {
			return s, err
		}
	}
	err = d.run(ctx, o, s)
	s.Switched = s.To == target
	if err == nil && !s.Switched {
		err = fault.Errorf(fault.Partial, "key %s is published and scheduled, but may not sign yet", target).
			Hint("%s", nextHint(s.Steps))
	}
	return s, err
}

// Advance does whatever is due. It is what a timer runs.
func (d *Driver) Advance(ctx context.Context, o Options) (*Summary, error) {
	report, err := d.refresh(ctx)
	if err != nil {
		return nil, err
	}
	s := &Summary{From: activeKID(report), To: activeKID(report)}
	err = d.run(ctx, o, s)
	s.Switched = s.To != s.From
	return s, err
}

// schedule sees to it that one published key is scheduled for activation and
// returns its kid.
func (d *Driver) schedule(ctx context.Context, report *keyring.Report, o Options, s *Summary) (string, error) {
	ring := ringOf(report)
	key := ring.Standby()
	if key != nil && !key.ActivateAt.IsZero() {
		return key.KID, nil // a rotation is under way
	}
	kid := ""
	if key != nil {
		kid = key.KID
	} else {
		for _, k := range report.Keys {
			if k.State == keyring.Staged {
				kid = k.KID
			}
		}
		if kid == "" {
			r, err := d.change(ctx, keyring.Request{Action: keyring.Stage, Reason: o.Reason, ExpectVersion: report.Version}, s)
			if err != nil {
				return "", err
			}
			kid, report = r.KID, &r.Report
		}
		r, err := d.change(ctx, keyring.Request{Action: keyring.Publish, KID: kid, Reason: o.Reason, ExpectVersion: report.Version}, s)
		if err != nil {
			return "", err
		}
		report = &r.Report
	}
	_, err := d.change(ctx, keyring.Request{Action: keyring.Schedule, KID: kid, Reason: o.Reason, ExpectVersion: report.Version}, s)
	return kid, err
}

// run does every automatic step that is due, and under Wait waits for the
// next until none is left.
func (d *Driver) run(ctx context.Context, o Options, s *Summary) error {
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
		s.Report, s.Steps, s.To = report, report.Steps, activeKID(report)
		step, left := nextAuto(report)
		switch {
		case step == nil:
			return nil
		case step.Due:
			err := d.do(ctx, *step, report.Version, s)
			if errors.Is(err, keyring.ErrConflict) {
				continue // somebody else did something: look again
			}
			if o.Wait && fault.KindOf(err) == fault.Transient && ctx.Err() == nil {
				d.tell(Event{Type: Warning, Text: err.Error()})
				continue // done or not: the next look tells, and waits for the Authority
			}
			if err != nil {
				return err
			}
		case !o.Wait:
			return nil
		default:
			if err := d.wait(ctx, *step, left, report); err != nil {
				return err
			}
		}
	}
}

func (d *Driver) do(ctx context.Context, step keyring.Step, version uint64, s *Summary) error {
	req := keyring.Request{Action: step.Action, KID: step.KID, ExpectVersion: version}
	if step.Action == keyring.Revoke {
		req.Reason = "nothing honest signed by this tainted key is alive any more"
	}
	_, err := d.change(ctx, req, s)
	return err
}

// Change makes one transition, after looking at the vantage points if it is
// one that they can block.
func (d *Driver) Change(ctx context.Context, req keyring.Request) (*keyring.Result, error) {
	if req.Action == keyring.Activate || req.Action == keyring.Taint {
		if _, err := d.refresh(ctx); err != nil {
			return nil, err
		}
	}
	return d.change(ctx, req, &Summary{})
}

// Status reports the state without changing anything, also no observation.
func (d *Driver) Status(ctx context.Context) (*keyring.Report, error) { return d.report(ctx) }

func (d *Driver) change(ctx context.Context, req keyring.Request, s *Summary) (*keyring.Result, error) {
	r, err := d.API.Change(ctx, req)
	if err != nil {
		return nil, err
	}
	s.Changes = append(s.Changes, keyring.Moved{KID: r.KID, From: r.From, To: r.To})
	s.Changes = append(s.Changes, r.Also...)
	d.tell(Event{Type: Changed, Action: req.Action, KID: r.KID, To: r.To})
	for _, m := range r.Also {
		d.tell(Event{Type: Changed, Action: req.Action, KID: m.KID, To: m.To})
	}
	for _, w := range r.Warnings {
		d.tell(Event{Type: Warning, Text: w})
	}
	return r, nil
}

// refresh looks at every vantage point, reports what was seen, and fetches
// the state that follows from it.
func (d *Driver) refresh(ctx context.Context) (*keyring.Report, error) {
	report, err := d.report(ctx)
	if err != nil {
		return nil, err
	}
	sights := d.Looker.Look(ctx, report.Vantage)
	for _, s := range sights {
		if s.Err != nil {
			d.tell(Event{Type: Warning, Text: fmt.Sprintf("cannot look at vantage point %q: %v", s.Name, s.Err)})
		} else {
			d.tell(Event{Type: Looked, Text: fmt.Sprintf("%s serves %d keys", s.Name, len(s.Set.Keys))})
		}
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if len(sights) == 0 {
		return report, nil
	}
	if err := d.API.Observe(ctx, observations(sights)); err != nil {
		return nil, err
	}
	return d.report(ctx)
}

// report asks for the state, again after a passing failure.
func (d *Driver) report(ctx context.Context) (*keyring.Report, error) {
	delays := d.Delays
	if delays == nil {
		delays = []time.Duration{time.Second, 2 * time.Second, 5 * time.Second}
	}
	for _, delay := range delays {
		r, err := d.API.Report(ctx)
		if fault.KindOf(err) != fault.Transient || ctx.Err() != nil {
			return r, err
		}
		d.tell(Event{Type: Warning, Text: fmt.Sprintf("%v; asking again in %s", err, delay)})
		if err := sleep(ctx, delay); err != nil {
			return nil, err
		}
	}
	return d.API.Report(ctx)
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

func (d *Driver) wait(ctx context.Context, step keyring.Step, left time.Duration, report *keyring.Report) error {
	// Vantage points are looked at several times within a cache lifetime, so
	// that a gap is seen; the timetable alone needs no look in between.
	if len(report.Vantage) > 0 && step.Action == keyring.Activate {
		left = min(left, max(report.Policy.CacheLifetime.Duration()/5, 200*time.Millisecond))
	}
	left = max(left, 50*time.Millisecond)
	d.tell(Event{Type: Waiting, Action: step.Action, KID: step.KID, Until: step.NotBefore, Left: left, Text: step.Blocked})
	if d.Sleep != nil {
		return d.Sleep(ctx, left)
	}
	return sleep(ctx, left)
}

func (d *Driver) tell(e Event) {
	if d.Events != nil {
		d.Events(e)
	}
}
