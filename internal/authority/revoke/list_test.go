package revoke_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stella-ops/stella/internal/authority/revoke"
	"github.com/stella-ops/stella/internal/authority/store"
	"github.com/stella-ops/stella/internal/authority/store/mem"
	"github.com/stella-ops/stella/internal/revocation"
)

// A list is made when what must be on it changes, and only then.
func TestExport(t *testing.T) {
	s := newSite(t)
	a, b := s.register(), s.register()
	expect := func(what string, sequence int64, want ...string) *revocation.Verified {
		t.Helper()
		v := s.export(a)
		if v.Bundle.Sequence != sequence || cmp.Diff(append([]string{}, want...), ids(v)) != "" {
			t.Fatalf("%s: sequence %d %q, want %d %q", what, v.Bundle.Sequence, ids(v), sequence, want)
		}
		if again := s.export(b); !bytes.Equal(v.Bytes, again.Bytes) || again.KID != v.KID {
			t.Fatalf("%s: the other replica has other bytes", what)
		}
		return v
	}
	first := expect("the first", 1)
	if first.Bundle.Issuer != issuer || first.Bundle.SigningKeyID != "k1" || first.Provider != "default" || len(first.Bundle.BundleID) != 32 {
		t.Errorf("%+v", first.Bundle)
	}
	expect("unchanged", 1)
	add(t, b, token("j"))
	expect("token", 2, "token j")
	add(t, a, subject("u"))
	add(t, a, client("c"))
	expect("subject and client", 3, "client c", "subject u", "token j")
	s.pass(time.Second)
	add(t, b, subject("u"))
	if v := expect("subject again", 4, "client c", "subject u", "token j"); !v.Bundle.Revocations[1].RevokedAt.Equal(s.clock()) {
		t.Errorf("subject revoked at %s", v.Bundle.Revocations[1].RevokedAt)
	}
	// A token's entry has margin before it must be gone, but is gone then.
	// Subject and client hold as long as their last token may.
	s.pass(lifetime + skew)
	expect("tokens have expired", 4, "client c", "subject u", "token j")
	s.pass(skew + time.Minute)
	expect("all gone", 5)
	s.pass(5*time.Minute - time.Second)
	expect("nothing new", 5)
	s.pass(time.Second)
	if v := expect("renewed", 6); v.Bundle.BundleID == first.Bundle.BundleID || !v.Bundle.IssuedAt.Equal(s.clock()) {
		t.Errorf("%+v", v.Bundle)
	}
}

// A token's entry stays as long as the token, also when tokens lived longer
// once; but no longer than a day.
func TestExpiry(t *testing.T) {
	s := newSite(t)
	r := s.register()
	short, long, unknown := token("short"), token("long"), token("unknown")
	short.Expiry, long.Expiry = s.clock().Add(time.Minute), s.clock().Add(48*time.Hour)
	for _, e := range []revoke.Entry{short, long, unknown} {
		add(t, r, e)
	}
	for _, step := range []struct {
		pass time.Duration
		want []string
	}{
		{0, []string{"token long", "token short", "token unknown"}},
		{time.Minute + skew, []string{"token long", "token short", "token unknown"}}, // may be left a minute longer
		{time.Minute + time.Second, []string{"token long", "token unknown"}},
		{skew + time.Minute, []string{"token long"}},
		{24*time.Hour - 4*time.Minute, []string{"token long"}},
		{4 * time.Minute, []string{}},
	} {
		s.pass(step.pass)
		if d := cmp.Diff(step.want, ids(s.export(r))); d != "" {
			t.Errorf("after %s more: %s", step.pass, d)
		}
	}
}

// A key that signs no more hands over; one that is revoked is on the list for
// ever, and never signs.
func TestKeys(t *testing.T) {
	s := newSite(t)
	r := s.register()
	if v := s.export(r); v.KID != "k1" {
		t.Fatal(v.KID)
	}
	s.rotate("k2")
	if v := s.export(r); v.KID != "k2" || v.Bundle.Sequence != 2 {
		t.Errorf("after the rotation: %d by %s", v.Bundle.Sequence, v.KID)
	}
	s.revoke("k1")
	if v := s.export(r); v.KID != "k2" || cmp.Diff([]string{"key k1"}, ids(v)) != "" {
		t.Errorf("after the revocation: %q by %s", ids(v), v.KID)
	}
	// A replica that does not know of the revocation neither drops it nor
	// signs with the key.
	o := s.options()
	o.Keys = func() []revoke.RevokedKey { return nil }
	lagging, first := revoke.New(o), s.signers[0]
	if v := s.export(lagging); v.Bundle.Sequence != 3 || len(v.Bundle.Revocations) != 1 {
		t.Errorf("a lagging replica has made %d %q", v.Bundle.Sequence, ids(v))
	}
	s.signers = append(s.signers, first)
	add(t, lagging, token("j"))
	if _, err := lagging.Export(t.Context()); !errors.Is(err, revocation.ErrKey) {
		t.Errorf("a revoked key has signed: %v", err)
	}
	s.signers = s.signers[:2]
	if v := s.export(r); v.KID != "k2" || cmp.Diff([]string{"key k1", "token j"}, ids(v)) != "" {
		t.Errorf("afterwards: %q by %s", ids(v), v.KID)
	}
	s.pass(1000 * 24 * time.Hour)
	if v := s.export(r); cmp.Diff([]string{"key k1"}, ids(v)) != "" {
		t.Errorf("years later: %q", ids(v))
	}
}

// Without a signer the last list holds while it is complete, no longer.
func TestNoSigner(t *testing.T) {
	s := newSite(t)
	r := s.register()
	s.signErr = errors.New("the HSM is away")
	if _, err := r.Export(t.Context()); !errors.Is(err, s.signErr) {
		t.Errorf("without any list: %v", err)
	}
	s.signErr = nil
	s.export(r)
	s.signErr = errors.New("the HSM is away again")
	s.pass(time.Hour) // a new one is due
	if v := s.export(r); v.Bundle.Sequence != 1 {
		t.Error("another list")
	}
	add(t, r, token("j"))
	if l, err := r.Current(t.Context()); !errors.Is(err, s.signErr) {
		t.Errorf("a list that lacks an entry was handed out: %+v %v", l, err)
	}
}

// Callers who are nobody cause one look a second, but what was added here is
// on the list at once.
func TestCurrent(t *testing.T) {
	s := newSite(t)
	o := s.options()
	b := &broken{Records: o.Records}
	o.Records = b
	r, other := revoke.New(o), s.register()
	sequence := func() int64 {
		l, err := r.Current(t.Context())
		if err != nil {
			return -1
		}
		return l.Bundle.Sequence
	}
	if sequence() != 1 {
		t.Fatal("control")
	}
	b.record, b.list = true, true
	if sequence() != 1 {
		t.Error("looked twice in a second")
	}
	s.pass(time.Second)
	if sequence() != -1 {
		t.Error("did not look after a second")
	}
	b.record, b.list = false, false
	if sequence() != 1 {
		t.Error("did not look after a failure")
	}
	add(t, other, token("a"))
	if sequence() != 1 {
		t.Error("looked twice in a second")
	}
	add(t, r, token("b"))
	if sequence() != 2 {
		t.Error("what was added here is not on the list")
	}
}

// 50 exports at a time over two handles, each with something new: sequences
// rise strictly and none has two contents.
func TestExportRace(t *testing.T) {
	for name, s := range map[string]*site{"mem": newSite(t), "mongo": newSite(t).onMongo()} {
		handles := []*revoke.Register{s.register(), s.register()}
		var mu sync.Mutex
		seen := map[int64]string{}
		var wg sync.WaitGroup
		for i := range 50 {
			r := handles[i%2]
			wg.Go(func() {
				jti := fmt.Sprint("j", i)
				if _, err := r.Add(t.Context(), token(jti)); err != nil {
					t.Error(err)
				}
				l, err := r.Export(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				v := s.verify(l)
				if !slices.Contains(ids(v), "token "+jti) {
					t.Errorf("%s: list %d lacks what was added before", name, v.Bundle.Sequence)
				}
				mu.Lock()
				defer mu.Unlock()
				if old, ok := seen[v.Bundle.Sequence]; ok && old != v.Digest {
					t.Errorf("%s: sequence %d has two contents", name, v.Bundle.Sequence)
				}
				seen[v.Bundle.Sequence] = v.Digest
			})
		}
		wg.Wait()
		last := s.export(s.register())
		if n := len(last.Bundle.Revocations); n != 50 || last.Bundle.Sequence > 50 {
			t.Errorf("%s: the last list is %d with %d entries", name, last.Bundle.Sequence, n)
		}
		lists, err := s.open().List(t.Context(), store.RevocationLists)
		if err != nil || int64(len(lists)) != last.Bundle.Sequence {
			t.Errorf("%s: %d lists up to %d (%v)", name, len(lists), last.Bundle.Sequence, err)
		}
	}
}

// Old lists go, the newest never does, and a replica that slept does not use a
// sequence again.
func TestTrim(t *testing.T) {
	s := newSite(t)
	r, sleeper := s.register(), s.register()
	s.export(sleeper)
	for i := range 30 {
		add(t, r, token(fmt.Sprint("j", i)))
		s.export(r)
		s.pass(time.Minute)
	}
	records := s.open()
	count := func() int {
		t.Helper()
		lists, err := records.List(t.Context(), store.RevocationLists)
		if err != nil {
			t.Fatal(err)
		}
		return len(lists)
	}
	if n := count(); n < 5 || n > 12 {
		t.Errorf("%d lists are kept", n)
	}
	if _, err := records.Record(t.Context(), store.RevocationLists, "0000000000000001"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("list 1: %v", err)
	}
	before := s.export(r).Bundle.Sequence
	add(t, sleeper, token("late"))
	if v := s.export(sleeper); v.Bundle.Sequence != before+1 {
		t.Errorf("the sleeper has made %d after %d", v.Bundle.Sequence, before)
	}
	s.pass(10000 * 24 * time.Hour)
	if err := records.SweepRecords(t.Context(), s.clock()); err != nil {
		t.Fatal(err)
	}
	if v := s.export(s.register()); v.Bundle.Sequence <= before+1 {
		t.Errorf("sequences began again: %d", v.Bundle.Sequence)
	}
}

// After the database was restored from a backup verifiers refuse its old list,
// and take the next one, which comes by itself, also where a sequence comes
// twice.
func TestRestored(t *testing.T) {
	for name, more := range map[string]int{"older than theirs": 3, "the same sequence": 1} {
		s := newSite(t)
		r := s.register()
		set, err := revocation.NewSet(revocation.Options{Issuer: issuer, Now: s.clock})
		if err != nil {
			t.Fatal(err)
		}
		s.export(r)
		backup, err := s.open().List(t.Context(), store.RevocationLists)
		if err != nil {
			t.Fatal(err)
		}
		for i := range more {
			s.pass(time.Second)
			add(t, r, token(fmt.Sprint("j", i)))
			if _, err := set.Apply(s.export(r)); err != nil {
				t.Fatal(err)
			}
		}
		m := mem.New(0)
		for _, rec := range backup {
			if err := m.Insert(t.Context(), rec); err != nil {
				t.Fatal(err)
			}
		}
		s.open = func() store.Records { return m }
		restored := s.register()
		if _, err := set.Apply(s.export(restored)); !errors.Is(err, revocation.ErrOlder) {
			t.Errorf("%s: the old list: %v", name, err)
		}
		var last error
		for range 2 {
			s.pass(5 * time.Minute)
			_, last = set.Apply(s.export(restored))
		}
		if last != nil {
			t.Errorf("%s: still refused: %v", name, last)
		}
	}
}
