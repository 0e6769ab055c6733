package revoke_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/authority/revoke"
	"github.com/stella-ops/stella/internal/authority/store"
	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/revocation"
)

// What one replica adds is in effect on the other at once.
func TestRevokedEverywhere(t *testing.T) {
	s := newSite(t)
	a, b := s.register(), s.register()
	claims := revocation.Claims{TokenID: "j", Subject: "u", ClientID: "c", KID: "k1", IssuedAt: s.clock()}
	if isRevoked(t, b, claims) {
		t.Fatal("revoked before anything was")
	}
	for name, row := range map[string]struct {
		add  revoke.Entry
		same revocation.Claims // refused
		not  revocation.Claims // differs in one thing
	}{
		"token":   {token("j"), revocation.Claims{TokenID: "j", IssuedAt: s.clock()}, revocation.Claims{TokenID: "J", IssuedAt: s.clock()}},
		"subject": {subject("u"), revocation.Claims{Subject: "u", IssuedAt: s.clock()}, revocation.Claims{Subject: "v", IssuedAt: s.clock()}},
		"client":  {client("c"), revocation.Claims{ClientID: "c", IssuedAt: s.clock()}, revocation.Claims{ClientID: "d", IssuedAt: s.clock()}},
		"later":   {subject("w"), revocation.Claims{Subject: "w", IssuedAt: s.clock()}, revocation.Claims{Subject: "w", IssuedAt: s.clock().Add(time.Second)}},
	} {
		add(t, a, row.add)
		if !isRevoked(t, b, row.same) || isRevoked(t, b, row.not) {
			t.Errorf("%s: %v %v", name, isRevoked(t, b, row.same), isRevoked(t, b, row.not))
		}
		if created, err := b.Add(t.Context(), row.add); created || err != nil {
			t.Errorf("%s again: %v %v", name, created, err)
		}
	}
	if isRevoked(t, b, revocation.Claims{KID: "k1"}) {
		t.Error("the key is revoked")
	}
	s.revoke("k1")
	if reason, revoked, err := b.Revoked(t.Context(), revocation.Claims{KID: "k1"}); !revoked || reason != "key_compromise" || err != nil {
		t.Errorf("revoked key: %q %v %v", reason, revoked, err)
	}
}

// A later revocation of a subject moves the time on, an earlier one does not
// move it back; also over the border of an era, and after a sweep.
func TestExtend(t *testing.T) {
	s := newSite(t)
	r := s.register()
	at := func(iat time.Time) bool { return isRevoked(t, r, revocation.Claims{Subject: "u", IssuedAt: iat}) }
	for i := range 40 { // 40 links over 80 days
		add(t, r, subject("u"))
		if !at(s.clock()) || at(s.clock().Add(time.Second)) || !at(s.clock().Add(-399*24*time.Hour)) {
			t.Fatalf("link %d: now %v, a second later %v, long ago %v", i, at(s.clock()), at(s.clock().Add(time.Second)), at(s.clock().Add(-399*24*time.Hour)))
		}
		early := subject("u")
		early.RevokedAt = s.clock().Add(-time.Second)
		if _, err := r.Add(t.Context(), early); err != nil {
			t.Fatal(err)
		}
		if !at(s.clock()) {
			t.Fatalf("link %d: an earlier one moved it back", i)
		}
		s.pass(48 * time.Hour)
	}
	last := s.clock().Add(-48 * time.Hour)
	sweeper, ok := s.open().(interface{ store.Records })
	if !ok {
		t.Fatal("no store")
	}
	for range 398 {
		s.pass(24 * time.Hour)
		if err := sweeper.SweepRecords(t.Context(), s.clock()); err != nil {
			t.Fatal(err)
		}
		if !at(last) || at(last.Add(time.Second)) {
			t.Fatalf("forgotten %s after it", s.clock().Sub(last))
		}
	}
	s.pass(40 * 24 * time.Hour)
	if err := sweeper.SweepRecords(t.Context(), s.clock()); err != nil {
		t.Fatal(err)
	}
	if rest, err := sweeper.List(t.Context(), store.Revocations); err != nil || len(rest) != 0 {
		t.Errorf("%d records stay for ever (%v)", len(rest), err)
	}
}

// Times in whole seconds, rounded up: a token of the same second is refused.
func TestRoundsUp(t *testing.T) {
	s := newSite(t)
	s.pass(time.Millisecond)
	r := s.register()
	add(t, r, client("c"))
	next := s.clock().Truncate(time.Second).Add(time.Second)
	if !isRevoked(t, r, revocation.Claims{ClientID: "c", IssuedAt: next}) || isRevoked(t, r, revocation.Claims{ClientID: "c", IssuedAt: next.Add(time.Second)}) {
		t.Error("revokedAt is not rounded up to the next second")
	}
}

// No name can pass for another one's record.
func TestNames(t *testing.T) {
	s := newSite(t)
	r := s.register()
	odd := []string{"u", "u:00001:0000000000", "u:", ":u", "ü", "u/1", "client:u", strings.Repeat("x", 256)}
	for i, name := range odd {
		add(t, r, subject(name))
		for j, other := range odd {
			if got := isRevoked(t, r, revocation.Claims{Subject: other, IssuedAt: s.clock()}); got != (j <= i) {
				t.Errorf("after %q: %q revoked: %v", name, other, got)
			}
		}
	}
}

func TestAddRefuses(t *testing.T) {
	s := newSite(t)
	r := s.register()
	change := func(e revoke.Entry, f func(*revoke.Entry)) revoke.Entry { f(&e); return e }
	for name, e := range map[string]revoke.Entry{
		"key":               {Entry: revocation.Entry{Category: revocation.Key, ID: "k1", Reason: "x"}},
		"no category":       change(token("j"), func(e *revoke.Entry) { e.Category = "" }),
		"no id":             change(token("j"), func(e *revoke.Entry) { e.ID = "" }),
		"no reason":         change(token("j"), func(e *revoke.Entry) { e.Reason = "" }),
		"sentence":          change(token("j"), func(e *revoke.Entry) { e.Reason = "it was lost" }),
		"no client":         change(token("j"), func(e *revoke.Entry) { e.ClientID = "" }),
		"long id":           change(token("j"), func(e *revoke.Entry) { e.ID = strings.Repeat("j", 257) }),
		"control character": change(token("j"), func(e *revoke.Entry) { e.ID = "j\n" }),
		"future":            change(subject("u"), func(e *revoke.Entry) { e.RevokedAt = s.clock().Add(skew + 7*time.Second) }),
		"long ago":          change(subject("u"), func(e *revoke.Entry) { e.RevokedAt = s.clock().Add(-revoke.Longest - time.Second) }),
	} {
		if created, err := r.Add(t.Context(), e); created || fault.KindOf(err) != fault.Input {
			t.Errorf("%s: %v %v", name, created, err)
		}
	}
	add(t, r, token("j"))
	expired := change(token("x"), func(e *revoke.Entry) { e.Expiry = s.clock().Add(-skew) })
	if created, err := r.Add(t.Context(), expired); created || err != nil {
		t.Errorf("expired token: %v %v", created, err)
	}
	expired.Expiry = expired.Expiry.Add(time.Second)
	add(t, r, expired)
	ahead := change(subject("u"), func(e *revoke.Entry) { e.RevokedAt = s.clock().Add(skew) })
	add(t, r, ahead)
}

// "Not revoked" is never the answer of a store that is out of reach.
func TestStoreDown(t *testing.T) {
	s := newSite(t)
	o := s.options()
	b := &broken{Records: o.Records}
	o.Records = b
	r := revoke.New(o)
	claims := revocation.Claims{TokenID: "j", Subject: "u", ClientID: "c"}
	if isRevoked(t, r, claims) {
		t.Fatal("control")
	}
	var down downError
	b.record = true
	for name, c := range map[string]revocation.Claims{"token": {TokenID: "j"}, "subject": {Subject: "u"}, "client": {ClientID: "c"}} {
		if _, revoked, err := r.Revoked(t.Context(), c); revoked || !errors.As(err, &down) {
			t.Errorf("%s: %v %v", name, revoked, err)
		}
	}
	b.record = false
	s.export(r)
	b.insert = true
	s.pass(time.Hour) // a new list is due
	if v := s.export(r); v.Bundle.Sequence != 1 {
		t.Errorf("list %d", v.Bundle.Sequence)
	}
	for _, e := range []revoke.Entry{token("j"), subject("u"), client("c")} {
		if created, err := r.Add(t.Context(), e); created || !errors.As(err, &down) {
			t.Errorf("Add: %v %v", created, err)
		}
	}
	b.insert, b.list = false, true
	if _, err := r.Export(t.Context()); !errors.As(err, &down) {
		t.Errorf("Export: %v", err)
	}
}

// Of many who revoke one subject at a time, the furthest counts.
func TestExtendRace(t *testing.T) {
	for name, s := range map[string]*site{"mem": newSite(t), "mongo": newSite(t).onMongo()} {
		handles := []*revoke.Register{s.register(), s.register()}
		for round := range 3 {
			user := fmt.Sprint("u", round)
			var wg sync.WaitGroup
			var failed atomic.Int32
			for i := range 20 {
				wg.Go(func() {
					e := subject(user)
					e.RevokedAt = s.clock().Add(time.Duration(i*7%20-20) * time.Second)
					if _, err := handles[i%2].Add(t.Context(), e); err != nil {
						failed.Add(1)
						t.Error(err)
					}
				})
			}
			wg.Wait()
			furthest := s.clock().Add(-time.Second)
			for _, r := range handles {
				if !isRevoked(t, r, revocation.Claims{Subject: user, IssuedAt: furthest}) || isRevoked(t, r, revocation.Claims{Subject: user, IssuedAt: furthest.Add(time.Second)}) {
					t.Errorf("%s, round %d: not the furthest one counts", name, round)
				}
			}
		}
	}
}
