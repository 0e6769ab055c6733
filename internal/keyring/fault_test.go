package keyring

import (
	"errors"
	"os"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/durable"
)

// scenario brings a keyring to the state before a transition, and makes it.
type scenario struct {
	name  string
	setup []Change
	do    Change
}

func req(a Action) Change     { return Change{Request: Request{Action: a}, Operator: "test"} }
func because(a Action) Change { c := req(a); c.Reason = "test"; return c }

func scenarios() []scenario {
	return []scenario{
		{"stage", nil, req(Stage)},
		{"publish", []Change{req(Stage)}, req(Publish)},
		{"schedule", nil, req(Schedule)},
		{"activate", nil, req(Activate)},
		{"retire", []Change{req(Activate)}, req(Retire)},
		{"discard", []Change{req(Stage)}, req(Discard)},
		{"withdraw", nil, req(Withdraw)},
		{"undo", []Change{req(Activate)}, because(Undo)},
		{"taint", nil, because(Taint)},
		{"revoke", []Change{because(Taint)}, because(Revoke)},
	}
}

var errInjected = errors.New("injected")

// TestFaultAtEveryWrite fails every step of every write of every transition,
// once with and once without its effect. After each, a fresh replica must see
// the state before or the state after, whole and verified, and the transition
// can be finished.
func TestFaultAtEveryWrite(t *testing.T) {
	points, befores, afters := 0, 0, 0
	for _, sc := range scenarios() {
		for _, persist := range []bool{false, true} {
			for n := 1; ; n++ {
				hit, after := injectAt(t, sc, n, persist)
				if !hit {
					break
				}
				points++
				if after {
					afters++
				} else {
					befores++
				}
			}
		}
	}
	t.Logf("fault points: %d (each step of each write of %d transitions, failing without and with its effect); state before: %d, after: %d",
		points, len(scenarios()), befores, afters)
	if befores == 0 || afters == 0 {
		t.Error("the injected faults did not reach both outcomes, so the sweep shows nothing")
	}
}

func injectAt(t *testing.T, sc scenario, n int, persist bool) (hit, after bool) {
	t.Helper()
	path, c := secretDir(t), newClock()
	store, dir := openTestDir(t, path)
	k := New(store, c.options("a"))
	if err := k.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.add(time.Hour)
	for _, ch := range sc.setup {
		if _, err := k.Change(t.Context(), ch); err != nil {
			t.Fatalf("%s: setting up %s: %v", sc.name, ch.Action, err)
		}
		c.add(time.Hour)
		if err := k.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	before := k.Ring().Version
	seen := 0
	dir.Hook = func(durable.Step, string) (bool, error) {
		if seen++; seen == n {
			hit = true
			return persist, errInjected
		}
		return true, nil
	}
	_, err := k.Change(t.Context(), sc.do)
	if err == nil && hit && k.Ring().Version != before+1 {
		t.Fatalf("%s: step %d: success was reported, but the state is at %d", sc.name, n, k.Ring().Version)
	}
	fresh := load(t, path, c.options("b"))
	if _, err := fresh.History(t.Context()); err != nil {
		t.Fatalf("%s: step %d: history does not verify: %v", sc.name, n, err)
	}
	switch fresh.Ring().Version {
	case before:
		if err == nil {
			t.Fatalf("%s: step %d: success was reported, but nothing was done", sc.name, n)
		}
		if _, err := fresh.Change(t.Context(), sc.do); err != nil {
			t.Fatalf("%s: step %d: it cannot be finished: %v", sc.name, n, err)
		}
	case before + 1:
		after = true
	default:
		t.Fatalf("%s: step %d: version %d after %d", sc.name, n, fresh.Ring().Version, before)
	}
	checkPrivateKeys(t, fresh, sc.name, n)
	return hit, after
}

// checkPrivateKeys: every living key has its private half.
func checkPrivateKeys(t *testing.T, k *Keyring, name string, n int) {
	t.Helper()
	for _, key := range k.Ring().Keys {
		_, err := k.store.Key(t.Context(), key.KID)
		if !key.State.Ended() && err != nil {
			t.Fatalf("%s: step %d: %s key %s has no private half: %v", name, n, key.State, key.KID, err)
		}
	}
	if _, err := k.Signer(); err != nil {
		t.Fatalf("%s: step %d: cannot sign: %v", name, n, err)
	}
}

// TestEndedKeysAreDestroyed: the private half goes with the end of a key, and
// one that a fault left behind goes with the next change.
func TestEndedKeysAreDestroyed(t *testing.T) {
	path, c := secretDir(t), newClock()
	store, dir := openTestDir(t, path)
	k := New(store, c.options("a"))
	if err := k.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.add(time.Hour)
	old := k.Ring().Active().KID
	if _, err := k.Change(t.Context(), req(Activate)); err != nil {
		t.Fatal(err)
	}
	c.add(time.Hour)
	dir.Hook = func(s durable.Step, name string) (bool, error) {
		if s == durable.StepUnlink && name == old+keySuffix {
			return false, errInjected
		}
		return true, nil
	}
	if _, err := k.Change(t.Context(), req(Retire)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path + "/" + old + keySuffix); err != nil {
		t.Fatalf("control: the injected fault should have left the key behind: %v", err)
	}
	dir.Hook = nil
	if _, err := k.Change(t.Context(), req(Stage)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path + "/" + old + keySuffix); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the private half of a retired key is still there: %v", err)
	}
}
