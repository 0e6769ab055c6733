package cli

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/revocation"
	"github.com/stella-ops/stella/internal/ui"
)

const revokingIssuer = "https://authority.example"

func newSigner(t *testing.T, kid string) *jose.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := jose.NewSigner(key, jose.ES256, kid)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// newBundle makes a signed list.
func newBundle(t *testing.T, s *jose.Signer, issuer string, sequence int64) *revocation.Document {
	t.Helper()
	now := time.Now().UTC().Truncate(time.Second)
	data, err := revocation.Encode(&revocation.Bundle{
		SchemaVersion: revocation.SchemaVersion, Issuer: issuer, IssuedAt: now, Sequence: sequence, SigningKeyID: s.Key().KeyID,
		Revocations: []revocation.Entry{{Category: revocation.Client, ID: "ops", ClientID: "ops", Reason: "test", RevokedAt: now}},
	})
	if err != nil {
		t.Fatal(err)
	}
	jws, err := revocation.Sign(data, s, "")
	if err != nil {
		t.Fatal(err)
	}
	return &revocation.Document{Sequence: sequence, Bundle: data, Signature: jws}
}

// carried writes a list and the key set to a directory, as an operator has them.
func carried(t *testing.T, s *jose.Signer, sequence int64) (dir string) {
	t.Helper()
	dir = t.TempDir()
	doc := newBundle(t, s, revokingIssuer, sequence)
	set, err := jose.Set{Keys: []jose.Key{s.Key()}}.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(s.Key().Public)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		revocation.FileBundle: doc.Bundle, revocation.FileSignature: []byte(doc.Signature + "\n"),
		revocation.FileDigest: []byte(strings.TrimPrefix(revocation.Digest(doc.Bundle), "sha256:") + "\n"),
		"jwks.json":           set, "key.pem": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// verifyList runs auth revoke verify without any configuration.
func verifyList(t *testing.T, dir string, more ...string) (code int, out, stderr string) {
	t.Helper()
	s, stdout, errs := ui.Buffers("")
	app := NewApp([]string{"STELLA_OFFLINE=true"}, func(string) string { return "" })
	app.Streams = s
	args := append([]string{"auth", "revoke", "verify", "--bundle", filepath.Join(dir, revocation.FileBundle)}, more...)
	code = Run(t.Context(), args, app)
	return code, stdout.String(), errs.String()
}

// TestRevokeVerify checks lists with no network and no configuration at all.
func TestRevokeVerify(t *testing.T) {
	ours := newSigner(t, "k1")
	dir := carried(t, ours, 7)
	stranger := carried(t, newSigner(t, "k1"), 8)
	empty := t.TempDir()
	for _, tc := range []struct {
		name string
		args []string
		code int
		says string
	}{
		{"key set", []string{"--key", dir + "/jwks.json"}, 0, "The list is good."},
		{"PEM", []string{"--key", dir + "/key.pem"}, 0, "The list is good."},
		{"issuer", []string{"--key", dir + "/jwks.json", "--issuer", revokingIssuer}, 0, "sequence"},
		{"JSON", []string{"--key", dir + "/jwks.json", "--output", "json"}, 0, `"digest_checked": true`},
		{"another issuer", []string{"--key", dir + "/jwks.json", "--issuer", revokingIssuer + "/"}, 21, "another issuer"},
		{"another's key", []string{"--key", stranger + "/jwks.json"}, 21, "signature"},
		{"another's PEM", []string{"--key", stranger + "/key.pem"}, 21, "signature"},
		{"another's signature", []string{"--key", dir + "/jwks.json", "--signature", stranger + "/" + revocation.FileSignature}, 21, "signature"},
		{"another's digest", []string{"--key", dir + "/jwks.json", "--sha256", stranger + "/" + revocation.FileDigest}, 21, "SHA-256"},
		{"no such signature", []string{"--key", dir + "/jwks.json", "--signature", dir + "/none"}, 4, "none"},
		{"no such digest", []string{"--key", dir + "/jwks.json", "--sha256", dir + "/none"}, 4, "none"},
		{"no such key", []string{"--key", dir + "/none"}, 4, "none"},
		{"no key in the file", []string{"--key", dir + "/" + revocation.FileSignature}, 78, "neither a JWK set nor one PEM block"},
		{"no state", []string{"--key", dir + "/jwks.json", "--state", empty + "/none"}, 78, "mkdir -m 700"},
		{"two sources", []string{"--key", dir + "/jwks.json", "--jwks-url", "https://x.example/"}, 2, "exclude"},
		{"nothing at hand", nil, 78, "authority"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			code, out, stderr := verifyList(t, dir, tc.args...)
			if code != tc.code || !strings.Contains(out+stderr, tc.says) || (out == "") != (code != 0) {
				t.Errorf("exit %d, want %d saying %q\n%s\n%s", code, tc.code, tc.says, out, stderr)
			}
		})
	}
}

// TestRevokeVerifyEveryByte: no byte of the list, of its signature and of its
// digest can be changed.
func TestRevokeVerifyEveryByte(t *testing.T) {
	dir := carried(t, newSigner(t, "k1"), 7)
	for _, name := range []string{revocation.FileBundle, revocation.FileSignature, revocation.FileDigest} {
		path := filepath.Join(dir, name)
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i := range len(strings.TrimSpace(string(good))) {
			bad := []byte(string(good))
			bad[i] ^= 1
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			if code, out, stderr := verifyList(t, dir, "--key", dir+"/jwks.json"); code != 21 || out != "" {
				t.Fatalf("byte %d of %s changed: exit %d\n%s\n%s", i, name, code, out, stderr)
			}
		}
		if err := os.WriteFile(path, good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if code, _, stderr := verifyList(t, dir, "--key", dir+"/jwks.json"); code != 0 {
		t.Fatalf("the control: exit %d\n%s", code, stderr)
	}
}

// TestRevokeVerifyState: what was accepted cannot be talked back.
func TestRevokeVerifyState(t *testing.T) {
	ours := newSigner(t, "k1")
	state := t.TempDir()
	for i, step := range []struct {
		sequence int64
		code     int
		says     string
	}{{7, 0, "new"}, {9, 0, "new"}, {8, 21, "older"}, {9, 21, "other content"}, {10, 0, "new"}} {
		dir := carried(t, ours, step.sequence)
		if i == 3 { // as many seconds later as it takes to differ
			doc := newBundle(t, ours, revokingIssuer, 9)
			b, err := revocation.Parse(doc.Bundle)
			if err != nil {
				t.Fatal(err)
			}
			b.IssuedAt = b.IssuedAt.Add(time.Second)
			data, err := revocation.Encode(b)
			if err != nil {
				t.Fatal(err)
			}
			jws, err := revocation.Sign(data, ours, "")
			if err != nil {
				t.Fatal(err)
			}
			os.Remove(filepath.Join(dir, revocation.FileDigest))
			for name, data := range map[string][]byte{revocation.FileBundle: data, revocation.FileSignature: []byte(jws)} {
				if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
		code, out, stderr := verifyList(t, dir, "--key", dir+"/jwks.json", "--state", state)
		if code != step.code || !strings.Contains(out+stderr, step.says) {
			t.Errorf("step %d: exit %d, want %d saying %q\n%s\n%s", i, code, step.code, step.says, out, stderr)
		}
		if step.code == 0 {
			if code, out, _ := verifyList(t, dir, "--key", dir+"/jwks.json", "--state", state); code != 0 || !strings.Contains(out, "known") {
				t.Errorf("step %d again: exit %d\n%s", i, code, out)
			}
		}
	}
}

func FuzzKeysOf(f *testing.F) {
	f.Add([]byte(`{"keys":[]}`))
	f.Add([]byte("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, err := keysOf(data)
		if err != nil {
			return
		}
		if k, err := keys(t.Context(), "a"); err == nil && k.KeyID != "a" {
			t.Fatalf("asked for key a, got %q", k.KeyID)
		}
	})
}
