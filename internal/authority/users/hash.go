package users

import (
	"context"
	"crypto/subtle"
	"time"

	"golang.org/x/crypto/argon2"
)

// HashFunc derives size bytes from a password (RFC 9106).
type HashFunc func(password, salt []byte, h Hashing, size int) []byte

func argon2id(password, salt []byte, h Hashing, size int) []byte {
	return argon2.IDKey(password, salt, h.Iterations, h.MemoryKiB, h.Parallelism, uint32(size))
}

// maxWait is how long an attempt waits for its turn to be hashed.
const maxWait = 2 * time.Second

// gate lets a few in at a time.
type gate chan struct{}

// enter waits for a place, at most maxWait: then ErrBusy. Leave by calling
// leave.
func (g gate) enter(ctx context.Context) (leave func(), err error) {
	wait := time.NewTimer(maxWait)
	defer wait.Stop()
	select {
	case g <- struct{}{}:
		return func() { <-g }, nil
	case <-wait.C:
		return nil, ErrBusy
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// matches hashes once, whatever it is given, and compares in constant time. A
// hash that cannot be used costs what the policy asks for and matches nothing.
func (d *Directory) matches(password, phc string, policy Hashing) (good bool, hashed *stored) {
	hashed, err := parseHash(phc)
	usable := err == nil
	if !usable {
		hashed = &stored{Hashing: policy, salt: make([]byte, saltSize), tag: make([]byte, tagSize)}
	}
	p, err := opaque(password)
	usable = usable && err == nil
	tag := d.hash([]byte(p), hashed.salt, hashed.Hashing, len(hashed.tag))
	return subtle.ConstantTimeCompare(tag, hashed.tag) == 1 && usable, hashed
}

// seal hashes a prepared password; the caller is inside the gate.
func (d *Directory) seal(prepared string, h Hashing) string {
	s := &stored{Hashing: h, salt: newSalt()}
	s.tag = d.hash([]byte(prepared), s.salt, h, tagSize)
	return s.String()
}
