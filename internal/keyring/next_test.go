package keyring

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/fault"
)

// refused makes a change that must be refused for its order.
func refused(t *testing.T, r *Ring, now time.Time, c Change) *OrderError {
	t.Helper()
	_, err := r.Apply(c, now)
	o, ok := errors.AsType[*OrderError](err)
	if !ok {
		t.Fatalf("%s: %v", c.Action, err)
	}
	return o
}

// TestNextIsNoActivation: who wants to go back, or to drop a key, is told how,
// also while the standby is due, and is not sent forward.
func TestNextIsNoActivation(t *testing.T) {
	now := epoch.Add(time.Hour)
	fresh := newRing(t, testPolicy(), epoch)
	both := apply(t, fresh, now, Change{Request: Request{Action: Stage}, keys: []Key{stub("k3", now)}})
	tainted := apply(t, fresh, now, Change{Request: Request{Action: Taint, Reason: "x"}})
	revoked := apply(t, tainted, now, Change{Request: Request{Action: Revoke, Reason: "x"}})
	tainted = apply(t, tainted, now, Change{Request: Request{Action: Stage}, keys: []Key{stub("k4", now)}})
	tainted = apply(t, tainted, now, Change{Request: Request{Action: Publish}})
	later := now.Add(time.Hour)
	for _, tc := range []struct {
		ring    *Ring
		do      Action
		kid     string
		mention string
		next    string
	}{
		{fresh, Undo, "", "no key is retiring", "stella auth rotate status"},
		{fresh, Undo, "k2", "is published, not retiring", "stella auth rotate status"},
		{tainted, Undo, "", "the old key k1 is tainted and never comes back", "stella auth rotate status"},
		{tainted, Undo, "k1", "the old key k1 is tainted and never comes back", "stella auth rotate status"},
		{revoked, Undo, "", "the old key k1 is tainted and never comes back", "stella auth rotate status"},
		{fresh, Revoke, "", "no key is tainted", "stella auth rotate taint KID --reason '…'"},
		{fresh, Revoke, "k1", "is active, not tainted", "stella auth rotate taint k1 --reason '…'"},
		{revoked, Revoke, "k1", "is revoked, not tainted", "stella auth rotate status"},
		{fresh, Retire, "k1", "is active, not retiring", "stella auth rotate"},
		{fresh, Retire, "k2", "is published, not retiring", "stella auth rotate withdraw k2"},
		{both, Retire, "k3", "is staged, not retiring", "stella auth rotate discard k3"},
		{tainted, Retire, "k1", "is tainted, not retiring", "stella auth rotate revoke k1 --reason '…'"},
		{fresh, Retire, "", "no key is retiring", "stella auth rotate status"},
		// Control: others are told the step that is due.
		{fresh, Publish, "", "no key is staged", "stella auth rotate activate k2"},
	} {
		o := refused(t, tc.ring, later, Change{Request: Request{Action: tc.do, KID: tc.kid, Reason: "x"}})
		if !strings.Contains(o.Message, tc.mention) || o.Next != tc.next {
			t.Errorf("%s %s: %q, next %q", tc.do, tc.kid, o.Message, o.Next)
		}
	}
}

// TestLookTooEarly: a place that was looked at before every cache there had to
// let go of the old set needs another look; after that it needs repair.
func TestLookTooEarly(t *testing.T) {
	r := newRing(t, testPolicy(), epoch)
	for _, tc := range []struct {
		name   string
		looked time.Duration // after the publication
		repair bool
	}{
		{"in the same second", 0, false},
		{"as late as a cache may have it", 310 * time.Second, false},
		{"one second later", 311 * time.Second, true},
	} {
		seen := epoch.Add(tc.looked)
		places := []Vantage{{Name: "edge", LastSeen: seen, Since: map[string]time.Time{}}}
		o := refused(t, r, seen, Change{Request: Request{Action: Activate}, Vantage: places})
		hints := strings.Join(fault.HintsOf(o.Fault()), "\n")
		if !strings.Contains(o.Message, "did not serve it when looked at "+seen.Format("15:04:05Z")) {
			t.Errorf("%s: %s", tc.name, o.Message)
		}
		if strings.Contains(hints, "repair edge") != tc.repair || strings.Contains(hints, "look again: stella auth rotate advance") == tc.repair {
			t.Errorf("%s: %s", tc.name, hints)
		}
	}
	// A place that only needs time is not named beside one that needs repair.
	now := epoch.Add(time.Hour)
	o := refused(t, r, now, Change{Request: Request{Action: Activate}, Vantage: []Vantage{
		{Name: "broken", LastSeen: now, Since: map[string]time.Time{}},
		{Name: "young", LastSeen: now, Since: map[string]time.Time{"k2": now}},
	}})
	hints := strings.Join(fault.HintsOf(o.Fault()), "\n")
	if !strings.Contains(hints, "repair broken,") || strings.Contains(hints, "young") || !strings.Contains(o.Message, `"young" serves it only since`) {
		t.Errorf("%s\n%s", o.Message, hints)
	}
}

// TestForceWithoutActive: where no key signed, there is no way back to offer.
func TestForceWithoutActive(t *testing.T) {
	for outage, want := range map[bool]bool{false: true, true: false} {
		r := newRing(t, testPolicy(), epoch)
		if outage {
			r = apply(t, r, epoch, Change{Request: Request{Action: Taint, Outage: true, Reason: "x"}})
		}
		out, err := r.Apply(Change{Request: Request{Action: Activate, Force: true, Reason: "x"}}, epoch)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(strings.Join(out.Warnings, ";"), "rotate undo"); got != want {
			t.Errorf("outage %v: %q", outage, out.Warnings)
		}
	}
}

// TestPlanInOutage: while no key is active, vantage points block nothing.
func TestPlanInOutage(t *testing.T) {
	now := epoch.Add(time.Hour)
	places := []Vantage{{Name: "edge", LastSeen: now, Since: map[string]time.Time{}}}
	r := newRing(t, testPolicy(), epoch)
	for _, ring := range []*Ring{r, apply(t, r, epoch, Change{Request: Request{Action: Taint, Outage: true, Reason: "x"}})} {
		s := ring.Plan(now, places)
		i := 0
		for s[i].Action != Activate {
			i++
		}
		blocked := ring.Active() != nil
		if (s[i].Blocked != "") != blocked || s[i].Due == blocked || strings.Contains(s[i].Why, "whenever you like") {
			t.Errorf("active %v: %+v", blocked, s[i])
		}
	}
}

// TestPlanSince: a step that nobody does says since when it could be done.
func TestPlanSince(t *testing.T) {
	at := epoch.Add(time.Hour)
	r := apply(t, newRing(t, testPolicy(), epoch), at, Change{Request: Request{Action: Activate}})
	now := at.Add(time.Hour)
	staged := apply(t, r, at.Add(time.Minute), Change{Request: Request{Action: Stage}, keys: []Key{stub("k3", at.Add(time.Minute))}})
	for want, ring := range map[Step]*Ring{
		{Action: Stage, NotBefore: at}:                    r,
		{Action: Publish, NotBefore: at.Add(time.Minute)}: staged,
	} {
		ok := false
		for _, s := range ring.Plan(now, nil) {
			ok = ok || s.Action == want.Action && s.NotBefore.Equal(want.NotBefore) && s.Due && s.Auto
		}
		if !ok {
			t.Errorf("%s is not planned since %s: %+v", want.Action, want.NotBefore, ring.Plan(now, nil))
		}
	}
}
