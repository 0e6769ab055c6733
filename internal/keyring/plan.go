package keyring

import (
	"slices"
	"time"
)

// Plan lists what is left to do at the time now, in the order in which to do
// it. Steps marked Auto are done by advance as soon as they are due.
func (r *Ring) Plan(now time.Time, vantage []Vantage) []Step {
	var steps []Step
	steps = r.planRevoke(steps, now)
	steps = r.planActivate(steps, now, vantage)
	steps = r.planStandby(steps, now)
	steps = r.planRetire(steps, now)
	slices.SortStableFunc(steps, func(a, b Step) int { return later(a.NotBefore, now).Compare(later(b.NotBefore, now)) })
	return steps
}

func (r *Ring) planRevoke(steps []Step, now time.Time) []Step {
	for i := range r.Keys {
		k := &r.Keys[i]
		if k.State != Tainted {
			continue
		}
		due := later(r.Outlived(k), k.TaintedAt)
		steps = append(steps, Step{
			Action: Revoke, KID: k.KID, NotBefore: due, Due: !due.After(now), Auto: true,
			Command: "stella auth rotate revoke " + k.KID + " --reason '…'",
			Why:     "it is tainted; by then nothing honest that it signed is alive. Revoke earlier to cut it off at once",
		})
	}
	return steps
}

func (r *Ring) planActivate(steps []Step, now time.Time, vantage []Vantage) []Step {
	k := r.Standby()
	if k == nil {
		return steps
	}
	s := Step{
		Action: Activate, KID: k.KID, NotBefore: later(k.ActivateAt, r.Matures(k)),
		Auto:    !k.ActivateAt.IsZero() || r.Active() == nil,
		Command: "stella auth rotate activate " + k.KID,
		Why:     "it is the standby; rotate whenever you like",
	}
	switch {
	case r.Active() == nil:
		s.Why = "no key is active: nothing is issued until then; the Authority does it by itself"
	case s.Auto:
		s.Why = "its activation is scheduled"
	}
	if r.Active() == nil {
		vantage = nil // nobody gets a token to report looks with
	}
	var blocked []Lag // by something that time alone does not cure
	for _, l := range r.Lagging(k, vantage, now) {
		s.NotBefore = later(s.NotBefore, l.Until)
		if l.Until.IsZero() && (s.Auto || !l.Stale) {
			blocked = append(blocked, l)
		}
	}
	if s.Blocked = lagText(blocked); s.Blocked != "" && !s.Auto {
		s.Why = "it is the standby; rotate once nothing blocks it"
	}
	s.Due = !s.NotBefore.After(now) && s.Blocked == ""
	return append(steps, s)
}

// planStandby sees to it that one published key always exists.
func (r *Ring) planStandby(steps []Step, now time.Time) []Step {
	var staged, published *Key
	for i := range r.Keys {
		switch k := &r.Keys[i]; k.State {
		case Staged:
			staged = k
		case Published:
			published = k
		}
	}
	switch {
	case staged != nil:
		steps = append(steps, Step{
			Action: Publish, KID: staged.KID, NotBefore: later(staged.StagedAt, r.standbyLess()), Due: true, Auto: published == nil,
			Command: "stella auth rotate publish " + staged.KID,
			Why:     "it is staged, and verifiers cannot know it yet",
		})
	case published == nil:
		steps = append(steps, Step{
			Action: Stage, NotBefore: r.standbyLess(), Due: true, Auto: true,
			Command: "stella auth rotate stage",
			Why:     "there is no standby for an emergency",
		})
	}
	return steps
}

// standbyLess is since when there is no standby, while there is none: when the
// last key that was published signed, was taken back, or was not trusted any more.
func (r *Ring) standbyLess() time.Time {
	var since time.Time
	for i := range r.Keys {
		k := &r.Keys[i]
		switch {
		case k.PublishedAt.IsZero():
		case !k.ActivatedAt.IsZero():
			since = later(since, k.ActivatedAt)
		case !k.TaintedAt.IsZero():
			since = later(since, k.TaintedAt)
		default:
			since = later(since, k.EndedAt)
		}
	}
	return since
}

func (r *Ring) planRetire(steps []Step, now time.Time) []Step {
	for i := range r.Keys {
		k := &r.Keys[i]
		if k.State != Retiring {
			continue
		}
		due := r.Outlived(k)
		steps = append(steps, Step{
			Action: Retire, KID: k.KID, NotBefore: due, Due: !due.After(now), Auto: true,
			Command: "stella auth rotate retire " + k.KID,
			Why:     "by then all that it signed has expired; until then 'undo' can bring it back",
		})
	}
	return steps
}

// next names the next thing to type for somebody who asked for a transition
// that cannot be, of k or of no key. Who wants to go back, or to drop a key, is
// never sent forward to another activation.
func (t *transition) next(k *Key) string {
	switch t.c.Action {
	case Undo:
	case Revoke:
		if k == nil {
			return "stella auth rotate taint KID --reason '…'"
		}
		if !k.State.Ended() {
			return "stella auth rotate taint " + k.KID + " --reason '…'"
		}
	case Retire:
		if k == nil {
			break
		}
		switch k.State {
		case Active:
			return "stella auth rotate"
		case Published:
			return "stella auth rotate withdraw " + k.KID
		case Staged:
			return "stella auth rotate discard " + k.KID
		case Tainted:
			return "stella auth rotate revoke " + k.KID + " --reason '…'"
		}
	default:
		return nextFor(t.Ring, t.now)
	}
	return "stella auth rotate status"
}

// before returns the key that signed last before the active one, whatever has
// become of it.
func (r *Ring) before() *Key {
	var best *Key
	for i := range r.Keys {
		k := &r.Keys[i]
		if k.State != Active && !k.DemotedAt.IsZero() && (best == nil || k.DemotedAt.After(best.DemotedAt)) {
			best = k
		}
	}
	return best
}

// nextFor names the step that is due.
func nextFor(r *Ring, now time.Time) string {
	for _, s := range r.Plan(now, nil) {
		if s.Due {
			return s.Command
		}
	}
	return "stella auth rotate status"
}
