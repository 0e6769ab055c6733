package keyring

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// activate is the gate that the whole package exists for.
func (t *transition) activate() error {
	k := t.Standby()
	if t.c.KID != "" || k == nil {
		var err error
		if k, err = t.target(Published); err != nil {
			return err
		}
	}
	if k.State != Published {
		return t.wrong(k, Published)
	}
	vantage := t.c.Vantage
	if lags := t.Lagging(k, vantage, t.clock); t.Active() == nil && len(lags) > 0 {
		// Without an active key nobody gets a token to report looks with.
		vantage = nil
		t.warn("key %s signs now, because no other does, but %s: verifiers behind it may reject new tokens for a while", k.KID, lagText(lags))
	}
	if err := t.Ring.gate(k, vantage, t.clock); err != nil {
		if !t.c.Force {
			return err
		}
		back := ""
		if t.Active() != nil {
			back = ". Back: stella auth rotate undo --reason '…'"
		}
		t.warn("by force, before its time: %v; verifiers may reject new tokens until they know the key%s", err, back)
	}
	active := t.Active()
	t.promote(k)
	if active != nil {
		t.demote(active, Retiring)
	}
	return nil
}

// gate refuses an activation of k that a verifier somewhere might not follow.
func (r *Ring) gate(k *Key, vantage []Vantage, now time.Time) error {
	next := "stella auth rotate activate " + k.KID
	lag := r.Lagging(k, vantage, now)
	if len(lag) > 0 {
		e := &OrderError{Next: next}
		known := true // when, if time alone helps
		var all, broken []string
		for _, l := range lag {
			known = known && !l.Until.IsZero()
			all = append(all, l.Name)
			if l.Broken {
				broken = append(broken, l.Name)
			}
			e.Earliest = later(e.Earliest, l.Until)
		}
		e.Earliest = later(e.Earliest, r.Matures(k))
		if !known {
			e.Earliest = time.Time{}
		}
		switch e.Lagging = broken; {
		case broken != nil:
		case known:
			e.Lagging = all
		default:
			e.Lagging, e.Next = all, LookAgain
		}
		e.Message = fmt.Sprintf("activate: key %s is not known everywhere: %s", k.KID, lagText(lag))
		return e
	}
	if due := r.Matures(k); due.After(now) {
		return &OrderError{
			Message: fmt.Sprintf("activate: key %s was published at %s; verifiers may hold a set without it until %s",
				k.KID, stamp(k.PublishedAt), stamp(due)),
			Earliest: due,
			Next:     next,
		}
	}
	return nil
}

// Lag is a vantage point that stands in the way of an activation.
type Lag struct {
	Name  string
	Until time.Time // when it would be out of the way; zero when time alone does not help
	Text  string    // what is wrong with it, without its name
	Stale bool      // only that nobody has looked lately: whoever activates by hand looks first
	// Broken: it was looked at, or should have been, when it must have served
	// the key. Before that, looking again may find that all is well.
	Broken bool
}

// Lagging lists the vantage points that have not served k for one full cache
// lifetime, seen with no gap and lately.
func (r *Ring) Lagging(k *Key, vantage []Vantage, now time.Time) []Lag {
	var lags []Lag
	for _, v := range vantage {
		cache := max(r.Policy.CacheLifetime, v.MaxAge).Duration()
		since, ok := v.Since[k.KID]
		due := since.Add(cache + r.Policy.Skew.Duration())
		// From then on every cache there has let go of what it had before.
		surely := later(r.noticed(k.PublishedAt).Add(cache), r.Matures(k).Add(-r.Policy.Skew.Duration()))
		switch {
		case v.LastSeen.IsZero():
			lags = append(lags, Lag{Name: v.Name, Text: "has never been looked at", Broken: now.After(surely)})
		case !ok:
			lags = append(lags, Lag{Name: v.Name, Text: "did not serve it when looked at " + clockTime(v.LastSeen, now), Broken: v.LastSeen.After(surely)})
		case now.Sub(v.LastSeen) > cache+r.Policy.Skew.Duration():
			lags = append(lags, Lag{Name: v.Name, Text: "was last looked at " + stamp(v.LastSeen), Stale: true, Broken: now.After(surely)})
		case due.After(now):
			lags = append(lags, Lag{Name: v.Name, Until: due, Text: "serves it only since " + stamp(since)})
		}
	}
	return lags
}

// clock is t to the second, without the date if that is the day of now.
func clockTime(t, now time.Time) string {
	if t.UTC().Format(time.DateOnly) == now.UTC().Format(time.DateOnly) {
		return t.UTC().Format("15:04:05Z")
	}
	return stamp(t)
}

// lagText says what is wrong where, places with the same trouble together.
func lagText(lags []Lag) string {
	names := map[string][]string{}
	var order []string
	for _, l := range lags {
		if names[l.Text] == nil {
			order = append(order, l.Text)
		}
		names[l.Text] = append(names[l.Text], fmt.Sprintf("%q", l.Name))
	}
	for i, text := range order {
		noun := "vantage point "
		if len(names[text]) > 1 {
			noun = "each of the vantage points "
		}
		order[i] = noun + strings.Join(names[text], ", ") + " " + text
	}
	return strings.Join(order, "; ")
}

// taint takes trust from a key. If it is the active one, the key that has been
// published longest takes over in the same step, and only if it is mature:
// an emergency is no reason to sign with a key that verifiers do not know.
func (t *transition) taint() error {
	k := t.Active()
	if t.c.KID != "" || k == nil {
		var err error
		if k, err = t.target(Active); err != nil {
			return err
		}
	}
	if k.State.Ended() || k.State == Tainted {
		return t.wrong(k, Active, Retiring, Published, Staged)
	}
	if k.State != Active {
		t.move(k, Tainted)
		k.TaintedAt = t.now
		return nil
	}
	heir := t.oldest(t.c.unusable)
	if heir != nil && t.Matures(heir).After(t.clock) && t.c.Force {
		t.warn("by force: verifiers may not know key %s until %s and may reject new tokens until then", heir.KID, stamp(t.Matures(heir)))
	}
	if heir != nil && t.Matures(heir).After(t.clock) && !t.c.Force {
		if !t.c.Outage {
			return &OrderError{
				Message: fmt.Sprintf("taint: key %s is the active one, and its standby %s is not known to all verifiers until %s",
					k.KID, heir.KID, stamp(t.Matures(heir))),
				Earliest: t.Matures(heir),
				Next: fmt.Sprintf("choose: 'stella auth rotate taint %s --outage --reason …' issues nothing until then; '--force' instead of '--outage' switches now, and some verifiers will reject new tokens until then",
					k.KID),
			}
		}
		heir = nil
	}
	if heir == nil && !t.c.Outage {
		unusable := ""
		for _, kid := range slices.Sorted(maps.Keys(t.c.unusable)) {
			unusable += fmt.Sprintf("; key %s could not sign: %v", kid, t.c.unusable[kid])
		}
		return &OrderError{
			Message: fmt.Sprintf("taint: key %s is the active one and there is no standby to take over%s", k.KID, unusable),
			Next:    fmt.Sprintf("'stella auth rotate taint %s --outage --reason …' issues nothing until a new key is known to all verifiers", k.KID),
		}
	}
	t.demote(k, Tainted)
	k.TaintedAt = t.now
	if heir != nil {
		t.promote(heir)
		if lags := t.Lagging(heir, t.c.Vantage, t.clock); len(lags) > 0 {
			t.warn("key %s signs now, but %s: verifiers behind it may reject new tokens for a while", heir.KID, lagText(lags))
		}
	}
	return nil
}
