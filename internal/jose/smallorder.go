package jose

import (
	"crypto/ed25519"
	"slices"
)

// smallOrder tells whether an Ed25519 public key encodes one of the eight
// points of small order (in any encoding). A signature "by" such a key
// verifies for many messages, so that it proves nothing.
func smallOrder(pub ed25519.PublicKey) bool {
	const (
		order8a = "\x26\xe8\x95\x8f\xc2\xb2\x27\xb0\x45\xc3\xf4\x89\xf2\xef\x98\xf0\xd5\xdf\xac\x05\xd3\xc6\x33\x39\xb1\x38\x02\x88\x6d\x53\xfc\x05"
		order8b = "\xc7\x17\x6a\x70\x3d\x4d\xd8\x4f\xba\x3c\x0b\x76\x0d\x10\x67\x0f\x2a\x20\x53\xfa\x2c\x39\xcc\xc6\x4e\xc7\xfd\x77\x92\xac\x03\x7a"
	)
	y := []byte(pub)
	y = slices.Clone(y)
	y[31] &= 0x7f // the sign of x does not change the order
	if s := string(y); s == order8a || s == order8b {
		return true
	}
	// What is left is y = 0, 1 and -1 modulo p = 2^255-19, reduced or not:
	// 0, 1, p-1, p and p+1.
	middle := y[1:31]
	zero := !slices.ContainsFunc(middle, func(b byte) bool { return b != 0 })
	ones := !slices.ContainsFunc(middle, func(b byte) bool { return b != 0xff })
	return zero && y[31] == 0 && y[0] <= 1 || ones && y[31] == 0x7f && y[0] >= 0xec && y[0] <= 0xee
}
