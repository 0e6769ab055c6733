package revocation_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/revocation"
)

func newSigner(t testing.TB, kid string) *jose.Signer {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return signerOf(t, k, jose.ES256, kid)
}

func signerOf(t testing.TB, k crypto.Signer, alg jose.Alg, kid string) *jose.Signer {
	t.Helper()
	s, err := jose.NewSigner(k, alg, kid)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func keysOf(signers ...*jose.Signer) revocation.Keys {
	var set jose.Set
	for _, s := range signers {
		set.Keys = append(set.Keys, s.Key())
	}
	return revocation.KeysIn(set)
}

// sign makes a verified bundle.
func sign(t testing.TB, s *jose.Signer, b *revocation.Bundle) *revocation.Verified {
	t.Helper()
	data := encode(t, b)
	jws, err := revocation.Sign(data, s, "")
	if err != nil {
		t.Fatal(err)
	}
	v, err := revocation.Verify(t.Context(), data, jws, "", keysOf(s))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func goldenKeys(t testing.TB) revocation.Keys {
	t.Helper()
	set, err := jose.ParseSet(golden(t, "jwks.json"))
	if err != nil {
		t.Fatal(err)
	}
	return revocation.KeysIn(set)
}

// What Python signed is verified, and every changed byte of the bundle is
// refused, also when the digest was made anew.
func TestVerifyGolden(t *testing.T) {
	data, jws, digest := golden(t, revocation.FileBundle), string(golden(t, revocation.FileSignature)), string(golden(t, revocation.FileDigest))
	keys := goldenKeys(t)
	verify := func(data []byte, digest string) error {
		_, err := revocation.Verify(t.Context(), data, jws, digest, keys)
		return err
	}
	v, err := revocation.Verify(t.Context(), data, jws, digest, keys)
	if err != nil {
		t.Fatal(err)
	}
	if v.KID != "es256-2026-11-22-1" || v.Provider != "default" || v.Digest != revocation.Digest(data) || v.Bundle.Sequence != 7 {
		t.Errorf("verified as %+v", v)
	}
	seen := map[error]int{}
	for i := range data {
		changed := bytes.Clone(data)
		changed[i] ^= 1
		for _, d := range []string{digest, revocation.Digest(changed), ""} {
			err := verify(changed, d)
			if fault.KindOf(err) != fault.Trust || fault.KindOf(err).ExitCode() != 21 {
				t.Fatalf("byte %d, digest %q: %v", i, d, err)
			}
			for _, why := range []error{revocation.ErrSchema, revocation.ErrDigest, revocation.ErrKey, revocation.ErrSignature} {
				if errors.Is(err, why) {
					seen[why]++
				}
			}
		}
	}
	for _, why := range []error{revocation.ErrSchema, revocation.ErrDigest, revocation.ErrSignature} {
		if seen[why] == 0 {
			t.Errorf("no changed byte led to: %v", why)
		}
	}
	for i := range jws {
		changed := []byte(jws)
		changed[i] ^= 1
		if _, err := revocation.Verify(t.Context(), data, string(changed), digest, keys); fault.KindOf(err) != fault.Trust {
			t.Fatalf("byte %d of the signature: %v", i, err)
		}
	}
	// The forms in which a digest is written.
	hex := strings.TrimSpace(digest)
	for d, ok := range map[string]bool{
		hex: true, "sha256:" + hex: true, hex + "  revocation-bundle.json\n": true, strings.ToUpper(hex): true,
		"sha512:" + hex: false, hex[:62]: false, hex + "00": false, " ": false,
	} {
		if err := verify(data, d); (err == nil) != ok || !ok && !errors.Is(err, revocation.ErrDigest) {
			t.Errorf("digest %q: %v", d, err)
		}
	}
}

// Each row differs from the control in its header or key.
func TestVerifyHeader(t *testing.T) {
	s := newSigner(t, "k1")
	data := encode(t, bundle(1))
	header := func(change func(map[string]any)) map[string]any {
		h := map[string]any{"typ": revocation.Type, "provider": "hsm"}
		change(h)
		return h
	}
	detached := func(s *jose.Signer, h map[string]any) string {
		jws, err := s.SignDetached(h, data)
		if err != nil {
			t.Fatal(err)
		}
		return jws
	}
	attached, err := s.Sign(header(func(map[string]any) {}), data)
	if err != nil {
		t.Fatal(err)
	}
	first, rest, _ := strings.Cut(attached, ".")
	payload, last, _ := strings.Cut(rest, ".")
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	edSigner := signerOf(t, ed, jose.EdDSA, "k1")
	stranger := newSigner(t, "k1")
	unnamed := newSigner(t, "")
	none := func(map[string]any) {}

	v, err := revocation.Verify(t.Context(), data, detached(s, header(none)), "", keysOf(s))
	if err != nil || v.Provider != "hsm" {
		t.Fatalf("control: %+v %v", v, err)
	}
	v, err = revocation.Verify(t.Context(), data, detached(s, header(func(h map[string]any) { delete(h, "provider") })), "", keysOf(s))
	if err != nil || v.Provider != revocation.DefaultProvider {
		t.Fatalf("without provider: %+v %v", v, err)
	}
	for name, row := range map[string]struct {
		jws  string
		keys revocation.Keys
		want error
	}{
		"other typ":             {detached(s, header(func(h map[string]any) { h["typ"] = "JWT" })), keysOf(s), revocation.ErrSignature},
		"no typ":                {detached(s, header(func(h map[string]any) { delete(h, "typ") })), keysOf(s), revocation.ErrSignature},
		"provider of a number":  {detached(s, header(func(h map[string]any) { h["provider"] = 1 })), keysOf(s), revocation.ErrSignature},
		"attached":              {attached, keysOf(s), revocation.ErrSignature},
		"payload encoded":       {first + ".." + last, keysOf(s), revocation.ErrSignature},
		"other alg":             {detached(edSigner, header(none)), keysOf(edSigner), revocation.ErrSignature},
		"no kid":                {detached(unnamed, header(none)), keysOf(unnamed), revocation.ErrSignature},
		"unknown kid":           {detached(s, header(none)), keysOf(), revocation.ErrKey},
		"other key of that kid": {detached(s, header(none)), keysOf(stranger), revocation.ErrSignature},
		"empty":                 {"", keysOf(s), revocation.ErrSignature},
		"too large":             {strings.Repeat("a", revocation.MaxSignature+1), keysOf(s), revocation.ErrSignature},
	} {
		_, err := revocation.Verify(t.Context(), data, row.jws, "", row.keys)
		if !errors.Is(err, row.want) || fault.KindOf(err) != fault.Trust {
			t.Errorf("%s: %v", name, err)
		}
	}
	if p, err := base64.RawURLEncoding.DecodeString(payload); err != nil || !bytes.Equal(p, data) {
		t.Error("the attached one is not the same bundle")
	}
	// That the key cannot be told now is no verdict on the bundle.
	down := func(context.Context, string) (jose.Key, error) {
		return jose.Key{}, fault.Errorf(fault.Transient, "down")
	}
	if _, err := revocation.Verify(t.Context(), data, detached(s, header(none)), "", down); fault.KindOf(err) != fault.Transient {
		t.Errorf("keys out of reach: %v", err)
	}
}

// A key does not sign the bundle that revokes it, and a bundle that names its
// key is not taken with another one's signature.
func TestOwnKey(t *testing.T) {
	s, other := newSigner(t, "k1"), newSigner(t, "k2")
	if _, err := revocation.Sign(encode(t, bundle(1, key("k1"))), s, ""); !errors.Is(err, revocation.ErrKey) {
		t.Errorf("signed its own revocation: %v", err)
	}
	if _, err := revocation.Sign(encode(t, bundle(1, key("k1"))), other, ""); err != nil {
		t.Errorf("control: %v", err)
	}
	named := bundle(1)
	named.SigningKeyID = "k2"
	if _, err := revocation.Sign(encode(t, named), s, ""); !errors.Is(err, revocation.ErrKey) {
		t.Errorf("signed in another's name: %v", err)
	}
	named.Revocations = []revocation.Entry{key("k1")}
	for name, data := range map[string][]byte{"own revocation": encode(t, bundle(1, key("k1"))), "other name": encode(t, named)} {
		jws, err := s.SignDetached(map[string]any{"typ": revocation.Type}, data)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := revocation.Verify(t.Context(), data, jws, "", keysOf(s)); !errors.Is(err, revocation.ErrKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := revocation.Sign(encode(t, bundle(1)), signerOf(t, ed, jose.EdDSA, "k"), ""); !errors.Is(err, revocation.ErrKey) {
		t.Errorf("signed with EdDSA: %v", err)
	}
}

func TestDocument(t *testing.T) {
	s := newSigner(t, "k1")
	data := encode(t, bundle(4))
	jws, err := revocation.Sign(data, s, "")
	if err != nil {
		t.Fatal(err)
	}
	text, err := (&revocation.Document{Sequence: 4, Bundle: data, Signature: jws}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	take := func(text string) error {
		d, err := revocation.ParseDocument([]byte(text))
		if err == nil {
			_, err = d.Verify(t.Context(), keysOf(s))
		}
		return err
	}
	if err := take(string(text)); err != nil {
		t.Fatalf("control: %v", err)
	}
	for old, new := range map[string]string{
		`"sequence":4`: `"sequence":5`, `export/v1`: `export/v2`, `"sha256":"`: `"sha256":"0`, `"bundle":"`: `"bundle":"=`,
		`{"schema"`: `{"x":1,"schema"`, `"signature":"`: `"signature":"A`,
	} {
		changed := strings.Replace(string(text), old, new, 1)
		if err := take(changed); changed == string(text) || fault.KindOf(err) != fault.Trust {
			t.Errorf("%s: %v", new, err)
		}
	}
}
