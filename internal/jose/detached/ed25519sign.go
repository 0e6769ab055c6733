package detached

import (
	"context"
	"crypto/ed25519"
	"crypto/sha512"
	"crypto/subtle"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"

	"filippo.io/edwards25519"
)

// ErrChanged is the error of a payload that did not read the same twice.
var ErrChanged = errors.New("payload changed while it was being signed")

// signEd signs as RFC 8032 section 5.1.6 says, byte for byte like crypto/ed25519:
// one pass for the secret r, one for k.
//
// One r under two payloads gives the private key away. So the second pass makes
// r again, beside k, and a payload that no longer has the first one's is refused.
func signEd(ctx context.Context, key ed25519.PrivateKey, m message) ([]byte, error) {
	start, err := m.payload.Seek(0, io.SeekCurrent)
	if err != nil {
		return nil, fmt.Errorf("finding the start of the payload: %w", err)
	}
	expanded := sha512.Sum512(key.Seed())
	defer clear(expanded[:])
	secret, err := edwards25519.NewScalar().SetBytesWithClamping(expanded[:32])
	if err != nil {
		return nil, err
	}
	nonce := func() hash.Hash {
		h := sha512.New()
		h.Write(expanded[32:])
		return h
	}
	first := nonce()
	if _, err := m.copyTo(ctx, first, math.MaxInt64); err != nil {
		return nil, err
	}
	sum := first.Sum(nil)
	r, err := edwards25519.NewScalar().SetUniformBytes(sum)
	if err != nil {
		return nil, err
	}
	bigR := new(edwards25519.Point).ScalarBaseMult(r).Bytes()

	if _, err := m.payload.Seek(start, io.SeekStart); err != nil {
		return nil, fmt.Errorf("going back to the start of the payload: %w", err)
	}
	again, challenge := nonce(), sha512.New()
	challenge.Write(bigR)
	challenge.Write(key[ed25519.SeedSize:])
	lane := NewLane(again)
	_, err = m.copyTo(ctx, io.MultiWriter(challenge, lane), math.MaxInt64)
	if closed := lane.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare(again.Sum(nil), sum) != 1 {
		return nil, ErrChanged
	}
	k, err := edwards25519.NewScalar().SetUniformBytes(challenge.Sum(nil))
	if err != nil {
		return nil, err
	}
	return append(bigR, edwards25519.NewScalar().MultiplyAdd(k, secret, r).Bytes()...), nil
}
