package keyring

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/fault"
)

// TestRefusals: each refusal beside a control that differs in one thing and
// is accepted.
func TestRefusals(t *testing.T) {
	p := testPolicy()
	mature := p.CacheLifetime.Duration() + p.SignLease.Duration() + p.Skew.Duration()
	outlived := p.SignLease.Duration() + p.TokenLifetime.Duration() + p.Skew.Duration()
	seen := func(since, last time.Time, maxAge Seconds) []Vantage {
		return []Vantage{{Name: "edge", URL: "https://edge/jwks", Since: map[string]time.Time{"k2": since}, LastSeen: last, MaxAge: maxAge}}
	}
	rotated := func(t *testing.T) *Ring { // k1 retiring since epoch+mature, k2 active
		return apply(t, newRing(t, p, epoch), epoch.Add(mature), Change{Request: Request{Action: Activate}})
	}
	fresh := func(t *testing.T) *Ring { return newRing(t, p, epoch) }
	at := epoch.Add(mature)
	cases := []struct {
		name             string
		ring             func(*testing.T) *Ring
		bad, good        Change
		badAt, goodAt    time.Time
		earliest         time.Time
		kind             fault.Kind
		lagging, mention string
	}{
		{name: "activate one second early", ring: fresh,
			bad: Change{Request: Request{Action: Activate}}, badAt: at.Add(-time.Second),
			good: Change{Request: Request{Action: Activate}}, goodAt: at,
			earliest: at, kind: fault.Order, mention: "may hold a set without it"},
		{name: "activate while a vantage point lags", ring: fresh,
			bad:  Change{Request: Request{Action: Activate}, Vantage: []Vantage{{Name: "edge", LastSeen: at, Since: map[string]time.Time{"k1": epoch}}}},
			good: Change{Request: Request{Action: Activate}, Vantage: seen(epoch, at, 0)}, badAt: at, goodAt: at,
			kind: fault.Order, lagging: "edge", mention: "did not serve it when looked at 03:09:45Z"},
		{name: "activate while a vantage point was never looked at", ring: fresh,
			bad:  Change{Request: Request{Action: Activate}, Vantage: []Vantage{{Name: "edge"}}},
			good: Change{Request: Request{Action: Activate}, Vantage: seen(epoch, at, 0)}, badAt: at, goodAt: at,
			kind: fault.Order, lagging: "edge", mention: "never been looked at"},
		{name: "activate on an old look", ring: fresh,
			bad:  Change{Request: Request{Action: Activate}, Vantage: seen(epoch, at.Add(-331*time.Second), 0)},
			good: Change{Request: Request{Action: Activate}, Vantage: seen(epoch, at.Add(-330*time.Second), 0)}, badAt: at, goodAt: at,
			kind: fault.Order, lagging: "edge", mention: "last looked at"},
		{name: "activate when an edge caches longer than we say", ring: fresh,
			bad:  Change{Request: Request{Action: Activate}, Vantage: seen(epoch, at, sec(3600))},
			good: Change{Request: Request{Action: Activate}, Vantage: seen(epoch.Add(-time.Hour), at, sec(3600))}, badAt: at, goodAt: at,
			earliest: epoch.Add(time.Hour + 30*time.Second), kind: fault.Order, lagging: "edge", mention: "only since"},
		{name: "force without a reason", ring: fresh,
			bad: Change{Request: Request{Action: Activate, Force: true}}, badAt: epoch,
			good: Change{Request: Request{Action: Activate, Force: true, Reason: "drill"}}, goodAt: epoch,
			kind: fault.Input, mention: "needs a reason"},
		{name: "retire one second early", ring: rotated,
			bad: Change{Request: Request{Action: Retire}}, badAt: at.Add(outlived - time.Second),
			good: Change{Request: Request{Action: Retire}}, goodAt: at.Add(outlived),
			earliest: at.Add(outlived), kind: fault.Order, mention: "may be valid until"},
		{name: "retire the active key", ring: rotated,
			bad: Change{Request: Request{Action: Retire, KID: "k2"}}, badAt: at.Add(outlived),
			good: Change{Request: Request{Action: Retire, KID: "k1"}}, goodAt: at.Add(outlived),
			kind: fault.Order, mention: "is active, not retiring"},
		{name: "undo with nothing to go back to", ring: fresh,
			bad: Change{Request: Request{Action: Undo, Reason: "x", KID: "k2"}}, badAt: at,
			good: Change{Request: Request{Action: Activate, KID: "k2"}}, goodAt: at,
			kind: fault.Order, mention: "is published, not retiring"},
		{name: "revoke what is not tainted", ring: rotated,
			bad: Change{Request: Request{Action: Revoke, KID: "k1", Reason: "x"}}, badAt: at,
			good: Change{Request: Request{Action: Taint, KID: "k1", Reason: "x"}}, goodAt: at,
			kind: fault.Order, mention: "is retiring, not tainted"},
		{name: "taint the active key with no standby", ring: rotated,
			bad: Change{Request: Request{Action: Taint, Reason: "x"}}, badAt: at,
			good: Change{Request: Request{Action: Taint, Reason: "x", Outage: true}}, goodAt: at,
			kind: fault.Order, mention: "no standby"},
		{name: "taint the active key with a standby too young", ring: fresh,
			bad: Change{Request: Request{Action: Taint, Reason: "x"}}, badAt: at.Add(-time.Second),
			good: Change{Request: Request{Action: Taint, Reason: "x"}}, goodAt: at,
			earliest: at, kind: fault.Order, mention: "not known to all verifiers"},
		{name: "unknown kid", ring: fresh,
			bad: Change{Request: Request{Action: Activate, KID: "k9"}}, badAt: at,
			good: Change{Request: Request{Action: Activate, KID: "k2"}}, goodAt: at,
			kind: fault.NotFound, mention: `"k9"`},
		{name: "a kid twice", ring: fresh,
			bad: Change{Request: Request{Action: Stage}, keys: []Key{stub("k1", at)}}, badAt: at,
			good: Change{Request: Request{Action: Stage}, keys: []Key{stub("k3", at)}}, goodAt: at,
			kind: fault.Order, mention: "never used twice"},
		{name: "control characters in a reason", ring: rotated,
			bad: Change{Request: Request{Action: Undo, Reason: "x\x1b[2J"}}, badAt: at.Add(time.Hour),
			good: Change{Request: Request{Action: Undo, Reason: "x – ü"}}, goodAt: at.Add(time.Hour),
			kind: fault.Input, mention: "control characters"},
		{name: "more keys than readers of the set accept", ring: func(t *testing.T) *Ring {
			r := newRing(t, p, epoch)
			for i := range maxLive - 2 {
				r = apply(t, r, epoch, Change{Request: Request{Action: Stage}, keys: []Key{stub(fmt.Sprint("many", i), epoch)}})
			}
			return r
		},
			bad: Change{Request: Request{Action: Stage}, keys: []Key{stub("more", at)}}, badAt: at,
			good: Change{Request: Request{Action: Discard, KID: "many0"}}, goodAt: at,
			kind: fault.Order, mention: "the limit is 32"},
		{name: "a clock far behind the history", ring: rotated,
			bad: Change{Request: Request{Action: Retire}}, badAt: epoch.Add(-time.Hour),
			good: Change{Request: Request{Action: Stage}, keys: []Key{stub("k3", at)}}, goodAt: at.Add(-20 * time.Second),
			kind: fault.Order, mention: "clock"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			ring := c.ring(t)
			before := ring.clone()
			_, err := ring.Apply(c.bad, c.badAt)
			if err == nil {
				t.Fatal("accepted")
			}
			checkRefusal(t, err, c.kind, c.earliest, c.lagging, c.mention)
			if ring.Version != before.Version || len(ring.Keys) != len(before.Keys) || ring.Keys[0].State != before.Keys[0].State {
				t.Error("a refusal changed the state")
			}
			if _, err := ring.Apply(c.good, c.goodAt); err != nil {
				t.Errorf("control refused: %v", err)
			}
		})
	}
}

func checkRefusal(t *testing.T, err error, kind fault.Kind, earliest time.Time, lagging, mention string) {
	t.Helper()
	var o *OrderError
	if got := errors.As(err, &o); got != (kind == fault.Order) {
		t.Fatalf("is an OrderError: %v, error %v", got, err)
	}
	if o != nil {
		err = o.Fault()
		if !o.Earliest.Equal(earliest) {
			t.Errorf("earliest %v, want %v", o.Earliest, earliest)
		}
		if got := strings.Join(o.Lagging, ","); got != lagging {
			t.Errorf("lagging %q, want %q", got, lagging)
		}
		if lagging == "" && o.Next == "" && !strings.Contains(mention, "clock") && !strings.Contains(mention, "twice") {
			t.Error("no next command")
		}
	}
	if got := fault.KindOf(err); got != kind {
		t.Errorf("kind %v, want %v", got, kind)
	}
	if !strings.Contains(err.Error(), mention) {
		t.Errorf("error %q does not mention %q", err, mention)
	}
}

func apply(t *testing.T, r *Ring, now time.Time, c Change) *Ring {
	t.Helper()
	out, err := r.Apply(c, now)
	if err != nil {
		t.Fatal(err)
	}
	return out.Ring
}

// TestTaintSwitchesAtOnce: both keys move in one version, and the heir is the
// one that has been published longest.
func TestTaintSwitchesAtOnce(t *testing.T) {
	p := testPolicy()
	now := epoch.Add(time.Hour)
	r := newRing(t, p, epoch)
	r = apply(t, r, now, Change{Request: Request{Action: Stage}, keys: []Key{stub("k3", now)}})
	r = apply(t, r, now, Change{Request: Request{Action: Publish}})
	version := r.Version
	out, err := r.Apply(Change{Request: Request{Action: Taint, Reason: "stolen laptop"}}, now)
	if err != nil {
		t.Fatal(err)
	}
	if out.Ring.Version != version+1 || out.Ring.Active().KID != "k2" || out.Ring.Find("k1").State != Tainted {
		t.Fatalf("after taint: version %d, %+v", out.Ring.Version, out.Ring.Keys)
	}
	if got := out.Ring.Find("k1").AliveUntil; !got.Equal(now.Add(130 * time.Second)) {
		t.Errorf("tokens of the tainted key live until %v", got)
	}
	if len(out.Ring.Set().Keys) != 3 {
		t.Errorf("the tainted key must stay in the set until it is revoked: %d keys", len(out.Ring.Set().Keys))
	}
	r = apply(t, out.Ring, now, Change{Request: Request{Action: Revoke, Reason: "stolen laptop"}})
	if _, ok := r.Set().Key("k1"); ok {
		t.Error("a revoked key is still in the set")
	}
}

// TestOutage: with --outage nothing signs until the standby is mature, and
// then advance brings it up without being told.
func TestOutage(t *testing.T) {
	p := testPolicy()
	r := apply(t, newRing(t, p, epoch), epoch, Change{Request: Request{Action: Taint, Reason: "x", Outage: true}})
	if r.Active() != nil {
		t.Fatal("a key signs during the outage")
	}
	step := func(now time.Time) Step {
		for _, s := range r.Plan(now, nil) {
			if s.Action == Activate {
				return s
			}
		}
		t.Fatal("no activation planned")
		return Step{}
	}
	mature := epoch.Add(340 * time.Second)
	if s := step(epoch); s.Due || !s.Auto || !s.NotBefore.Equal(mature) {
		t.Errorf("planned %+v", s)
	}
	if s := step(mature); !s.Due {
		t.Errorf("not due when mature: %+v", s)
	}
}

// TestOutageEndsWithoutLooks: while nobody signs nobody gets a token, so nobody
// can report looks; time alone decides then, and only then.
func TestOutageEndsWithoutLooks(t *testing.T) {
	ring := newRing(t, testPolicy(), epoch)
	edge := []Vantage{{Name: "edge", URL: "https://edge.example/jwks", Required: true}}
	mature := epoch.Add(340 * time.Second)
	activate := Change{Request: Request{Action: Activate}, Vantage: edge}
	if _, err := ring.Apply(activate, mature); !errors.As(err, new(*OrderError)) {
		t.Fatalf("control: while a key is active: %v", err)
	}
	out := apply(t, ring, epoch, Change{Request: Request{Action: Taint, Reason: "x", Outage: true}})
	if _, err := out.Apply(activate, mature.Add(-time.Second)); !errors.As(err, new(*OrderError)) {
		t.Errorf("before its time: %v", err)
	}
	for _, s := range out.Plan(mature, edge) {
		if s.Action == Activate && (!s.Due || !s.Auto || s.Blocked != "") {
			t.Errorf("planned %+v", s)
		}
	}
	done, err := out.Apply(activate, mature)
	if err != nil {
		t.Fatal(err)
	}
	if len(done.Warnings) != 1 || !strings.Contains(done.Warnings[0], "edge") {
		t.Errorf("warnings %q", done.Warnings)
	}
}

func TestMaxAgeEndsAtScheduledActivation(t *testing.T) {
	r := newRing(t, testPolicy(), epoch)
	now := epoch.Add(time.Hour)
	if got := r.MaxAge(now); got != 300*time.Second {
		t.Errorf("max-age %v with nothing scheduled", got)
	}
	r = apply(t, r, now, Change{Request: Request{Action: Schedule, ActivateAt: now.Add(90 * time.Second)}})
	for wait, want := range map[time.Duration]time.Duration{0: 90 * time.Second, 60*time.Second + time.Millisecond: 29 * time.Second, 89900 * time.Millisecond: time.Second, 2 * time.Minute: 300 * time.Second} {
		if got := r.MaxAge(now.Add(wait)); got != want {
			t.Errorf("max-age %v after %v, want %v", got, wait, want)
		}
	}
}

// TestForceWarns: what force does is done and said.
func TestForceWarns(t *testing.T) {
	for _, tc := range []struct {
		c    Change
		warn string
	}{
		{Change{Request: Request{Action: Activate, Force: true, Reason: "x"}}, "before its time"},
		{Change{Request: Request{Action: Taint, Force: true, Reason: "x"}}, "may not know key k2"},
	} {
		for at, want := range map[time.Time]bool{epoch: true, epoch.Add(time.Hour): false} {
			out, err := newRing(t, testPolicy(), epoch).Apply(tc.c, at)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Contains(strings.Join(out.Warnings, ";"), tc.warn); got != want {
				t.Errorf("%s at %v: warnings %q", tc.c.Action, at, out.Warnings)
			}
		}
	}
}

// TestEmergencyDoesNotWaitForAClock: a record from a clock that was ahead
// blocks what can wait, not a taint, and the taint judges by the true time.
func TestEmergencyDoesNotWaitForAClock(t *testing.T) {
	r := newRing(t, testPolicy(), epoch)
	r = apply(t, r, epoch.Add(24*time.Hour), Change{Request: Request{Action: Stage}, keys: []Key{stub("k3", epoch)}})
	now := epoch.Add(time.Hour)
	if _, err := r.Apply(Change{Request: Request{Action: Publish}}, now); err == nil {
		t.Fatal("control: a change that can wait was made under a clock far behind")
	}
	out, err := r.Apply(Change{Request: Request{Action: Taint, Reason: "x"}}, now)
	if err != nil || out.Ring.Active().KID != "k2" || out.Ring.At.Before(r.At) {
		t.Fatalf("%v", err)
	}
	if _, err := r.Apply(Change{Request: Request{Action: Taint, Reason: "x"}}, epoch.Add(time.Minute)); err == nil {
		t.Error("the standby was taken for mature by the time of a clock that was ahead")
	}
}

// TestPlanDoesNotAlarm: that nobody has looked lately blocks what happens by
// itself, not what somebody types, for that looks first.
func TestPlanDoesNotAlarm(t *testing.T) {
	now := epoch.Add(time.Hour)
	old := []Vantage{{Name: "edge", Since: map[string]time.Time{"k2": epoch}, LastSeen: now.Add(-30 * time.Minute)}}
	r := newRing(t, testPolicy(), epoch)
	for auto, ring := range map[bool]*Ring{
		false: r,
		true:  apply(t, r, now, Change{Request: Request{Action: Schedule}}),
	} {
		for _, s := range ring.Plan(now, old) {
			if s.Action == Activate && (s.Auto != auto || s.Due == auto || (s.Blocked != "") != auto) {
				t.Errorf("scheduled %v: %+v", auto, s)
			}
		}
	}
}
