// Package providertest is the conformance suite of keyring.Provider: every
// implementation passes it, against the real thing where that runs here.
//
// It guarantees that what the keyring relies on was seen: a name gives one
// key, a reference goes on naming that key, what it signs verifies, and a
// destroyed key signs nothing.
package providertest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"errors"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/keyring"
)

// Subject is a provider under test.
type Subject struct {
	Scheme string
	// Open returns a handle of its own on one and the same provider, as
	// replicas have it. The provider holds no key yet.
	Open func(t *testing.T) keyring.Provider
	// Missing is a well-formed reference to a key that never was.
	Missing string
	// Malformed are references that the provider must refuse.
	Malformed []string
}

// Run runs the suite; start makes a Subject that nothing was done with.
func Run(t *testing.T, start func(t *testing.T) Subject) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, Subject){
		"MakeAndSign": makeAndSign, "Adopt": adopt, "NameGivesOneKey": nameGivesOneKey, "Race": race,
		"Missing": missing, "Malformed": malformed, "Destroy": destroy, "Cut": cut,
	} {
		t.Run(name, func(t *testing.T) { test(t, start(t)) })
	}
}

func made(t *testing.T, s Subject, p keyring.Provider, name string) string {
	t.Helper()
	ref, err := p.Make(t.Context(), name)
	if err != nil {
		t.Fatalf("make %s: %v", name, err)
	}
	if !strings.HasPrefix(ref, s.Scheme+":") {
		t.Fatalf("reference %q is not of scheme %s", ref, s.Scheme)
	}
	return ref
}

// signs opens ref and checks a signature with the public half.
func signs(t *testing.T, p keyring.Provider, ref string) *ecdsa.PublicKey {
	t.Helper()
	key, err := p.Open(t.Context(), ref)
	if err != nil {
		t.Fatalf("open %s: %v", ref, err)
	}
	digest := sha256.Sum256([]byte(ref))
	sig, err := key.SignDigest(t.Context(), digest[:])
	if err != nil {
		t.Fatalf("sign with %s: %v", ref, err)
	}
	if pub := key.Public(); pub.Curve != elliptic.P256() || !ecdsa.VerifyASN1(pub, digest[:], sig) {
		t.Fatalf("%s: its signature does not verify with its public half", ref)
	}
	return key.Public()
}

func makeAndSign(t *testing.T, s Subject) {
	a, b := s.Open(t), s.Open(t)
	one, two := made(t, s, a, "stella-0a-1"), made(t, s, a, "stella-0a-2")
	if one == two || signs(t, a, one).Equal(signs(t, a, two)) {
		t.Fatal("two names gave one key")
	}
	if !signs(t, b, one).Equal(signs(t, a, one)) {
		t.Fatal("another handle opens another key")
	}
}

func nameGivesOneKey(t *testing.T, s Subject) {
	a, b := s.Open(t), s.Open(t)
	ref := made(t, s, a, "stella-0a-1")
	for _, p := range []keyring.Provider{a, b} {
		if again := made(t, s, p, "stella-0a-1"); again != ref {
			t.Errorf("%s became %s", ref, again)
		}
	}
}

// adopt: what Make makes may be adopted, and what that gives names the same key
// and may be adopted in its turn.
func adopt(t *testing.T, s Subject) {
	a, b := s.Open(t), s.Open(t)
	ref := made(t, s, a, "stella-0a-1")
	pinned, err := b.Adopt(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	if !signs(t, a, pinned).Equal(signs(t, a, ref)) {
		t.Errorf("%s was adopted as another key, %s", ref, pinned)
	}
	if again, err := a.Adopt(t.Context(), pinned); err != nil || again != pinned {
		t.Errorf("%s is adopted as %q, %v", pinned, again, err)
	}
	if got, err := a.Adopt(t.Context(), s.Missing); got != "" || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing key: %q, %v, want fs.ErrNotExist", got, err)
	}
	if err := a.Destroy(t.Context(), pinned); err != nil {
		t.Fatalf("destroy what was adopted: %v", err)
	}
	if got, err := a.Adopt(t.Context(), ref); got != "" || err == nil {
		t.Errorf("a destroyed key: adopted as %q", got)
	}
}

// Of a race each ends with a key that signs, and a name is never left without.
func race(t *testing.T, s Subject) {
	const racers = 8
	refs := make([]string, racers)
	var wg sync.WaitGroup
	for i := range racers {
		p := s.Open(t)
		wg.Go(func() {
			ref, err := p.Make(t.Context(), "stella-0a-1")
			if err != nil {
				t.Errorf("racer %d: %v", i, err)
			}
			refs[i] = ref
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	p := s.Open(t)
	for _, ref := range refs {
		signs(t, p, ref)
	}
	settled := made(t, s, p, "stella-0a-1")
	if again := made(t, s, s.Open(t), "stella-0a-1"); again != settled {
		t.Errorf("after the race the name gives %s, then %s", settled, again)
	}
}

func missing(t *testing.T, s Subject) {
	p := s.Open(t)
	signs(t, p, made(t, s, p, "stella-0a-1")) // control
	if _, err := p.Open(t.Context(), s.Missing); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("open of a missing key: %v, want fs.ErrNotExist", err)
	}
	if err := p.Destroy(t.Context(), s.Missing); err != nil {
		t.Errorf("destroy of a missing key: %v", err)
	}
}

func malformed(t *testing.T, s Subject) {
	p := s.Open(t)
	ref := made(t, s, p, "stella-0a-1")
	general := []string{"", ":", s.Scheme, s.Scheme + ":", s.Scheme + "://", "file:" + ref, s.Scheme + ":\x00", s.Scheme + ":" + strings.Repeat("a", 1<<20)}
	for _, bad := range append(general, s.Malformed...) {
		if _, err := p.Open(t.Context(), bad); err == nil {
			t.Errorf("open of %.80q: accepted", bad)
		}
		if got, err := p.Adopt(t.Context(), bad); got != "" || fault.KindOf(err) != fault.Input {
			t.Errorf("adopting %.80q: %q, %.200v, want kind input", bad, got, err)
		}
		if err := p.Destroy(t.Context(), bad); err == nil {
			t.Errorf("destroy of %.80q: accepted", bad)
		}
	}
	signs(t, p, ref)
}

func destroy(t *testing.T, s Subject) {
	p := s.Open(t)
	ref, kept := made(t, s, p, "stella-0a-1"), made(t, s, p, "stella-0a-2")
	key, err := p.Open(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := p.Destroy(t.Context(), ref); err != nil {
			t.Fatalf("destroy: %v", err)
		}
	}
	digest := sha256.Sum256(nil)
	if _, err := key.SignDigest(t.Context(), digest[:]); err == nil {
		t.Error("a destroyed key signs, by a handle from before")
	}
	if key, err := s.Open(t).Open(t.Context(), ref); err == nil {
		if _, err := key.SignDigest(t.Context(), digest[:]); err == nil {
			t.Error("a destroyed key signs")
		}
	}
	signs(t, p, kept)
	if again, err := p.Make(t.Context(), "stella-0a-1"); err == nil && again == ref {
		t.Error("the name of a destroyed key gives that key again")
	}
}

// cut: a context that ended ends the call, and nothing hangs.
func cut(t *testing.T, s Subject) {
	p := s.Open(t)
	ref := made(t, s, p, "stella-0a-1")
	key, err := p.Open(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	digest := sha256.Sum256(nil)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if _, err := key.SignDigest(ctx, digest[:]); err == nil {
			t.Error("a signature was made for a caller that had gone")
		}
		if _, err := p.Make(ctx, "stella-0a-2"); err == nil {
			t.Error("a key was made for a caller that had gone")
		}
		if _, err := p.Adopt(ctx, ref); err == nil {
			t.Error("a key was adopted for a caller that had gone")
		}
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("it hangs")
	}
}
