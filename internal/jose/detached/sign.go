package detached

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"io"
	"math"

	"github.com/stella-ops/stella/internal/jose"
)

// Encoding is how the payload goes into the signing input.
type Encoding uint8

const (
	Unencoded Encoding = iota + 1 // as it is: b64 false, crit ["b64"] (RFC 7797)
	Base64URL                     // as in every other JWS (RFC 7515 section 5.1)
)

// MaxOpaqueEdDSA bounds in bytes what an Ed25519 key behind an opaque
// crypto.Signer can sign: it wants the whole message at once.
const MaxOpaqueEdDSA = 64 << 20

// Sign makes a detached JWS over payload, from where it stands to its end.
// Header members follow the rules of jose.Signer.SignDetached. EC and RSA keys
// read it once; an ed25519.PrivateKey reads it twice and refuses a payload that
// changed in between; Ed25519 behind another crypto.Signer reads at most
// MaxOpaqueEdDSA bytes, else the error wraps jose.ErrTooLarge. Other errors are
// those of payload, the cause of ctx, and those of jose.Signer.
func Sign(ctx context.Context, s *jose.Signer, header map[string]any, payload io.ReadSeeker, encoding Encoding) (string, error) {
	if encoding != Unencoded && encoding != Base64URL {
		return "", fmt.Errorf("signing detached JWS: %w: encoding %d is not known", jose.ErrMalformed, encoding)
	}
	encoded, err := s.DetachedHeader(header, encoding == Base64URL)
	if err != nil {
		return "", fmt.Errorf("signing detached JWS: %w", err)
	}
	m := message{encoded + ".", payload, encoding == Base64URL}
	var sig []byte
	switch private, isEd := s.Private().(ed25519.PrivateKey); {
	case s.Hash() != 0:
		sig, err = signDigest(ctx, s, m)
	case isEd:
		sig, err = signEd(ctx, private, m)
	default:
		sig, err = signWhole(ctx, s, m)
	}
	if err != nil {
		return "", fmt.Errorf("signing detached JWS: %w", err)
	}
	return encoded + ".." + base64.RawURLEncoding.EncodeToString(sig), nil
}

// message is a signing input of which the payload is still to be read.
type message struct {
	prefix  string
	payload io.ReadSeeker
	encode  bool
}

// copyTo writes the signing input to w, with as much of the payload as limit
// lets through, and answers how much that was.
func (m message) copyTo(ctx context.Context, w io.Writer, limit int64) (int64, error) {
	if _, err := io.WriteString(w, m.prefix); err != nil {
		return 0, err
	}
	in := newInput(w, m.encode)
	n, err := in.ReadFrom(live{ctx, io.LimitReader(m.payload, limit)})
	if closed := in.Close(); err == nil {
		err = closed
	}
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx) // nothing is signed for who has gone
	}
	if err != nil {
		return n, fmt.Errorf("reading payload: %w", err)
	}
	return n, nil
}

func signDigest(ctx context.Context, s *jose.Signer, m message) ([]byte, error) {
	h := s.Hash().New()
	if _, err := m.copyTo(ctx, h, math.MaxInt64); err != nil {
		return nil, err
	}
	return s.SignDigest(h.Sum(nil))
}

// signWhole reads the payload into memory.
func signWhole(ctx context.Context, s *jose.Signer, m message) ([]byte, error) {
	var whole bytes.Buffer
	n, err := m.copyTo(ctx, &whole, MaxOpaqueEdDSA+1)
	if err != nil {
		return nil, err
	}
	if n > MaxOpaqueEdDSA {
		return nil, fmt.Errorf("%w: payload above %d MiB for an Ed25519 key that signs only whole messages (HSM, KMS); sign with an EC key there",
			jose.ErrTooLarge, MaxOpaqueEdDSA>>20)
	}
	return s.SignInput(whole.Bytes())
}
