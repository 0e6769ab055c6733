package token

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash"
	"sync"
	"time"
)

// NonceSecretBytes is the length of the secret that all replicas share.
const NonceSecretBytes = 32

const nonceLabel = "stella-authority/dpop-nonce/v1\x00"

const (
	nonceSalt = 8
	nonceMAC  = 16
	nonceLen  = 8 + nonceSalt + nonceMAC // bucket, salt, MAC
)

// Nonces makes and checks DPoP nonces. A nonce is a time bucket, a salt and an
// HMAC over both and the issuer: nothing is stored, every replica with the
// secret accepts it, no two answers carry the same one, and one of another
// server is refused.
type Nonces struct {
	bucket time.Duration
	macs   sync.Pool // keyed hashes that are ready for use: keying one costs more than using it
	prefix []byte
}

// NewNonces makes Nonces that live at most lifetime and at least half of it.
func NewNonces(secret []byte, issuer string, lifetime time.Duration) *Nonces {
	n := &Nonces{bucket: max(lifetime/2, time.Second), prefix: []byte(nonceLabel + issuer + "\x00")}
	n.macs.New = func() any { return hmac.New(sha256.New, secret) }
	return n
}

var errNonce = errors.New("the nonce is not one of ours or too old")

// New returns a fresh nonce: 43 base64url characters.
func (n *Nonces) New(now time.Time) string {
	var b [nonceLen]byte
	binary.BigEndian.PutUint64(b[:8], uint64(n.at(now)))
	_, _ = rand.Read(b[8 : 8+nonceSalt])
	n.mac(&b)
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// Check accepts the nonces of the current bucket, the one before, and the one
// after (another replica's clock may be ahead of ours).
func (n *Nonces) Check(nonce string, now time.Time) error {
	var have, want [nonceLen]byte
	if len(nonce) != base64.RawURLEncoding.EncodedLen(nonceLen) {
		return errNonce
	}
	if _, err := base64.RawURLEncoding.Strict().Decode(have[:], []byte(nonce)); err != nil {
		return errNonce
	}
	copy(want[:], have[:8+nonceSalt])
	n.mac(&want)
	if !hmac.Equal(have[:], want[:]) {
		return errNonce
	}
	if age := n.at(now) - int64(binary.BigEndian.Uint64(have[:8])); age < -1 || age > 1 {
		return errNonce
	}
	return nil
}

func (n *Nonces) at(now time.Time) int64 { return now.UnixNano() / int64(n.bucket) }

// mac fills the last part of b from the first two.
func (n *Nonces) mac(b *[nonceLen]byte) {
	h, _ := n.macs.Get().(hash.Hash)
	defer n.macs.Put(h)
	h.Reset()
	h.Write(n.prefix)
	h.Write(b[:8+nonceSalt])
	var sum [sha256.Size]byte
	copy(b[8+nonceSalt:], h.Sum(sum[:0]))
}
