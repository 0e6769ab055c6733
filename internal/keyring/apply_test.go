package keyring

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/jose"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func sec(n int) Seconds { return Seconds(time.Duration(n) * time.Second) }

func testPolicy() Policy {
	return Policy{CacheLifetime: sec(300), Skew: sec(30), TokenLifetime: sec(120), SignLease: sec(10)}
}

// stub is a staged key without material: the state machine never looks at it.
func stub(kid string, now time.Time) Key {
	return Key{KID: kid, Alg: jose.ES256, State: Staged, Private: kid, StagedAt: now}
}

func newRing(t interface{ Fatal(...any) }, p Policy, now time.Time) *Ring {
	c := Change{Request: Request{Action: Init}, policy: &p, keys: []Key{stub("k1", now), stub("k2", now)}}
	out, err := (&Ring{}).Apply(c, now)
	if err != nil {
		t.Fatal(err)
	}
	return out.Ring
}

// walk drives the state machine at random and checks the promises of the
// package after every step, from its own book-keeping of what was served and
// signed, not from the times that the machine writes down.
type walk struct {
	ring   *Ring
	now    time.Time
	made   int
	served map[string]time.Time // kid: since when without a gap it is in the set
	eras   []era                // of the policy
	signed map[string]time.Time // kid: when the last thing it signed expires for every verifier
	steps  int
	last   uint64
	done   map[Action]int // shared by all walks
}

// era is a time in which one policy was in force.
type era struct {
	at               time.Time
	age, lease, life time.Duration
}

func eraOf(p Policy, at time.Time) era {
	return era{at, p.CacheLifetime.Duration(), p.SignLease.Duration(), p.TokenLifetime.Duration()}
}

// lagged is until when a replica may act as if what happened at t had not,
// and live in era i: it looked at the history for the last time just before
// the era ended or t came.
func (w *walk) lagged(i int, t time.Time) time.Time {
	end := t
	if i+1 < len(w.eras) {
		end = earlier(end, w.eras[i+1].at)
	}
	return end.Add(w.eras[i].lease)
}

func (w *walk) do(t *rapid.T) {
	w.steps++
	w.now = w.now.Add(time.Duration(rapid.IntRange(0, 120).Draw(t, "wait")) * time.Second)
	before := w.ring
	c := Change{Operator: "walker"}
	c.Action = rapid.SampledFrom([]Action{Stage, Publish, Schedule, Activate, Activate, Retire, Discard, Withdraw, Undo, Taint, Revoke, SetPolicy}).Draw(t, "action")
	c.Reason = rapid.SampledFrom([]string{"", "because"}).Draw(t, "reason")
	c.Force = rapid.IntRange(0, 30).Draw(t, "force") == 0
	c.Outage = rapid.IntRange(0, 3).Draw(t, "outage") == 0
	if rapid.Bool().Draw(t, "named") && len(before.Keys) > 0 {
		c.KID = rapid.SampledFrom(before.Keys).Draw(t, "kid").KID
	}
	switch c.Action {
	case Stage:
		w.made++
		c.keys = []Key{stub(fmt.Sprintf("s%d", w.made), w.now)}
	case SetPolicy:
		p := testPolicy()
		p.CacheLifetime = sec(rapid.IntRange(1, 600).Draw(t, "cache"))
		p.TokenLifetime = sec(rapid.IntRange(1, 900).Draw(t, "life"))
		p.SignLease = sec(rapid.IntRange(1, 300).Draw(t, "lease"))
		c.policy = &p
	}
	out, err := before.Apply(c, w.now)
	if err != nil {
		if k := fault.KindOf(err); !errors.As(err, new(*OrderError)) && k != fault.Input && k != fault.NotFound {
			t.Fatalf("%s: error of no known kind: %v", c.Action, err)
		}
		return
	}
	w.done[c.Action]++
	w.check(t, before, c, out)
	w.ring = out.Ring
}

type fataler interface {
	Fatalf(format string, args ...any)
}

func (w *walk) check(t fataler, before *Ring, c Change, out *Outcome) {
	after := out.Ring
	if after.Version != before.Version+1 || after.Version <= w.last || after.At.Before(before.At) {
		t.Fatalf("history does not only grow: %d after %d", after.Version, before.Version)
	}
	w.last = after.Version
	active := 0
	for i := range after.Keys {
		k := &after.Keys[i]
		if k.State == Active {
			active++
			w.checkSigner(t, before, k, c)
			// It may sign until a lagging replica notices, for the longest
			// life in force meanwhile.
			w.signed[k.KID] = time.Time{}
		}
		if old := before.Find(k.KID); old != nil && old.State == Active {
			for i, e := range w.eras {
				if i+1 < len(w.eras) && !w.eras[i+1].at.After(old.ActivatedAt) {
					continue // over before it was active
				}
				w.signed[k.KID] = later(w.signed[k.KID], w.lagged(i, w.now).Add(e.life))
			}
		}
		if k.InSet() && w.served[k.KID].IsZero() {
			w.served[k.KID] = w.now
		}
	}
	if active > 1 {
		t.Fatalf("%d keys are active", active)
	}
	if c.Action == SetPolicy {
		w.eras = append(w.eras, eraOf(*c.policy, w.now))
	}
	w.checkVanished(t, before, after, c)
}

// checkSigner: a key that becomes active must be in every set that anybody
// can still hold in a cache.
func (w *walk) checkSigner(t fataler, before *Ring, k *Key, c Change) {
	if old := before.Find(k.KID); old != nil && old.State == Active || c.Force {
		return
	}
	since := w.served[k.KID]
	if since.IsZero() {
		t.Fatalf("key %s signs and was never served", k.KID)
	}
	for i, e := range w.eras {
		if e.at.After(since) {
			break
		}
		if held := w.lagged(i, since).Add(e.age); held.After(w.now) {
			t.Fatalf("key %s signs at %s, but a set without it may be cached until %s", k.KID, w.now, held)
		}
	}
}

// checkVanished: a key leaves the set only when nothing it signed is alive,
// or because it was revoked, or by force.
func (w *walk) checkVanished(t fataler, before, after *Ring, c Change) {
	for i := range before.Keys {
		old := &before.Keys[i]
		now := after.Find(old.KID)
		if !old.InSet() || now != nil && now.InSet() {
			continue
		}
		delete(w.served, old.KID)
		if c.Action == Revoke || c.Force {
			continue
		}
		if alive := w.signed[old.KID]; alive.After(w.now) || old.State == Active {
			t.Fatalf("%s: key %s vanished at %s, something it signed lives until %s", c.Action, old.KID, w.now, alive)
		}
	}
}

func newWalk(t interface{ Fatal(...any) }) *walk {
	w := &walk{now: epoch, served: map[string]time.Time{}, signed: map[string]time.Time{}}
	w.ring = newRing(t, testPolicy(), epoch)
	w.last = w.ring.Version
	w.eras = []era{eraOf(testPolicy(), epoch)}
	// Nobody has a set from before there was an Authority.
	w.served["k1"], w.served["k2"] = epoch.Add(-time.Hour), epoch
	return w
}

// caught records what the checks of a walk say.
type caught struct{ texts []string }

func (c *caught) Fatalf(format string, args ...any) {
	c.texts = append(c.texts, fmt.Sprintf(format, args...))
}

// TestWalkSeesFlaws: a machine with a flaw does not get past the checks of a
// walk. The flaws are what --force does, judged as if nobody had said so, and
// states that the machine never makes.
func TestWalkSeesFlaws(t *testing.T) {
	early := Change{Request: Request{Action: Activate, Force: true, Reason: "x"}}
	retire := Change{Request: Request{Action: Retire, Force: true, Reason: "x"}}
	none := func(*Ring) {}
	for name, tc := range map[string]struct {
		changes []Change
		flaw    func(*Ring)
		honest  bool // the check is told of the force
		want    string
	}{
		"control: forced and said": {[]Change{early, retire}, none, true, ""},
		"a key signs too early":    {[]Change{early}, none, false, "may be cached until"},
		"a key vanishes too early": {[]Change{early, retire}, none, false, "vanished at"},
		"two active keys":          {[]Change{early}, func(r *Ring) { r.Find("k1").State = Active }, true, "keys are active"},
		"history does not grow":    {[]Change{early}, func(r *Ring) { r.Version-- }, true, "does not only grow"},
		"a signer never published": {[]Change{early}, func(r *Ring) {
			r.Keys = append(r.Keys, stub("k9", epoch))
			r.Find("k2").State = Retiring
			r.Find("k9").State = Active
		}, false, "was never served"},
	} {
		t.Run(name, func(t *testing.T) {
			w, c := newWalk(t), &caught{}
			for i, ch := range tc.changes {
				before := w.ring
				out, err := before.Apply(ch, w.now)
				if err != nil {
					t.Fatal(err)
				}
				if i == len(tc.changes)-1 {
					tc.flaw(out.Ring)
				}
				ch.Force = tc.honest
				w.check(c, before, ch, out)
				w.ring = out.Ring
			}
			got := strings.Join(c.texts, "; ")
			if tc.want == "" && got != "" || !strings.Contains(got, tc.want) {
				t.Errorf("the walk says %q, want %q", got, tc.want)
			}
		})
	}
}

func TestRandomWalks(t *testing.T) {
	const perWalk = 1000
	steps, walks := 0, 0
	done := map[Action]int{}
	for steps < 100_000 {
		rapid.Check(t, func(t *rapid.T) {
			w := newWalk(t)
			w.done = done
			for range perWalk {
				w.do(t)
			}
			steps += w.steps
			walks++
		})
		if t.Failed() {
			return
		}
	}
	for _, a := range []Action{Stage, Publish, Schedule, Activate, Retire, Discard, Withdraw, Undo, Taint, Revoke, SetPolicy} {
		if done[a] == 0 {
			t.Errorf("no walk ever did %s, so nothing was shown about it", a)
		}
	}
	t.Logf("%d random steps in %d walks; changes made: %v", steps, walks, done)
}
