package jose

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/stella-ops/stella/internal/jose/strictjson"
)

// Opened is a detached JWS whose payload is not at hand: the header was held to
// the rules, and the caller hashes the signing input itself, piece by piece.
type Opened struct {
	Header Header

	prefix string
	sig    []byte
}

// OpenDetached reads a detached JWS as ParseDetached does, without its payload.
// The signing input is Prefix, then the payload: as it is when Header.B64 is
// false, else in base64url (RFC 7515 section 5.1). Errors are those of Parse.
func OpenDetached(compact string, rules Rules) (*Opened, error) {
	p, err := split(compact, rules)
	if err != nil {
		return nil, err
	}
	if p.payload != "" {
		return nil, malformed("payload inside a detached JWS")
	}
	j, err := p.open(rules)
	if err != nil {
		return nil, err
	}
	return &Opened{j.Header, compact[:len(p.header)+1], j.sig}, nil
}

// Prefix is what the signing input begins with: the encoded header and a dot.
func (o *Opened) Prefix() string { return o.prefix }

// Signature is the signature as JWS writes it: r||s, R||S or an RSA block.
func (o *Opened) Signature() []byte { return slices.Clone(o.sig) }

// Hash is the hash that VerifyDigest wants the signing input under; 0 for
// EdDSA, which signs no digest.
func (o *Opened) Hash() crypto.Hash {
	s, _ := suiteOf(o.Header.Alg)
	return s.hash
}

// Fits checks all that needs no payload: that Verify would take the key for the
// algorithm, and that the signature is one in length and range. Errors wrap
// ErrKey or ErrSignature.
func (o *Opened) Fits(key Key) error {
	if err := key.fits(o.Header.Alg); err != nil {
		return err
	}
	switch pub := key.Public.(type) {
	case *ecdsa.PublicKey:
		s, _ := suiteOf(o.Header.Alg)
		_, err := derFromRaw(o.sig, s.size, pub.Curve.Params().N)
		return err
	case ed25519.PublicKey:
		if len(o.sig) != ed25519.SignatureSize {
			return fmt.Errorf("%w: it has %d bytes, R||S has %d", ErrSignature, len(o.sig), ed25519.SignatureSize)
		}
	}
	return nil
}

// VerifyDigest checks the signature over a signing input of which the digest
// under Hash is given. It judges the key as JWS.Verify does. EdDSA and HS* are
// not of this kind. Errors wrap ErrAlg, ErrKey or ErrSignature.
func (o *Opened) VerifyDigest(key Key, digest []byte) error {
	if err := key.fits(o.Header.Alg); err != nil {
		return err
	}
	s, _ := suiteOf(o.Header.Alg)
	return s.verifyDigest(key, digest, o.sig)
}

// DetachedHeader encodes the header of a detached JWS as Sign and SignDetached
// do: with b64 true the payload is signed in base64url, else as it is, and b64
// and crit say so (RFC 7797).
func (s *Signer) DetachedHeader(header map[string]any, b64 bool) (string, error) {
	if _, ok := header["crit"]; ok {
		return "", malformed(`header "crit" is set by the signer`)
	}
	if b64 {
		return s.header(header)
	}
	return s.header(header, strictjson.Member{Name: "b64", Raw: json.RawMessage("false")}, strictjson.Member{Name: "crit", Raw: json.RawMessage(`["b64"]`)})
}

// Hash is the hash that SignDigest wants; 0 for EdDSA, which signs messages.
func (s *Signer) Hash() crypto.Hash { return s.suite.hash }

// Private is the key that NewSigner was given.
func (s *Signer) Private() crypto.Signer { return s.signer }

// SignDigest signs a signing input of which the digest under Hash is given and
// answers with the signature as JWS writes it. Errors wrap ErrAlg for EdDSA,
// else ErrSigner.
func (s *Signer) SignDigest(digest []byte) ([]byte, error) {
	var opts crypto.SignerOpts = s.suite.hash
	switch s.suite.family {
	case familyEC, familyPKCS1:
	case familyPSS:
		opts = pssOptions(s.suite.hash)
	default:
		return nil, fmt.Errorf("%w: %s signs no digest", ErrAlg, s.alg)
	}
	if len(digest) != s.suite.hash.Size() {
		return nil, fmt.Errorf("%w: digest of %d bytes for %s", ErrSigner, len(digest), s.alg)
	}
	sig, err := s.signer.Sign(rand.Reader, digest, opts)
	if err != nil {
		return nil, s.failed(err)
	}
	if s.suite.family == familyEC {
		return rawFromDER(sig, s.suite.size)
	}
	return sig, nil
}

// SignInput signs a whole signing input. Errors wrap ErrSigner.
func (s *Signer) SignInput(input []byte) ([]byte, error) { return s.signature(input) }

func (s *Signer) failed(err error) error {
	return fmt.Errorf("%w: signing with %s key %q: %w", ErrSigner, s.alg, s.key.KeyID, err)
}
