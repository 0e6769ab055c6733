package keyring

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/durable"
	"github.com/stella-ops/stella/internal/fault"
)

// TestOutOfReach: whatever takes the true history away from a running replica
// ends its lease, also where reading still succeeds.
func TestOutOfReach(t *testing.T) {
	remove := func(name string) func(*testing.T, string) {
		return func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, name))) }
	}
	for name, take := range map[string]func(*testing.T, string){
		"control":               nil,
		"the directory removed": func(t *testing.T, dir string) { must(t, os.RemoveAll(dir)) },
		"the directory replaced by a copy": func(t *testing.T, dir string) {
			must(t, os.Rename(dir, dir+".old"))
			must(t, os.CopyFS(dir, os.DirFS(dir+".old")))
		},
		"the newest record removed": remove("history-0000000002"),
		"the newest record replaced": func(t *testing.T, dir string) {
			other := secretDir(t)
			k := load(t, other, newClock().options("x"))
			if _, err := k.Change(t.Context(), req(Stage)); err != nil {
				t.Fatal(err)
			}
			data, err := os.ReadFile(filepath.Join(other, "history-0000000002"))
			must(t, err)
			must(t, os.WriteFile(filepath.Join(dir, "history-0000000002"), data, 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir, c := secretDir(t), newClock()
			k := load(t, dir, c.options("a"))
			if _, err := k.Change(t.Context(), req(Stage)); err != nil {
				t.Fatal(err)
			}
			if take != nil {
				take(t, dir)
			}
			for range 11 { // one lease and a second, looking each second
				c.add(time.Second)
				_ = k.Refresh(t.Context())
			}
			_, err := k.Signer()
			if take == nil && err != nil || take != nil && !errors.Is(err, ErrLease) {
				t.Errorf("%v", err)
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestClockSetBack: a clock that is set back does not prolong the lease.
func TestClockSetBack(t *testing.T) {
	c := newClock()
	k := load(t, secretDir(t), c.options("a"))
	c.add(-time.Second)
	if _, err := k.Signer(); err != nil {
		t.Fatalf("control: %v", err)
	}
	c.add(-time.Hour)
	if _, err := k.Signer(); !errors.Is(err, ErrLease) {
		t.Errorf("%v", err)
	}
}

// TestNeverUsedTwice: a kid and a key stay used, also when the state no longer
// carries them along, and for a replica that starts later.
func TestNeverUsedTwice(t *testing.T) {
	dir, c := secretDir(t), newClock()
	k := load(t, dir, c.options("a"))
	material, err := newMaterial()
	must(t, err)
	stage := Change{Request: Request{Action: Stage}, Material: material, NewKID: "stolen"}
	if _, err := k.Change(t.Context(), stage); err != nil {
		t.Fatal(err)
	}
	taint := because(Taint)
	taint.KID = "stolen"
	if _, err := k.Change(t.Context(), taint); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Change(t.Context(), because(Revoke)); err != nil {
		t.Fatal(err)
	}
	for range endedKept + 1 {
		for _, a := range []Action{Stage, Discard} {
			if _, err := k.Change(t.Context(), req(a)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if k.Ring().Find("stolen") != nil {
		t.Fatal("the state still carries the key along, so nothing is shown")
	}
	later := load(t, dir, c.options("b"))
	for _, kid := range []string{"stolen", "fresh"} {
		stage.NewKID = kid
		if _, err := later.Change(t.Context(), stage); !errors.As(err, new(*OrderError)) {
			t.Errorf("the revoked key was taken in again as %q: %v", kid, err)
		}
	}
}

// TestStageCutShort: the private key is stored, the record is not; the same
// stage can be made again, another key under that kid cannot.
func TestStageCutShort(t *testing.T) {
	dir, c := secretDir(t), newClock()
	store, d := openTestDir(t, dir)
	k := New(store, c.options("a"))
	must(t, k.Load(t.Context()))
	material, err := newMaterial()
	must(t, err)
	other, err := newMaterial()
	must(t, err)
	stage := Change{Request: Request{Action: Stage}, Material: material, NewKID: "prod-2026"}
	d.Hook = func(s durable.Step, name string) (bool, error) {
		if s == durable.StepLink && strings.HasPrefix(name, historyPrefix) {
			return false, errInjected
		}
		return true, nil
	}
	if _, err := k.Change(t.Context(), stage); fault.KindOf(err) != fault.Transient {
		t.Fatalf("cut short: %v", err)
	}
	d.Hook = nil
	wrong := stage
	wrong.Material = other
	if _, err := k.Change(t.Context(), wrong); err == nil {
		t.Error("another key was taken in under the same kid")
	}
	if _, err := k.Change(t.Context(), stage); err != nil {
		t.Errorf("again: %v", err)
	}
}

// TestHeirThatCannotSign: a key whose private half cannot be read does not
// become the active one.
func TestHeirThatCannotSign(t *testing.T) {
	for _, c := range []Change{req(Activate), because(Taint)} {
		dir, cl := secretDir(t), newClock()
		k := load(t, dir, cl.options("a"))
		cl.add(time.Hour)
		file := filepath.Join(dir, k.Ring().Standby().KID+keySuffix)
		must(t, os.Chmod(file, 0o644))
		if _, err := k.Change(t.Context(), c); !errors.As(err, new(*OrderError)) || !strings.Contains(err.Error(), "could not sign") {
			t.Errorf("%s: %v", c.Action, err)
		}
		must(t, os.Chmod(file, 0o600))
		if _, err := k.Change(t.Context(), c); err != nil {
			t.Errorf("control: %s: %v", c.Action, err)
		}
	}
}

// TestDestroyedMeansDestroyed: a crash that left a second name of a private
// key's file behind does not keep the key.
func TestDestroyedMeansDestroyed(t *testing.T) {
	dir, c := secretDir(t), newClock()
	store, d := openTestDir(t, dir)
	k := New(store, c.options("a"))
	must(t, k.Load(t.Context()))
	d.Hook = func(s durable.Step, name string) (bool, error) {
		if s == durable.StepUnlink {
			return false, errInjected // as a crash between link and unlink
		}
		return true, nil
	}
	out, err := k.Change(t.Context(), req(Stage))
	must(t, err)
	d.Hook = nil
	if left, _ := filepath.Glob(filepath.Join(dir, ".tmp-"+out.KID+"*")); len(left) != 1 {
		t.Fatalf("control: nothing was left behind: %q", left)
	}
	if _, err := k.Change(t.Context(), req(Discard)); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*"+out.KID+"*")); len(left) != 0 {
		t.Errorf("the destroyed key is still in %q", left)
	}
}
