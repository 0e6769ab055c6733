package keyring

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/fault"
)

// TestStartOpensOnce: a long history costs a start no more calls than a short
// one, and a provider that hangs one wait.
func TestStartOpensOnce(t *testing.T) {
	dir, c, s, o := remoteSite(t)
	k := load(t, dir, o)
	for range 8 {
		rotateOnce(t, k, c)
	}
	s.set(func(s *service) { s.opens = 0 })
	again := load(t, dir, o)
	settle(t, again)
	if _, err := again.Signer(); err != nil {
		t.Fatal(err)
	}
	// Active and standby: once each by the start, once each by settle.
	s.set(func(s *service) {
		if s.opens > 5 {
			t.Errorf("%d keys were opened for a history of %d records", s.opens, again.Ring().Version)
		}
	})
}

// TestTaintWhileTheProviderIsDown: an emergency gets through. It says how, does
// not make a key active that cannot sign, and recovers by itself.
func TestTaintWhileTheProviderIsDown(t *testing.T) {
	dir, c, s, o := remoteSite(t)
	k := load(t, dir, o)
	active := k.Ring().Active().KID
	c.mature()
	must(t, k.Refresh(t.Context()))
	s.set(func(s *service) { s.down = fault.Errorf(fault.Transient, "no route") })
	_, err := k.Change(t.Context(), because(Taint))
	if o := (*OrderError)(nil); !errors.As(err, &o) || !strings.Contains(o.Next, "--outage") || !strings.Contains(o.Message, "could not sign") {
		t.Fatalf("refused without a way out: %v", err)
	}
	taint := because(Taint)
	taint.Outage = true
	change(t, k, taint)
	if ring := k.Ring(); ring.Active() != nil || ring.Find(active).State != Tainted || ring.Standby() == nil {
		t.Fatalf("after the taint: %+v", ring.Keys)
	}
	if _, err := k.Signer(); !errors.Is(err, ErrNoActive) {
		t.Errorf("somebody signs: %v", err)
	}
	s.set(func(s *service) { s.down = nil })
	change(t, k, req(Activate))
	if _, err := k.Signer(); err != nil {
		t.Error(err)
	}
}

// TestTaintFindsAnotherHeir: of several standbys the one that can sign.
func TestTaintFindsAnotherHeir(t *testing.T) {
	dir, c, s, o := remoteSite(t)
	k := load(t, dir, o)
	lost := *k.Ring().Standby()
	kid := change(t, k, req(Stage)).KID
	change(t, k, req(Publish))
	c.mature()
	must(t, k.Refresh(t.Context()))
	s.set(func(s *service) { delete(s.keys, lost.Private) })
	change(t, k, because(Taint))
	if active := k.Ring().Active(); active == nil || active.KID != kid {
		t.Errorf("active is %+v, want %s", active, kid)
	}
}

// TestCopiedHistory: a copy of the key directory, on another host or restored
// later, is given keys of its own and never takes one that is in use elsewhere.
func TestCopiedHistory(t *testing.T) {
	for _, replica := range []string{"a", "b"} {
		dir, _, s, o := remoteSite(t)
		k := load(t, dir, o)
		copied := filepath.Join(t.TempDir(), "copy")
		must(t, os.CopyFS(copied, os.DirFS(dir)))
		must(t, os.Chmod(copied, 0o700))
		must(t, os.Chmod(filepath.Join(copied, sealName+".pem"), 0o600))
		theirs := change(t, k, req(Stage)).Ring
		o.Replica = replica
		drill := load(t, copied, o)
		ours := change(t, drill, req(Stage))
		if theirs.Find(ours.KID) != nil {
			t.Errorf("replica %s: the copy was given the key of the original", replica)
		}
		discard := req(Discard)
		discard.KID = ours.KID
		change(t, drill, discard)
		drill.DestroyDue(t.Context())
		for _, key := range theirs.Keys {
			if s.keys[key.Private] == nil {
				t.Errorf("replica %s: the copy destroyed %s of the original", replica, key.KID)
			}
		}
	}
}

// TestFailuresLeaveOneKey: however often a stage fails after its key was made, it
// is that key that the next one goes on with, and a stage that is not allowed
// makes none.
func TestFailuresLeaveOneKey(t *testing.T) {
	dir, c, s, o := remoteSite(t)
	k := load(t, dir, o)
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	s.set(func(s *service) { s.signAs = other }) // it makes keys that cannot be used
	for range 200 {
		if _, err := k.Change(t.Context(), req(Stage)); err == nil {
			t.Fatal("staged a key that cannot sign")
		}
		c.add(10 * time.Minute)
	}
	if len(s.keys) != 3 {
		t.Errorf("%d keys are left at the service, want active, standby and one", len(s.keys))
	}
	s.set(func(s *service) { s.signAs = nil })
	c.add(brakeLast)
	change(t, load(t, dir, o), req(Stage))
	if len(s.keys) != 3 {
		t.Errorf("%d keys after it was cured", len(s.keys))
	}
	wrong := req(Stage)
	wrong.ExpectVersion = 77
	if _, err := k.Change(t.Context(), wrong); !errors.Is(err, ErrConflict) {
		t.Errorf("wrong version: %v", err)
	}
	for err = nil; err == nil; {
		_, err = k.Change(t.Context(), req(Stage))
	}
	if !errors.As(err, new(*OrderError)) || len(s.keys) != maxLive {
		t.Errorf("%d keys at the service at the limit of %d: %v", len(s.keys), maxLive, err)
	}
}

// TestForgottenIntent: a name whose key was recorded, and which could not be
// forgotten then, does not get in the way of the next stage.
func TestForgottenIntent(t *testing.T) {
	dir, _, s, o := remoteSite(t)
	k := load(t, dir, o)
	first := change(t, k, req(Stage))
	name := strings.TrimPrefix(first.Ring.Find(first.KID).Private, "mem:")
	must(t, k.store.SetIntent(t.Context(), "a", 1, name))
	if next := change(t, k, req(Stage)); next.KID == first.KID || len(s.keys) != 4 {
		t.Errorf("%s after %s, %d keys", next.KID, first.KID, len(s.keys))
	}
	for _, odd := range []string{"not a name of ours", "stella-0123456789ab-aaaaaaaaaaaaaaaa", strings.Repeat("x", 300)} {
		must(t, k.store.SetIntent(t.Context(), "a", 1, odd))
		if _, err := k.Change(t.Context(), req(Stage)); err != nil {
			t.Errorf("after the note %.20q: %v", odd, err)
		}
	}
}

// TestTroubleIsSeen: that the active key no longer signs, or the standby is gone,
// is known without anybody asking for it, and however often keys were opened.
func TestTroubleIsSeen(t *testing.T) {
	dir, c, s, o := remoteSite(t)
	k := load(t, dir, o)
	settle(t, k)
	settle(t, k)
	if k.CannotSign() != nil || len(k.Unusable()) != 0 {
		t.Fatalf("control: %v %v", k.CannotSign(), k.Unusable())
	}
	s.set(func(s *service) { s.down = fault.Errorf(fault.Transient, "no route") })
	signer, err := k.Signer()
	must(t, err)
	if _, err := signer.Sign(nil, nil); err == nil {
		t.Fatal("it signs in spite of the outage")
	}
	if k.CannotSign() == nil || len(k.Unusable()) != 1 {
		t.Errorf("not seen: %v %v", k.CannotSign(), k.Unusable())
	}
	s.set(func(s *service) { s.down = nil })
	if _, err := signer.Sign(nil, nil); err != nil || k.CannotSign() != nil {
		t.Errorf("after the outage: %v %v", err, k.CannotSign())
	}
	standby := k.Ring().Standby()
	s.set(func(s *service) { delete(s.keys, standby.Private) })
	c.add(openRepeat + time.Second)
	must(t, k.Refresh(t.Context()))
	_, _ = k.openNow(t.Context(), standby.Private)
	if list := k.Unusable(); len(list) != 1 || list[0].KID != standby.KID {
		t.Errorf("a standby that is gone is not seen: %v", list)
	}
}

// TestTaintIsNotDropped: many standbys that hang cost one wait, and a caller
// that goes does not stop an emergency.
func TestTaintIsNotDropped(t *testing.T) {
	dir, c, s, o := remoteSite(t)
	k := load(t, dir, o)
	for range 4 {
		change(t, k, req(Stage))
		change(t, k, req(Publish))
	}
	c.mature()
	must(t, k.Refresh(t.Context()))
	active := k.Ring().Active().KID
	s.set(func(s *service) { s.hang = make(chan struct{}) })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	taint := because(Taint)
	taint.Outage = true
	began := time.Now()
	if _, err := k.Change(ctx, taint); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); k.Ring().Find(active).State != Tainted || took > 2*openWithin {
		t.Errorf("%s after %s", k.Ring().Find(active).State, took)
	}
}

// TestBrake: a provider at which making keys keeps failing is asked ever more
// seldom, for each attempt may leave something behind.
func TestBrake(t *testing.T) {
	dir, c, s, o := remoteSite(t)
	k := load(t, dir, o)
	s.set(func(s *service) { s.down, s.makes = fault.Errorf(fault.Denied, "no right to name it"), 0 })
	asked := 0
	for range 24 * 60 { // a day of a timer that runs every minute
		before := k.brake.fails
		if _, err := k.Change(t.Context(), req(Stage)); fault.KindOf(err) != fault.Denied {
			t.Fatal(err)
		}
		if k.brake.fails != before {
			asked++
		}
		c.add(time.Minute)
	}
	if asked < 5 || asked > 40 {
		t.Errorf("asked %d times in a day", asked)
	}
	s.set(func(s *service) { s.down = nil })
	c.add(brakeLast)
	change(t, k, req(Stage))
	change(t, k, req(Stage)) // the brake is off again
}

// TestReapIsShared: the replica that ended a key has it destroyed; others do so
// only when it has not for an hour, and nobody after a week.
func TestReapIsShared(t *testing.T) {
	dir, c, s, o := remoteSite(t)
	k := load(t, dir, o)
	o.Replica = "b"
	other := load(t, dir, o)
	staged := change(t, k, req(Stage))
	ref := staged.Ring.Find(staged.KID).Private
	change(t, k, req(Discard))
	must(t, other.Refresh(t.Context()))
	other.DestroyDue(t.Context())
	if s.ended[ref] {
		t.Fatal("another replica destroyed it at once")
	}
	c.add(reapBack)
	late := load(t, dir, o)
	late.DestroyDue(t.Context())
	if s.ended[ref] {
		t.Error("destroyed by a replica that started a week later")
	}
	other.DestroyDue(t.Context())
	if !s.ended[ref] {
		t.Error("never destroyed, though its own replica is gone")
	}
}
