package keyring

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/ledger"
)

// remoteSite is a keyring whose new keys are made at a service.
func remoteSite(t *testing.T) (dir string, c *clock, s *service, o Options) {
	t.Helper()
	dir, c = secretDir(t), newClock()
	s, o = newService(), c.options("a")
	o.TakeKeysIn = true
	o.Providers, o.NewKeys = map[string]Provider{"mem": s}, "mem"
	return dir, c, s, o
}

// settle waits until the keys that sign, or may, are open or cannot be.
func settle(t *testing.T, k *Keyring) {
	t.Helper()
	must(t, k.Refresh(t.Context()))
	for _, key := range k.Ring().Keys {
		if key.InSet() && key.State != Tainted {
			_, _ = k.openNow(t.Context(), key.Private)
		}
	}
	k.reshow()
}

// mature lets everything become due.
func (c *clock) mature() { c.add(time.Hour) }

func change(t *testing.T, k *Keyring, c Change) *Outcome {
	t.Helper()
	out, err := k.Change(t.Context(), c)
	if err != nil {
		t.Fatalf("%s: %v", c.Action, err)
	}
	return out
}

// rotateOnce activates the standby, makes the next and retires the old key.
func rotateOnce(t *testing.T, k *Keyring, c *clock) {
	t.Helper()
	c.mature()
	must(t, k.Refresh(t.Context()))
	for _, a := range []Action{Activate, Stage, Publish} {
		change(t, k, req(a))
	}
	c.mature()
	must(t, k.Refresh(t.Context()))
	change(t, k, req(Retire))
}

// TestRotationAtAProvider: no private key is in the directory, the active one
// signs, and what is over is destroyed where it was made, nothing else.
func TestRotationAtAProvider(t *testing.T) {
	dir, c, s, o := remoteSite(t)
	k := load(t, dir, o)
	first := *k.Ring().Active()
	for range 2 {
		rotateOnce(t, k, c)
		k.DestroyDue(t.Context())
		signer, err := k.Signer()
		if err != nil || signer.Key().KeyID != k.Ring().Active().KID {
			t.Fatalf("after the rotation: %v", err)
		}
		if _, err := signer.Sign(nil, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	pems, err := filepath.Glob(filepath.Join(dir, "*.pem"))
	if err != nil || len(pems) != 1 || filepath.Base(pems[0]) != sealName+".pem" {
		t.Errorf("private keys in the directory: %v %v", pems, err)
	}
	if len(s.ended) != 2 || !s.ended[first.Private] {
		t.Errorf("destroyed %v, want two with %s", s.ended, first.Private)
	}
	for _, key := range k.Ring().Keys {
		if !key.State.Ended() && s.keys[key.Private] == nil {
			t.Errorf("%s is %s and its private key is gone", key.KID, key.State)
		}
	}
	if len(s.keys) != 2 {
		t.Errorf("%d keys are left at the service, want active and standby", len(s.keys))
	}
}

// failOnce is a Store whose next Append fails without effect.
type failOnce struct {
	Store
	err error
}

func (f *failOnce) Append(ctx context.Context, rec ledger.Record) error {
	if err := f.err; err != nil {
		f.err = nil
		return err
	}
	return f.Store.Append(ctx, rec)
}

// TestProviderCutShort: a key that was made for a record which was not written
// is the next stage's, also after a restart, so none is left behind.
func TestProviderCutShort(t *testing.T) {
	dir, _, s, o := remoteSite(t)
	load(t, dir, o)
	store, _ := openTestDir(t, dir)
	failing := &failOnce{Store: store}
	k := New(failing, o)
	must(t, k.Load(t.Context()))
	failing.err = errors.New("disk gone")
	if _, err := k.Change(t.Context(), req(Stage)); err == nil {
		t.Fatal("the failure was not noticed")
	}
	if len(s.keys) != 3 {
		t.Fatalf("%d keys at the service, want the one cut short too", len(s.keys))
	}
	out := change(t, load(t, dir, o), req(Stage))
	if len(s.keys) != 3 {
		t.Errorf("%d keys at the service after the same stage again", len(s.keys))
	}
	// Control: the next stage makes one of its own.
	if next := change(t, k, req(Stage)); next.KID == out.KID || len(s.keys) != 4 {
		t.Errorf("the stage after it: %s after %s, %d keys", next.KID, out.KID, len(s.keys))
	}
}

// TestProviderRace: replicas that stage at once get a key each.
func TestProviderRace(t *testing.T) {
	dir, _, s, o := remoteSite(t)
	load(t, dir, o)
	const replicas = 6
	var wg sync.WaitGroup
	kids := make([]string, replicas)
	for i := range replicas {
		o.Replica = fmt.Sprint(i)
		k := load(t, dir, o)
		wg.Go(func() {
			out, err := k.Change(t.Context(), req(Stage))
			if err != nil {
				t.Errorf("replica %d: %v", i, err)
				return
			}
			kids[i] = out.KID
		})
	}
	wg.Wait()
	seen := map[string]bool{}
	for _, kid := range kids {
		seen[kid] = true
	}
	if len(seen) != replicas || len(s.keys) != 2+replicas {
		t.Errorf("%d kids, %d keys at the service for %d stages", len(seen), len(s.keys), replicas)
	}
}

// TestProviderLies: a key other than the published one, or a signature of
// another key, never leaves.
func TestProviderLies(t *testing.T) {
	dir, _, s, o := remoteSite(t)
	k := load(t, dir, o)
	signer, err := k.Signer()
	must(t, err)
	if _, err := signer.Sign(nil, nil); err != nil {
		t.Fatalf("control: %v", err)
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	s.set(func(s *service) { s.signAs = other })
	if _, err := signer.Sign(nil, nil); fault.KindOf(err) != fault.Trust {
		t.Errorf("a signature of another key: %v", err)
	}
	if _, err := load(t, dir, o).Signer(); fault.KindOf(err) != fault.Trust {
		t.Errorf("opened with a signature of another key: %v", err)
	}
	s.set(func(s *service) { s.signAs, s.keys[k.Ring().Active().Private] = nil, other })
	if _, err := load(t, dir, o).Signer(); fault.KindOf(err) != fault.Trust {
		t.Errorf("another key under the reference: %v", err)
	}
}

// TestProviderOutage: it is said, cured by itself, bounded, and keeps a heir
// that cannot sign from becoming active.
func TestProviderOutage(t *testing.T) {
	dir, c, s, o := remoteSite(t)
	load(t, dir, o)
	hang := make(chan struct{})
	s.set(func(s *service) { s.hang = hang })
	k := load(t, dir, o) // waits once, then goes on
	if _, err := k.Signer(); fault.KindOf(err) != fault.Transient {
		t.Errorf("provider hangs: %v", err)
	}
	close(hang)
	s.set(func(s *service) { s.hang = nil })
	settle(t, k)
	if _, err := k.Signer(); err != nil {
		t.Errorf("provider back: %v", err)
	}
	c.mature()
	must(t, k.Refresh(t.Context()))
	s.set(func(s *service) { s.down = fault.Errorf(fault.Transient, "no route") })
	version := k.Ring().Version
	if _, err := k.Change(t.Context(), req(Activate)); !errors.As(err, new(*OrderError)) || !IsCannotSign(err) || k.Ring().Version != version {
		t.Errorf("activate while the provider is down: %v", err)
	}
	s.set(func(s *service) { s.down = nil })
	change(t, k, req(Activate))
}

// TestSlowProviderHoldsNobodyUp: the history is read on while a key is made,
// or a slow HSM would cost the sign lease.
func TestSlowProviderHoldsNobodyUp(t *testing.T) {
	dir, _, s, o := remoteSite(t)
	k := load(t, dir, o)
	hang := make(chan struct{})
	s.set(func(s *service) { s.hang = hang })
	staged := make(chan error)
	go func() {
		_, err := k.Change(t.Context(), req(Stage))
		staged <- err
	}()
	refreshed := make(chan error)
	go func() { refreshed <- k.Refresh(t.Context()) }()
	select {
	case err := <-refreshed:
		must(t, err)
	case <-time.After(10 * time.Second):
		t.Fatal("reading the history waits for a provider")
	}
	select {
	case err := <-staged:
		t.Fatalf("the stage did not wait, so nothing is shown: %v", err)
	default:
	}
	close(hang)
	must(t, <-staged)
}

// TestDestroyedLater: what could not be destroyed is said, and destroyed after a
// pause, also by a replica that starts later.
func TestDestroyedLater(t *testing.T) {
	for _, restart := range []bool{false, true} {
		dir, c, s, o := remoteSite(t)
		k := load(t, dir, o)
		staged := change(t, k, req(Stage))
		ref := k.Ring().Find(staged.KID).Private
		s.set(func(s *service) { s.down = errors.New("no route") })
		discard := req(Discard)
		discard.KID = staged.KID
		change(t, k, discard)
		k.DestroyDue(t.Context())
		if list := k.NotDestroyed(); len(list) != 1 || list[0].Reference != ref || list[0].KID != staged.KID {
			t.Errorf("not said: %v", list)
		}
		s.set(func(s *service) { s.down = nil })
		if s.ended[ref] {
			t.Fatal("it was destroyed in spite of the outage, so nothing is shown")
		}
		if restart {
			k = load(t, dir, o)
		}
		c.add(reapFirst)
		k.DestroyDue(t.Context())
		if !s.ended[ref] || len(k.NotDestroyed()) != 0 {
			t.Errorf("restart %v: never destroyed, %v", restart, k.NotDestroyed())
		}
	}
}

// TestTakenIn: an operator's own key signs like any other and is never
// destroyed by us; a wrong reference changes nothing.
func TestTakenIn(t *testing.T) {
	dir, c, s, o := remoteSite(t)
	o.NewKeys = ""
	k := load(t, dir, o)
	ref, err := s.Make(t.Context(), "theirs")
	must(t, err)
	stage := func(ref string) Change { ch := because(Stage); ch.Reference = ref; return ch }
	for _, bad := range []string{"mem:nobody", "else:theirs", "theirs", "history", "../history", ":", strings.Repeat("m", 3000)} {
		if _, err := k.Change(t.Context(), stage(bad)); fault.KindOf(err) != fault.Input {
			t.Errorf("%.20q: %v", bad, err)
		}
	}
	if k.Ring().Version != 1 {
		t.Fatalf("a refused reference was recorded")
	}
	kid := change(t, k, stage(ref)).KID
	for _, again := range []string{kid, ""} {
		ch := stage(ref)
		ch.NewKID = again
		if _, err := k.Change(t.Context(), ch); !errors.As(err, new(*OrderError)) {
			t.Errorf("taken in twice: %v", err)
		}
	}
	publish := req(Publish)
	change(t, k, publish)
	c.mature()
	must(t, k.Refresh(t.Context()))
	activate := req(Activate)
	activate.KID = kid
	change(t, k, activate)
	if signer, err := k.Signer(); err != nil || signer.Key().KeyID != kid {
		t.Fatalf("it does not sign: %v", err)
	}
	taint := because(Taint)
	taint.KID, taint.Force = kid, true
	change(t, k, taint)
	change(t, k, because(Revoke))
	k.DestroyDue(t.Context())
	if key := k.Ring().Find(kid); s.ended[ref] || key.Private != ref {
		t.Errorf("the operator's own key was destroyed or forgotten: %+v", key)
	}
	for what, ch := range map[string]Change{"no reason": {Request: Request{Action: Stage, Reference: ref}}, "a name of ours": stage("mem:" + nameOf(t, k) + "9")} {
		if _, err := k.Change(t.Context(), ch); fault.KindOf(err) != fault.Input {
			t.Errorf("%s: %v", what, err)
		}
	}
	o.TakeKeysIn = false
	other, err := s.Make(t.Context(), "another")
	must(t, err)
	if _, err := load(t, dir, o).Change(t.Context(), stage(other)); fault.KindOf(err) != fault.Input {
		t.Errorf("taken in where that is off: %v", err)
	}
	change(t, k, stage(other)) // control
}

// TestDryRunMakesNothing: neither here nor at a provider.
func TestDryRunMakesNothing(t *testing.T) {
	dir, _, s, o := remoteSite(t)
	k := load(t, dir, o)
	dry := req(Stage)
	dry.DryRun = true
	before := len(s.keys)
	change(t, k, dry)
	if len(s.keys) != before || k.Ring().Version != 1 {
		t.Errorf("%d keys after %d, version %d", len(s.keys), before, k.Ring().Version)
	}
	// Control: without it, it does.
	if change(t, k, req(Stage)); len(s.keys) != before+1 {
		t.Errorf("control: %d keys", len(s.keys))
	}
}

// TestOtherCurve: only P-256 is taken in.
func TestOtherCurve(t *testing.T) {
	dir, _, s, o := remoteSite(t)
	k := load(t, dir, o)
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	must(t, err)
	s.set(func(s *service) { s.keys["mem:p384"] = key })
	ch := because(Stage)
	ch.Reference = "mem:p384"
	if _, err := k.Change(t.Context(), ch); fault.KindOf(err) != fault.Input {
		t.Errorf("P-384: %v", err)
	}
}

// TestNamesDoNotMeet: a new keyring beside an old one at the same service gets
// keys of its own, whatever was there.
func TestNamesDoNotMeet(t *testing.T) {
	dir, _, s, o := remoteSite(t)
	old := load(t, dir, o).Ring().Active().JWK
	fresh := load(t, secretDir(t), o).Ring().Active().JWK
	if sameThumbprint(old, fresh) || len(s.keys) != 4 {
		t.Errorf("%d keys at the service for two keyrings", len(s.keys))
	}
}

func nameOf(t *testing.T, k *Keyring) string {
	t.Helper()
	own, err := k.ownNames(t.Context())
	must(t, err)
	return own
}
