package hashivault

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/stella-ops/stella/internal/fault"
)

// maxSignature bounds "vault:vN:BASE64"; an ASN.1 signature of P-256 is at
// most 72 bytes.
const maxSignature = 256

// key is one version of a transit key.
type key struct {
	p   *Provider
	ref reference
	pub *ecdsa.PublicKey
}

// find reads the public half of a key that may sign.
func (p *Provider) find(ctx context.Context, ref reference) (*ecdsa.PublicKey, error) {
	info, err := p.read(ctx, ref.name)
	if err != nil {
		return nil, err
	}
	pub, err := info.public(ref)
	if err != nil {
		return nil, err
	}
	return pub, info.maySign(p.o.Mount, ref)
}

// Public implements keyring.RemoteKey.
func (k *key) Public() *ecdsa.PublicKey { return k.pub }

// SignDigest signs 32 bytes with the reference's version of the key, whichever
// is the latest (transit HTTP API, "Sign data"). An answer that is no
// signature of that version is of kind Trust; other errors are those of
// Provider.Open.
func (k *key) SignDigest(ctx context.Context, digest []byte) ([]byte, error) {
	if len(digest) != sha256.Size {
		return nil, errors.New("internal error: not a SHA-256 digest")
	}
	data, err := k.p.call(ctx, http.MethodPost, "sign/"+k.ref.name+"/sha2-256", k.ref.name, map[string]any{
		"input": base64.StdEncoding.EncodeToString(digest), "prehashed": true,
		"key_version": k.ref.version, "marshaling_algorithm": "asn1",
	})
	if refusedBy(err, http.StatusBadRequest, http.StatusInternalServerError) {
		// A missing key is 400 here and a version that may not sign 500, which
		// looks like an outage: reading the key tells them apart.
		if _, why := k.p.find(ctx, k.ref); why != nil {
			return nil, why
		}
	}
	if err != nil {
		return nil, err
	}
	var answer struct {
		Signature string `json:"signature"`
	}
	if err := json.Unmarshal(data, &answer); err != nil {
		return nil, query{p: k.p, about: k.ref.name}.strange(fmt.Errorf("not a signature: %w", err))
	}
	sig, err := parseSignature(answer.Signature, k.ref.version)
	if err != nil {
		return nil, fault.Errorf(fault.Trust, "vault key %s: %w", k.ref.name, err)
	}
	return sig, nil
}

// parseSignature accepts "vault:vN:BASE64" of the wanted version alone.
func parseSignature(text string, version int) ([]byte, error) {
	rest, ok := strings.CutPrefix(text, "vault:v")
	digits, encoded, cut := strings.Cut(rest, ":")
	if !ok || !cut || len(text) > maxSignature {
		return nil, errors.New("the vault's signature is malformed")
	}
	n, ok := parseVersion(digits)
	if !ok {
		return nil, errors.New("the vault's signature has a malformed version")
	}
	if n != version {
		return nil, fmt.Errorf("the vault signed with version %d of the key instead of version %d", n, version)
	}
	sig, err := base64.StdEncoding.Strict().DecodeString(encoded)
	// The decoder skips line ends, which have no place here.
	if err != nil || len(sig) == 0 || base64.StdEncoding.EncodeToString(sig) != encoded {
		return nil, errors.New("the vault's signature is not in base64")
	}
	return sig, nil
}
