package hashivault_test

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/keyring"
	"github.com/stella-ops/stella/internal/keyring/hashivault"
	"github.com/stella-ops/stella/internal/keyring/providertest"
	"github.com/stella-ops/stella/internal/secret"
	"github.com/stella-ops/stella/internal/testenv"
	"github.com/stella-ops/stella/internal/testenv/fakevault"
)

var digest = sha256.Sum256([]byte("what is signed"))

// start starts a server and returns what a client of it needs.
func start(t *testing.T) (*fakevault.Server, hashivault.Options) {
	t.Helper()
	ca, err := testenv.NewCA(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s, err := fakevault.Start(t.Context(), ca)
	if err != nil {
		t.Fatal(err)
	}
	return s, hashivault.Options{Address: s.URL, CAFile: s.CAFile, Token: tokenFile(t, s.Token())}
}

func tokenFile(t *testing.T, token string) secret.Ref {
	t.Helper()
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return secret.Ref("file:" + path)
}

func open(t *testing.T, o hashivault.Options) *hashivault.Provider {
	t.Helper()
	p, err := hashivault.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func made(t *testing.T, p *hashivault.Provider, name string) string {
	t.Helper()
	ref, err := p.Make(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func opened(t *testing.T, p *hashivault.Provider, ref string) keyring.RemoteKey {
	t.Helper()
	key, err := p.Open(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func verifies(t *testing.T, key keyring.RemoteKey) bool {
	t.Helper()
	sig, err := key.SignDigest(t.Context(), digest[:])
	if err != nil {
		t.Fatal(err)
	}
	return ecdsa.VerifyASN1(key.Public(), digest[:], sig)
}

func admin(t *testing.T, s *fakevault.Server, method, path string, in map[string]any) map[string]any {
	t.Helper()
	data, err := s.Admin(method, path, in)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func wantKind(t *testing.T, what string, err error, kind fault.Kind) {
	t.Helper()
	if fault.KindOf(err) != kind {
		t.Errorf("%s: %v (%v), want kind %v", what, err, fault.KindOf(err), kind)
	}
}

func TestConformance(t *testing.T) {
	sum := strings.Repeat("0a", 32)
	providertest.Run(t, func(t *testing.T) providertest.Subject {
		_, o := start(t)
		return providertest.Subject{
			Scheme:  hashivault.Scheme,
			Open:    func(t *testing.T) keyring.Provider { return open(t, o) },
			Missing: "hashivault://never-was?version=1",
			Malformed: []string{
				"hashivault://stella-0a-1", "hashivault://stella-0a-1?", "hashivault://stella-0a-1?version=", "hashivault://?version=1",
				"hashivault:stella-0a-1?version=1", "hashivault:/stella-0a-1?version=1", "HASHIVAULT://stella-0a-1?version=1",
				"hashivault://stella-0a-1?version=0", "hashivault://stella-0a-1?version=01", "hashivault://stella-0a-1?version=+1",
				"hashivault://stella-0a-1?version=-1", "hashivault://stella-0a-1?version=1 ", "hashivault://stella-0a-1?version=1234567890",
				"hashivault://stella-0a-1?version=latest", "hashivault://stella-0a-1?Version=1", "hashivault://stella-0a-1?version=1&version=1",
				"hashivault://stella-0a-1?version=1&sha256=", "hashivault://stella-0a-1?version=1&sha256=" + sum[1:],
				"hashivault://stella-0a-1?version=1&sha256=" + strings.ToUpper(sum), "hashivault://stella-0a-1?sha256=" + sum + "&version=1",
				"hashivault://stella-0a-1?version=1&sha256=" + sum + "&", "hashivault://stella-0a-1?version=1#x",
				"hashivault://../stella-0a-1?version=1", "hashivault://a/stella-0a-1?version=1", "hashivault://stella-0a-1/?version=1",
				"hashivault://stella%2d0a-1?version=1", "hashivault://.stella?version=1", "hashivault://stella.?version=1",
				"hashivault://a..b?version=1", "hashivault://..?version=1", "hashivault://stellä?version=1",
				"hashivault://" + strings.Repeat("a", 129) + "?version=1",
			},
		}
	})
}

// An operator's reference without a version is refused with what to write.
func TestVersionIsNamed(t *testing.T) {
	s, o := start(t)
	p := open(t, o)
	admin(t, s, "POST", "keys/theirs.v1_x", map[string]any{"type": "ecdsa-p256"})
	_, err := p.Open(t.Context(), "hashivault://theirs.v1_x")
	wantKind(t, "no version", err, fault.Input)
	if hints := fault.HintsOf(err); len(hints) != 1 || !strings.Contains(hints[0], "hashivault://theirs.v1_x?version=1") {
		t.Errorf("hints: %q", hints)
	}
	if !verifies(t, opened(t, p, "hashivault://theirs.v1_x?version=1")) {
		t.Error("the control does not sign")
	}
}

func TestRotation(t *testing.T) {
	s, o := start(t)
	p := open(t, o)
	ref := made(t, p, "k")
	before := opened(t, p, ref)
	admin(t, s, "POST", "keys/k/rotate", nil)
	after := opened(t, p, ref)
	if !after.Public().Equal(before.Public()) || !verifies(t, before) || !verifies(t, after) {
		t.Error("after a rotation the reference names another key")
	}
	if again := made(t, p, "k"); again != ref {
		t.Errorf("made again it is %s, not %s", again, ref)
	}
	second := opened(t, p, "hashivault://k?version=2")
	if second.Public().Equal(before.Public()) || !verifies(t, second) {
		t.Error("version 2 is no other key")
	}
	if _, err := p.Open(t.Context(), "hashivault://k?version=3"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("version 3: %v", err)
	}

	admin(t, s, "POST", "keys/k/config", map[string]any{"min_encryption_version": 2})
	_, err := p.Open(t.Context(), ref)
	wantKind(t, "may not sign", err, fault.Config)
	_, err = before.SignDigest(t.Context(), digest[:])
	wantKind(t, "may not sign, from before", err, fault.Config)
	admin(t, s, "POST", "keys/k/config", map[string]any{"min_decryption_version": 2})
	_, err = p.Open(t.Context(), ref)
	wantKind(t, "archived", err, fault.Config)
	wantKind(t, "destroying what is archived", p.Destroy(t.Context(), ref), fault.Config)
	admin(t, s, "POST", "keys/k/trim", map[string]any{"min_available_version": 2})
	if _, err = p.Open(t.Context(), ref); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("trimmed: %v", err)
	}
	if err := p.Destroy(t.Context(), ref); err != nil || !verifies(t, second) {
		t.Errorf("destroying what was trimmed: %v", err)
	}
}

// A key that was deleted and made again by others is not the one referred to.
func TestSameNameAnotherKey(t *testing.T) {
	s, o := start(t)
	p := open(t, o)
	ref := made(t, p, "k")
	before := opened(t, p, ref)
	admin(t, s, "POST", "keys/k/config", map[string]any{"deletion_allowed": true})
	admin(t, s, "DELETE", "keys/k", nil)
	_, err := before.SignDigest(t.Context(), digest[:])
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("signing with a deleted key: %v", err)
	}
	admin(t, s, "POST", "keys/k", map[string]any{"type": "ecdsa-p256"})
	_, err = p.Open(t.Context(), ref)
	wantKind(t, "another key", err, fault.Trust)
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("another key: %v, want fs.ErrNotExist", err)
	}
	if verifies(t, before) {
		t.Error("the other key's signature verifies")
	}
	if err := p.Destroy(t.Context(), ref); err != nil {
		t.Errorf("destroying the former key: %v", err)
	}
	other := made(t, p, "k")
	if other == ref || !verifies(t, opened(t, p, other)) {
		t.Error("the other key was destroyed or has the same reference")
	}
	if err := p.Destroy(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Open(t.Context(), other); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("destroyed: %v", err)
	}
}

// Replicas destroy the same key at the same time, and each is content.
func TestDestroyRace(t *testing.T) {
	_, o := start(t)
	ref := made(t, open(t, o), "k")
	errs := make(chan error, 8)
	for range cap(errs) {
		p := open(t, o)
		go func() { errs <- p.Destroy(t.Context(), ref) }()
	}
	for range cap(errs) {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}
