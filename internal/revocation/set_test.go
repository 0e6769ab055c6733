package revocation_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/revocation"
)

func newSet(t testing.TB, o revocation.Options) *revocation.Set {
	t.Helper()
	o.Issuer = issuer
	if o.Now == nil {
		o.Now = func() time.Time { return at(30) }
	}
	s, err := revocation.NewSet(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func apply(t testing.TB, s *revocation.Set, v *revocation.Verified) {
	t.Helper()
	if changed, err := s.Apply(v); err != nil || !changed {
		t.Fatalf("sequence %d: %v %v", v.Bundle.Sequence, changed, err)
	}
}

func TestRevoked(t *testing.T) {
	s := newSet(t, revocation.Options{})
	claims := revocation.Claims{TokenID: "j", Subject: "u", ClientID: "c", KID: "k", IssuedAt: at(10)}
	if _, revoked := s.Revoked(claims); revoked {
		t.Fatal("revoked by an empty set")
	}
	signer := newSigner(t, "signer")
	half := at(9).Add(time.Millisecond)
	sequence := int64(0)
	for name, row := range map[string]struct {
		entry  revocation.Entry
		reason string // "" means not revoked
	}{
		"its jti":                     {token("j"), "r"},
		"another jti":                 {token("J"), ""},
		"its kid":                     {key("k"), "k"},
		"another kid":                 {key("k2"), ""},
		"its subject, later":          {subject("u", at(11)), "s"},
		"its subject, that second":    {subject("u", at(10)), "s"},
		"its subject, rounded up":     {subject("u", half), "s"},
		"its subject, before":         {subject("u", at(9)), ""},
		"another subject":             {subject("c", at(11)), ""},
		"its client, that second":     {client("c", at(10)), "c"},
		"its client, before":          {client("c", at(9)), ""},
		"another client":              {client("u", at(11)), ""},
		"a key named like its jti":    {key("j"), ""},
		"a token named like its key":  {token("k"), ""},
		"its subject, by another id":  {revocation.Entry{Category: revocation.Subject, ID: "x", SubjectID: "u", RevokedAt: at(11), Reason: "s"}, "s"},
		"other subject, with that id": {revocation.Entry{Category: revocation.Subject, ID: "u", SubjectID: "x", RevokedAt: at(11), Reason: "s"}, ""},
	} {
		sequence++
		b := bundle(sequence, row.entry)
		apply(t, s, sign(t, signer, b))
		if reason, revoked := s.Revoked(claims); reason != row.reason || revoked != (row.reason != "") {
			t.Errorf("%s: %q %v", name, reason, revoked)
		}
	}
	// The later of two counts, whatever their order.
	apply(t, s, sign(t, signer, bundle(99, subject("u", at(11)), subject("u", at(3)))))
	if _, revoked := s.Revoked(claims); !revoked {
		t.Error("an earlier revocation hides a later one")
	}
}

func TestSequence(t *testing.T) {
	signer := newSigner(t, "k1")
	make := func(sequence int64, id string, issued int, jti string) *revocation.Verified {
		b := bundle(sequence, token(jti))
		b.BundleID, b.IssuedAt = id, at(issued)
		return sign(t, signer, b)
	}
	const a, b = "aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb"
	for name, row := range map[string]struct {
		next    *revocation.Verified
		want    error
		changed bool
	}{
		"higher":                        {make(6, a, 5, "new"), nil, true},
		"higher, issued before":         {make(6, a, 4, "new"), nil, true},
		"the same":                      {make(5, a, 5, "old"), nil, false},
		"same sequence, other content":  {make(5, a, 5, "new"), revocation.ErrFork, false},
		"same sequence, other bundleId": {make(5, b, 9, "old"), revocation.ErrFork, false},
		"lower":                         {make(4, a, 9, "new"), revocation.ErrOlder, false},
		"lower, other bundleId":         {make(4, b, 5, "new"), revocation.ErrOlder, false},
		"lower, no bundleId, newer":     {make(4, "", 9, "new"), revocation.ErrOlder, false},
		"lower, other bundleId, newer":  {make(4, b, 6, "new"), nil, true},
	} {
		s := newSet(t, revocation.Options{})
		apply(t, s, make(5, a, 5, "old"))
		changed, err := s.Apply(row.next)
		if changed != row.changed || !errors.Is(err, row.want) || err != nil && fault.KindOf(err) != fault.Trust {
			t.Errorf("%s: %v %v", name, changed, err)
		}
		_, old := s.Revoked(revocation.Claims{TokenID: "old"})
		if old == row.changed {
			t.Errorf("%s: old list in effect: %v", name, old)
		}
	}
}

func TestIssuerAndTime(t *testing.T) {
	signer := newSigner(t, "k1")
	now := at(20)
	for name, row := range map[string]struct {
		change func(b *revocation.Bundle)
		want   error
	}{
		"control":              {func(*revocation.Bundle) {}, nil},
		"issuer":               {func(b *revocation.Bundle) { b.Issuer += "/" }, revocation.ErrIssuer},
		"valid now":            {func(b *revocation.Bundle) { b.ValidFrom = now.Add(2 * time.Second) }, nil},
		"not yet":              {func(b *revocation.Bundle) { b.ValidFrom = now.Add(3 * time.Second) }, revocation.ErrTime},
		"expires in a second":  {func(b *revocation.Bundle) { b.ExpiresAt = now.Add(-time.Second) }, nil},
		"expired":              {func(b *revocation.Bundle) { b.ExpiresAt = now.Add(-2 * time.Second) }, revocation.ErrTime},
		"issued in the future": {func(b *revocation.Bundle) { b.IssuedAt = now.Add(time.Hour) }, nil},
	} {
		s := newSet(t, revocation.Options{Skew: 2 * time.Second, Now: func() time.Time { return now }})
		b := bundle(1)
		row.change(b)
		if _, err := s.Apply(sign(t, signer, b)); !errors.Is(err, row.want) || err != nil && fault.KindOf(err) != fault.Trust {
			t.Errorf("%s: %v", name, err)
		}
		if got := s.Current() != nil; got != (row.want == nil) {
			t.Errorf("%s: in effect: %v", name, got)
		}
	}
}

// A verifier that was restarted goes on refusing, and cannot be talked back.
func TestState(t *testing.T) {
	dir := t.TempDir()
	signer := newSigner(t, "k1")
	var st *revocation.State
	open := func(issuer string) (*revocation.Set, error) {
		if st != nil { // the process of before has ended
			if err := st.Close(); err != nil {
				t.Fatal(err)
			}
		}
		var err error
		if st, err = revocation.OpenState(dir); err != nil {
			t.Fatal(err)
		}
		return revocation.NewSet(revocation.Options{Issuer: issuer, State: st, Now: func() time.Time { return at(30) }})
	}
	s, err := open(issuer)
	if err != nil || s.Current() != nil {
		t.Fatal(s, err)
	}
	old := sign(t, signer, bundle(1))
	apply(t, s, old)
	apply(t, s, sign(t, signer, bundle(2, token("j"))))

	if s, err = open(issuer); err != nil {
		t.Fatal(err)
	}
	if _, revoked := s.Revoked(revocation.Claims{TokenID: "j"}); !revoked || s.Current().KID != "k1" {
		t.Error("forgotten by the restart")
	}
	if _, err := s.Apply(old); !errors.Is(err, revocation.ErrOlder) {
		t.Errorf("rolled back after the restart: %v", err)
	}
	if _, err := open("https://other.example"); !errors.Is(err, revocation.ErrIssuer) {
		t.Errorf("state of another issuer: %v", err)
	}
	path := filepath.Join(dir, "revocation-state.json")
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatal(info, err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	inner := encode(t, bundle(2, token("j")))
	other := encode(t, bundle(2, token("k"))) // as good a bundle, but not the one that was accepted
	base := base64.StdEncoding.EncodeToString
	damaged := bytes.Replace(data, []byte(base(inner)), []byte(base(other)), 1)
	for name, content := range map[string][]byte{"damaged": damaged, "cut": data[:len(data)/2], "empty": nil} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := open(issuer); bytes.Equal(content, data) || fault.KindOf(err) != fault.Trust {
			t.Errorf("%s state: %v", name, err)
		}
	}
}

// What is revoked is refused even if it cannot be kept.
func TestStateFails(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	st, err := revocation.OpenState(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	s := newSet(t, revocation.Options{State: st})
	// Nobody can write a file over a directory.
	if err := os.Mkdir(filepath.Join(dir, "revocation-state.json"), 0o700); err != nil {
		t.Fatal(err)
	}
	list := sign(t, newSigner(t, "k1"), bundle(1, token("j")))
	if _, err := s.Apply(list); err == nil {
		t.Error("kept where nothing can be kept")
	}
	if _, revoked := s.Revoked(revocation.Claims{TokenID: "j"}); !revoked {
		t.Error("not in effect")
	}
	if _, err := s.Apply(list); err == nil {
		t.Error("the same list again: called kept, and is not")
	}
	if err := os.Remove(filepath.Join(dir, "revocation-state.json")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Apply(list); err != nil {
		t.Errorf("the same list, when it can be kept: %v", err)
	}
	if info, err := os.Stat(filepath.Join(dir, "revocation-state.json")); err != nil || !info.Mode().IsRegular() {
		t.Errorf("not kept: %v", err)
	}
}

// A key that an accepted list revokes cannot sign a list that takes that back,
// though a verifier may still hold the key.
func TestRevokedKeyCannotComeBack(t *testing.T) {
	s := newSet(t, revocation.Options{})
	apply(t, s, sign(t, newSigner(t, "k2"), bundle(10, key("k1"), token("j"))))
	if _, err := s.Apply(sign(t, newSigner(t, "k1"), bundle(11))); !errors.Is(err, revocation.ErrKey) || fault.KindOf(err) != fault.Trust {
		t.Errorf("signed by the revoked key: %v", err)
	}
	if _, revoked := s.Revoked(revocation.Claims{TokenID: "j"}); !revoked {
		t.Error("the revocation is gone")
	}
	apply(t, s, sign(t, newSigner(t, "k3"), bundle(11, key("k1")))) // control: another key
}

// Whatever the order in which bundles arrive, the newest stays.
func TestConcurrentApply(t *testing.T) {
	s := newSet(t, revocation.Options{})
	signer := newSigner(t, "k1")
	all := make([]*revocation.Verified, 20)
	for i := range all {
		all[i] = sign(t, signer, bundle(int64(i), token("j")))
	}
	var wg sync.WaitGroup
	for _, v := range all {
		wg.Go(func() {
			if _, err := s.Apply(v); err != nil && !errors.Is(err, revocation.ErrOlder) {
				t.Error(err)
			}
			if _, revoked := s.Revoked(revocation.Claims{TokenID: "j"}); !revoked {
				t.Error("not revoked in between")
			}
		})
	}
	wg.Wait()
	if got := s.Current().Bundle.Sequence; got != 19 {
		t.Errorf("sequence %d", got)
	}
}
