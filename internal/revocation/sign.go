package revocation

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"slices"
	"strings"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/jose/jwks"
	"github.com/stella-ops/stella/internal/jose/strictjson"
)

// Type is the typ of a bundle's signature.
const Type = "application/vnd.stellaops.revocation-bundle+jws"

// DefaultProvider is the provider of a signature that names none.
const DefaultProvider = "default"

// MaxSignature bounds a signature in bytes.
const MaxSignature = 16 << 10

// Keys finds the issuer's key with that kid. jwks.ErrUnknownKey means that
// there is none; any other error, that it cannot be told now.
type Keys func(ctx context.Context, kid string) (jose.Key, error)

// KeysIn looks keys up in a set that is at hand: an offline key bundle.
func KeysIn(set jose.Set) Keys {
	return func(_ context.Context, kid string) (jose.Key, error) {
		if k, ok := set.Key(kid); ok {
			return k, nil
		}
		return jose.Key{}, jwks.ErrUnknownKey
	}
}

// Sign signs the exact bytes of a bundle: ES256, detached, payload not encoded
// (RFC 7797). An empty provider means DefaultProvider. A key that the bundle
// revokes, or whose kid is not the bundle's signingKeyId, is refused (ErrKey).
func Sign(data []byte, s *jose.Signer, provider string) (string, error) {
	b, err := Parse(data)
	if err != nil {
		return "", err
	}
	key := s.Key()
	if key.Alg != jose.ES256 || key.KeyID == "" {
		return "", refuse(ErrKey, "a bundle is signed with ES256 and a named key, not with %s and %q", key.Alg, key.KeyID)
	}
	if err := b.signedBy(key.KeyID); err != nil {
		return "", err
	}
	if provider == "" {
		provider = DefaultProvider
	}
	return s.SignDetached(map[string]any{"typ": Type, "provider": provider}, data)
}

// signedBy refuses a signature of the bundle under that kid.
func (b *Bundle) signedBy(kid string) error {
	if b.SigningKeyID != "" && b.SigningKeyID != kid {
		return refuse(ErrKey, "the bundle names the signing key %q, its signature %q", b.SigningKeyID, kid)
	}
	if slices.ContainsFunc(b.Revocations, func(e Entry) bool { return e.Category == Key && e.ID == kid }) {
		return refuse(ErrKey, "the bundle revokes the key %q that signed it", kid)
	}
	return nil
}

// Verified is a bundle whose signature was verified. Only Verify and State
// make one.
type Verified struct {
	Bundle   *Bundle // not to be changed
	Bytes    []byte  // not to be changed
	Digest   string  // sha256: and hex
	KID      string
	Provider string
}

// Verify checks a bundle in this order: schema, SHA-256 against digest (hex,
// with or without sha256: before it, or the line that sha256sum writes; empty:
// not checked), key, signature. Errors about content wrap ErrSchema,
// ErrDigest, ErrKey or ErrSignature and have the kind Trust; an error of keys
// that says it cannot be told now is passed on.
func Verify(ctx context.Context, data []byte, jws, digest string, keys Keys) (*Verified, error) {
	b, err := Parse(data)
	if err != nil {
		return nil, err
	}
	v := &Verified{Bundle: b, Bytes: data, Digest: Digest(data), Provider: DefaultProvider}
	if digest != "" && !v.matches(digest) {
		return nil, refuse(ErrDigest, "it is %s", v.Digest)
	}
	j, err := jose.ParseDetached(strings.TrimSuffix(jws, "\n"), data, jose.Rules{
		Algs: []jose.Alg{jose.ES256}, Types: []string{Type}, Critical: []string{"b64"}, MaxBytes: MaxSignature,
	})
	if err != nil {
		return nil, refuse(ErrSignature, "%w", err)
	}
	v.KID = j.Header.KeyID
	if j.Header.B64 || v.KID == "" {
		return nil, refuse(ErrSignature, "its header must have b64 false and a kid")
	}
	if raw, ok := j.Header.Raw["provider"]; ok {
		if v.Provider, err = strictjson.Text("provider", raw); err != nil || v.Provider == "" {
			return nil, refuse(ErrSignature, "the provider in its header is not text")
		}
	}
	if err := b.signedBy(v.KID); err != nil {
		return nil, err
	}
	key, err := keys(ctx, v.KID)
	switch {
	case errors.Is(err, jwks.ErrUnknownKey):
		return nil, refuse(ErrKey, "the issuer has no key %q: %w", v.KID, err)
	case err != nil:
		return nil, err
	}
	if _, err := j.Verify(key); err != nil {
		return nil, refuse(ErrSignature, "%w", err)
	}
	return v, nil
}

// matches compares the digest as people and sha256sum write it.
func (v *Verified) matches(digest string) bool {
	first, _, _ := strings.Cut(strings.TrimSpace(digest), " ")
	want, err := hex.DecodeString(strings.TrimPrefix(first, digestPrefix))
	have := sha256.Sum256(v.Bytes)
	return err == nil && subtle.ConstantTimeCompare(want, have[:]) == 1
}

// Untrusted reports whether err says that content was refused, as opposed to
// something that may pass.
func Untrusted(err error) bool { return fault.KindOf(err) == fault.Trust }
