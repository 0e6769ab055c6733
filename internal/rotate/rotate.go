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

// EventType says what an Event is about.
type EventType string

// The events of a rotation.
const (
	Looked  EventType = "looked"  // a vantage point was looked at
	Changed EventType = "changed" // a transition was made
	Waiting EventType = "waiting" // a step is waited for; Text says what blocks it
	Warning EventType = "warning"
)

// Event is one thing that happened.
type Event struct {
	Type   EventType
	Action keyring.Action
	KID    string
	To     keyring.State
	Until  time.Time     // Waiting: the step's time, by the Authority's clock
	Left   time.Duration // Waiting: from now to Until; zero when only Text is in the way
	Text   string
}

// Driver drives the lifecycle of the keys of one Authority.
type Driver struct {
	API    *API
	Looker *Looker
	Events func(Event) // nil: nobody listens
	// Sleep waits; nil means a timer that ends early with ctx.
	Sleep func(ctx context.Context, d time.Duration) error
	// Delays are the waits before a question is asked again after a passing
	// failure; none means 1 s, 2 s, 5 s. A change is never sent twice: before
	// the next one the state is asked for.
	Delays []time.Duration
	Now    func() time.Time // nil: time.Now

	trouble map[string]trouble // vantage points that could not be looked at
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

func newSummary(r *keyring.Report) *Summary {
	return &Summary{From: activeKID(r), To: activeKID(r), Changes: []keyring.Moved{}, Steps: []keyring.Step{}}
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
	s := newSummary(report)
	target, err := d.prepare(ctx, report, o, s)
	if err != nil {
		return s, err
	}
	if o.Force {
		err = d.force(ctx, target, o.Reason, s)
	}
	if err != nil {
		return s, err
	}
	err = d.run(ctx, o, s)
	s.Switched = s.To == target
	if err == nil && !s.Switched {
		err = notYet(s.Report, target)
	}
	return s, err
}

// Advance does whatever is due. It is what a timer runs.
func (d *Driver) Advance(ctx context.Context, o Options) (*Summary, error) {
	report, err := d.refresh(ctx)
	if err != nil {
		return nil, err
	}
	s := newSummary(report)
	err = d.run(ctx, o, s)
	s.Switched = s.To != s.From
	return s, err
}

// force activates target now, unless the Authority has just done so by itself.
func (d *Driver) force(ctx context.Context, target, reason string, s *Summary) error {
	_, err := d.change(ctx, keyring.Request{Action: keyring.Activate, KID: target, Force: true, Reason: reason}, s)
	if fault.KindOf(err) == fault.Order {
		if r, look := d.report(ctx); look == nil && activeKID(r) == target {
			return nil
		}
	}
	return err
}

// prepare sees to it that one key is published and, unless it will be forced,
// scheduled for activation, and returns its kid.
func (d *Driver) prepare(ctx context.Context, report *keyring.Report, o Options, s *Summary) (string, error) {
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
	if o.Force {
		return kid, nil
	}
	_, err := d.change(ctx, keyring.Request{Action: keyring.Schedule, KID: kid, Reason: o.Reason, ExpectVersion: report.Version}, s)
	return kid, err
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
			d.cannotLook(ctx, s)
		} else {
			d.looked(s)
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

// report asks for the state, again after a passing failure of that request. A
// token that cannot be had is no such failure: that has been tried again.
func (d *Driver) report(ctx context.Context) (*keyring.Report, error) {
	for _, delay := range d.delays() {
		r, err := d.API.Report(ctx)
		_, noToken := errors.AsType[*NoTokenError](err)
		if fault.KindOf(err) != fault.Transient || ctx.Err() != nil || noToken {
			return r, err
		}
		d.tell(Event{Type: Warning, Text: fmt.Sprintf("%v; asking again in %s", err, delay)})
		if err := signals.Sleep(ctx, delay); err != nil {
			return nil, err
		}
	}
	return d.API.Report(ctx)
}

func (d *Driver) tell(e Event) {
	e.Text = flat(e.Text)
	if d.Events != nil {
		d.Events(e)
	}
}
