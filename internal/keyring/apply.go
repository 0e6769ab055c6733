package keyring

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/stella-ops/stella/internal/fault"
)

// Change is a wanted transition, with what its judge must know.
type Change struct {
	Request
	Operator string    // who asks: "client:ID", "bootstrap-key" or "schedule"
	Vantage  []Vantage // what was seen there; the gate of activate
	Material []byte    // stage: PKCS #8 DER of the key to take in; nil: make an ES256 key
	NewKID   string    // stage: the kid to give; empty: made from date and thumbprint

	policy *Policy // SetPolicy
	keys   []Key   // Init: active and standby; Stage: the new key
	// unusable says why keys cannot sign: no taint makes one of them active.
	unusable map[string]error
}

// Outcome is what a Change did.
type Outcome struct {
	Ring     *Ring
	KID      string
	From, To State
	Also     []Moved  // other keys moved by the same append
	Warnings []string // what the operator should know, though the change was made
}

// MaxReason bounds a reason, in bytes.
const MaxReason = 500

var kidPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

// ValidKID reports whether kid is acceptable: it is a file name and a header
// member, so letters, digits, dot, underscore and hyphen, at most 128.
func ValidKID(kid string) bool { return kidPattern.MatchString(kid) }

// Apply makes the transition c at the time now and returns the new state; r
// is unchanged. It is the whole state machine: it looks at nothing but its
// arguments. Errors are *OrderError or fault errors of kind Input or NotFound.
func (r *Ring) Apply(c Change, now time.Time) (*Outcome, error) {
	if err := checkReason(c); err != nil {
		return nil, err
	}
	// An emergency does not wait until a clock that was ahead is caught up with.
	urgent := c.Action == Taint || c.Action == Revoke
	if behind := r.At.Sub(now); behind > r.Policy.Skew.Duration() && !urgent {
		return nil, &OrderError{Message: fmt.Sprintf("this replica's clock says %s, which is %s before the last change: set the clock first", stamp(now), behind.Round(time.Second))}
	}
	t := &transition{Ring: r.clone(), c: c, clock: now.UTC(), now: later(now, r.At).UTC()}
	t.Version++
	t.At = t.now
	if err := t.apply(); err != nil {
		return nil, err
	}
	t.trim()
	t.out.Ring = t.Ring
	return &t.out, nil
}

// transition is one Apply at work.
type transition struct {
	*Ring
	c     Change
	clock time.Time // judges whether a time has come
	now   time.Time // is written down: never before what was written last
	out   Outcome
}

func (t *transition) apply() error {
	switch t.c.Action {
	case Init, Stage:
		return t.add()
	case SetPolicy:
		return t.setPolicy()
	case Publish:
		return t.simple(Staged, func(k *Key) { t.move(k, Published); k.PublishedAt = t.now })
	case Discard:
		return t.simple(Staged, func(k *Key) { t.end(k, Discarded) })
	case Withdraw:
		return t.simple(Published, func(k *Key) { t.end(k, Withdrawn) })
	case Schedule:
		return t.schedule()
	case Activate:
		return t.activate()
	case Retire:
		return t.retire()
	case Undo:
		return t.undo()
	case Taint:
		return t.taint()
	case Revoke:
		return t.simple(Tainted, func(k *Key) { t.end(k, Revoked) })
	}
	return fault.Errorf(fault.Input, "unknown action %q", t.c.Action)
}

func checkReason(c Change) error {
	if len(c.Reason) > MaxReason {
		return fault.Errorf(fault.Input, "the reason has %d bytes, the limit is %d", len(c.Reason), MaxReason)
	}
	if strings.ContainsFunc(c.Reason, unprintable) {
		return fault.Errorf(fault.Input, "the reason has control characters in it")
	}
	need := c.Force || c.Outage || c.Reference != "" || c.Action == Undo || c.Action == Taint || c.Action == Revoke
	if need && c.Reason == "" {
		return fault.Errorf(fault.Input, "%s needs a reason: it is recorded in the key history", what(c)).
			Hint("add --reason 'why'")
	}
	return nil
}

// unprintable reports control characters and those that reorder text, which a
// record that people read must not hold.
func unprintable(r rune) bool {
	return !unicode.IsPrint(r) || r == unicode.ReplacementChar
}

func what(c Change) string {
	switch {
	case c.Force:
		return string(c.Action) + " by force"
	case c.Outage:
		return string(c.Action) + " with an outage"
	}
	return string(c.Action)
}

// target finds the key that the change is about: the named one, else the only
// one in state s.
func (t *transition) target(s State) (*Key, error) {
	if t.c.KID != "" {
		if k := t.Find(t.c.KID); k != nil {
			return k, nil
		}
		return nil, fault.Errorf(fault.NotFound, "no key %q", t.c.KID).Hint("list the keys: stella auth rotate status")
	}
	var found *Key
	for i := range t.Keys {
		k := &t.Keys[i]
		if k.State != s {
			continue
		}
		if found != nil {
			return nil, fault.Errorf(fault.Input, "%s: several keys are %s (%s, %s, …): name one", t.c.Action, s, found.KID, k.KID).
				Hint("stella auth rotate %s %s", t.c.Action, found.KID)
		}
		found = k
	}
	if found == nil {
		return nil, &OrderError{Message: fmt.Sprintf("%s: no key is %s", t.c.Action, s), Next: t.next(nil)}
	}
	return found, nil
}

func (t *transition) warn(format string, args ...any) {
	t.out.Warnings = append(t.out.Warnings, fmt.Sprintf(format, args...))
}

// simple is a transition with no timetable.
func (t *transition) simple(from State, do func(*Key)) error {
	k, err := t.target(from)
	if err != nil {
		return err
	}
	if k.State != from {
		return t.wrong(k, from)
	}
	do(k)
	return nil
}

func (t *transition) wrong(k *Key, want ...State) error {
	e := &OrderError{Message: fmt.Sprintf("%s: key %s is %s, not %s", t.c.Action, k.KID, k.State, orList(want)), Next: t.next(k)}
	if t.c.Action == Undo && !k.TaintedAt.IsZero() {
		e.Message = fmt.Sprintf("undo: the old key %s is tainted and never comes back", k.KID)
	}
	return e
}

// move changes k's state; the first moved key is the one the change is about.
func (t *transition) move(k *Key, to State) {
	if t.out.KID == "" {
		t.out.KID, t.out.From, t.out.To = k.KID, k.State, to
	} else {
		t.out.Also = append(t.out.Also, Moved{k.KID, k.State, to})
	}
	k.State = to
	k.ActivateAt = time.Time{}
}

func (t *transition) end(k *Key, to State) {
	t.move(k, to)
	k.EndedAt = t.now
	if !k.Given { // a key of the operator's own is still there, and theirs
		k.Private = ""
	}
}

// demote ends k's time as the active key. Replicas may go on signing with it
// for one sign lease, and what they sign lives for its longest life.
func (t *transition) demote(k *Key, to State) {
	t.move(k, to)
	k.DemotedAt = t.now
	k.AliveUntil = t.noticed(t.now).Add(k.LongestLife.Duration())
}

func (t *transition) promote(k *Key) {
	t.move(k, Active)
	k.ActivatedAt = t.now
	k.AliveUntil = time.Time{}
	k.LongestLife = max(k.LongestLife, t.Policy.TokenLifetime)
}

// maxLive bounds the keys that have not ended, well below what readers of a
// JWKS accept.
const maxLive = 32

func (t *transition) add() error {
	live := 0
	for _, k := range t.Keys {
		if !k.State.Ended() {
			live++
		}
	}
	if live+len(t.c.keys) > maxLive {
		return &OrderError{
			Message: fmt.Sprintf("%s: there are %d keys that have not ended, the limit is %d", t.c.Action, live, maxLive),
			Next:    "stella auth rotate discard KID, or withdraw KID, for those that are not needed",
		}
	}
	for _, k := range t.c.keys {
		if !ValidKID(k.KID) {
			return fault.Errorf(fault.Input, "kid %q: use 1 to 128 letters, digits, dots, underscores and hyphens", k.KID)
		}
		if t.Find(k.KID) != nil {
			return &OrderError{Message: fmt.Sprintf("a key %q exists already; a kid is never used twice", k.KID)}
		}
		t.Keys = append(t.Keys, k)
	}
	if t.c.Action == Init {
		t.Policy = *t.c.policy
		// Nobody can have cached a set of an Authority that never had one.
		t.Keys[0].PublishedAt, t.Keys[1].PublishedAt = t.now, t.now
		t.Keys[0].State, t.Keys[1].State = Published, Published
		t.promote(&t.Keys[0])
		return nil
	}
	if t.c.Action == Stage {
		k := t.c.keys[0]
		t.out.KID, t.out.To = k.KID, k.State
	}
	return nil
}

func (t *transition) setPolicy() error {
	p := *t.c.policy
	cache, lease := t.Policy.CacheLifetime, t.Policy.SignLease
	if t.noticed(t.PolicyAt).Add(t.PriorCache.Duration()).After(t.now) {
		cache = max(cache, t.PriorCache)
	}
	if t.PolicyAt.Add(t.PriorLease.Duration()).After(t.now) {
		lease = max(lease, t.PriorLease)
	}
	t.Policy, t.PriorCache, t.PriorLease, t.PolicyAt = p, cache, lease, t.now
	if k := t.Active(); k != nil {
		k.LongestLife = max(k.LongestLife, p.TokenLifetime)
	}
	return nil
}

func (t *transition) schedule() error {
	k, err := t.target(Published)
	if err != nil {
		return err
	}
	if k.State != Published {
		return t.wrong(k, Published)
	}
	for i := range t.Keys {
		t.Keys[i].ActivateAt = time.Time{} // one at a time
	}
	k.ActivateAt = later(t.c.ActivateAt.UTC(), t.now)
	t.out.KID, t.out.From, t.out.To = k.KID, k.State, k.State
	return nil
}

func (t *transition) retire() error {
	k := t.lastDemoted()
	if t.c.KID != "" || k == nil {
		var err error
		if k, err = t.target(Retiring); err != nil {
			return err
		}
	}
	if t.c.KID == "" { // the one that is due first
		for i := range t.Keys {
			if o := &t.Keys[i]; o.State == Retiring && o.AliveUntil.Before(k.AliveUntil) {
				k = o
			}
		}
	}
	if k.State != Retiring {
		return t.wrong(k, Retiring)
	}
	if due := t.Outlived(k); due.After(t.clock) {
		if t.c.Force {
			t.warn("retire by force: verifiers reject from now on what key %s signed and is valid until %s", k.KID, stamp(due))
			t.end(k, Retired)
			return nil
		}
		return &OrderError{
			Message:  fmt.Sprintf("retire: something that key %s signed may be valid until %s", k.KID, stamp(due)),
			Earliest: due,
			Next:     "stella auth rotate retire " + k.KID,
		}
	}
	t.end(k, Retired)
	return nil
}

func (t *transition) undo() error {
	k := t.lastDemoted()
	if t.c.KID != "" {
		var err error
		if k, err = t.target(Retiring); err != nil {
			return err
		}
	}
	if k == nil {
		if old := t.before(); old != nil && !old.TaintedAt.IsZero() {
			return t.wrong(old, Retiring)
		}
		return &OrderError{Message: "undo: no key is retiring, so there is nothing to go back to", Next: t.next(nil)}
	}
	if k.State != Retiring {
		return t.wrong(k, Retiring)
	}
	// A key that was once activated by force may still be too young.
	if due := t.Matures(k); due.After(t.clock) && !t.c.Force {
		return &OrderError{
			Message:  fmt.Sprintf("undo: verifiers may hold a set without key %s until %s", k.KID, stamp(due)),
			Earliest: due,
			Next:     "stella auth rotate undo " + k.KID + " --reason '…'",
		}
	}
	active := t.Active()
	t.promote(k)
	if active != nil {
		t.demote(active, Retiring)
	}
	// A rotation that is still scheduled would undo the undo.
	for i := range t.Keys {
		t.Keys[i].ActivateAt = time.Time{}
	}
	return nil
}

func orList(states []State) string {
	s := string(states[0])
	for _, o := range slices.Clone(states[1:]) {
		s += " or " + string(o)
	}
	return s
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
