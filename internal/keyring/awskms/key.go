package awskms

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/keyring"
)

// No answer needs more: a P-256 key in PKIX form has 91 bytes, an ECDSA
// signature with it at most 72.
const (
	maxPublicKey = 1 << 10
	maxSignature = 72
)

type key struct {
	p   *Provider
	arn keyARN
	pub *ecdsa.PublicKey
}

// Open asks for the public half of the key that ref names (GetPublicKey). A
// reference that is malformed or names no EC P-256 signing key is of kind
// Input, one of another region Config, a missing key fs.ErrNotExist, a disabled
// one Order, an answer about another key Trust.
func (p *Provider) Open(ctx context.Context, ref string) (keyring.RemoteKey, error) {
	arn, err := p.mine(ref)
	if err != nil {
		return nil, err
	}
	out, err := p.kms.GetPublicKey(ctx, &kms.GetPublicKeyInput{KeyId: aws.String(string(arn))})
	if err != nil {
		return nil, p.failed(ctx, "GetPublicKey", fmt.Sprintf("reading the public half of %s", arn), err)
	}
	if err := sameKey(arn, out.KeyId); err != nil {
		return nil, err
	}
	if out.KeySpec != types.KeySpecEccNistP256 || out.KeyUsage != types.KeyUsageTypeSignVerify ||
		!slices.Contains(out.SigningAlgorithms, types.SigningAlgorithmSpecEcdsaSha256) {
		return nil, fault.Errorf(fault.Input, "key %s is %.40q for %.40q: want ECC_NIST_P256 for SIGN_VERIFY (ES256)", arn, out.KeySpec, out.KeyUsage)
	}
	pub, err := parsePublic(out.PublicKey)
	if err != nil {
		return nil, fault.Errorf(fault.Trust, "public half of %s: %w", arn, err)
	}
	return &key{p, arn, pub}, nil
}

// parsePublic reads the PKIX form (RFC 5280 section 4.1) of a P-256 key.
func parsePublic(der []byte) (*ecdsa.PublicKey, error) {
	if len(der) > maxPublicKey {
		return nil, fmt.Errorf("%d bytes, more than %d", len(der), maxPublicKey)
	}
	parsed, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, fmt.Errorf("not a public key in DER: %s", clean(err.Error()))
	}
	pub, ok := parsed.(*ecdsa.PublicKey)
	if !ok || pub.Curve != elliptic.P256() {
		return nil, fmt.Errorf("not an EC P-256 key")
	}
	return pub, nil
}

// Public implements keyring.RemoteKey.
func (k *key) Public() *ecdsa.PublicKey { return k.pub }

// SignDigest has KMS sign a SHA-256 digest of 32 bytes (Sign, ECDSA_SHA_256).
// That the signature verifies is left to the caller, who must not trust any
// provider with it. Errors are those of Open.
func (k *key) SignDigest(ctx context.Context, digest []byte) ([]byte, error) {
	if len(digest) != sha256.Size {
		return nil, fmt.Errorf("internal error: not a SHA-256 digest")
	}
	out, err := k.p.kms.Sign(ctx, &kms.SignInput{
		KeyId: aws.String(string(k.arn)), Message: digest,
		MessageType: types.MessageTypeDigest, SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256,
	})
	if err != nil {
		return nil, k.p.failed(ctx, "Sign", fmt.Sprintf("signing with %s", k.arn), err)
	}
	if err := sameKey(k.arn, out.KeyId); err != nil {
		return nil, err
	}
	if n := len(out.Signature); out.SigningAlgorithm != types.SigningAlgorithmSpecEcdsaSha256 || n == 0 || n > maxSignature {
		return nil, fault.Errorf(fault.Trust, "AWS KMS answered with %d bytes of %.40q, not with an ECDSA_SHA_256 signature", n, out.SigningAlgorithm)
	}
	return out.Signature, nil
}

func sameKey(want keyARN, got *string) error {
	if aws.ToString(got) == string(want) {
		return nil
	}
	return fault.Errorf(fault.Trust, "AWS KMS was asked for key %s and answered about %.120q", want, aws.ToString(got)).
		Hint("check what answers at signing.awskms.endpoint")
}
