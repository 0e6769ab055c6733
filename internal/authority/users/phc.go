package users

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// Hashing are the parameters of argon2id (RFC 9106 section 3.1).
type Hashing struct {
	MemoryKiB   uint32
	Iterations  uint32
	Parallelism uint8
}

// Bounds of Hashing, for the policy and for what is read from the store: a
// document that somebody has changed must not exhaust memory or time.
const (
	MaxMemoryKiB   = 256 << 10
	MaxIterations  = 16
	MaxParallelism = 16
	// MinWork is the least MemoryKiB × Iterations in a policy, MinMemoryKiB the
	// least memory: no setting that OWASP lists is below.
	MinWork      = 35840
	MinMemoryKiB = 7168
)

// Sizes of what we make, and bounds of what we read, in bytes.
const (
	saltSize, tagSize = 16, 32
	maxField          = 64
	maxPHC            = 256
)

// Check reports what is wrong with the parameters of a policy.
func (h Hashing) Check() error {
	switch {
	case !h.bounded():
		return fmt.Errorf("at most %d KiB, %d iterations and parallelism %d, and 8 KiB for each of these", MaxMemoryKiB, MaxIterations, MaxParallelism)
	case h.MemoryKiB < MinMemoryKiB || uint64(h.MemoryKiB)*uint64(h.Iterations) < MinWork:
		return fmt.Errorf("too weak: at least %d KiB, and memory × iterations at least %d (19456 KiB with 2 iterations is the default)", MinMemoryKiB, MinWork)
	}
	return nil
}

func (h Hashing) bounded() bool {
	return h.Iterations >= 1 && h.Iterations <= MaxIterations && h.Parallelism >= 1 && h.Parallelism <= MaxParallelism &&
		h.MemoryKiB >= 8*uint32(h.Parallelism) && h.MemoryKiB <= MaxMemoryKiB
}

// stored is a password hash as it is stored.
type stored struct {
	Hashing
	salt, tag []byte
}

var errHash = errors.New("not a password hash that this server makes or accepts")

// String returns the PHC string.
func (s *stored) String() string {
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=19$m=%d,t=%d,p=%d$%s$%s", s.MemoryKiB, s.Iterations, s.Parallelism, b64.EncodeToString(s.salt), b64.EncodeToString(s.tag))
}

// parseHash reads a PHC string of argon2id within the bounds. It accepts one
// spelling only: what it returns has the same String.
func parseHash(text string) (*stored, error) {
	parts := strings.Split(text, "$")
	if len(text) > maxPHC || len(parts) != 6 {
		return nil, errHash
	}
	var s stored
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &s.MemoryKiB, &s.Iterations, &s.Parallelism); err != nil || !s.bounded() {
		return nil, errHash
	}
	var errs [2]error
	s.salt, errs[0] = base64.RawStdEncoding.DecodeString(parts[4])
	s.tag, errs[1] = base64.RawStdEncoding.DecodeString(parts[5])
	if errors.Join(errs[:]...) != nil || len(s.salt) < 8 || len(s.salt) > maxField || len(s.tag) < 16 || len(s.tag) > maxField || s.String() != text {
		return nil, errHash
	}
	return &s, nil
}

func newSalt() []byte {
	salt := make([]byte, saltSize)
	_, _ = rand.Read(salt) // crypto/rand never returns an error
	return salt
}
