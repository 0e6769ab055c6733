package detached

import (
	"encoding/base64"
	"encoding/binary"
)

// pairs holds, for every 12 bits, their two characters of base64url, the first
// in the low byte. With it encoding takes less than half the time that
// encoding/base64 does, which takes nearly as long as SHA-256 itself.
type pairs [1 << 12]uint16

func newPairs() *pairs {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	p := new(pairs)
	for i := range p {
		p[i] = uint16(alphabet[i>>6]) | uint16(alphabet[i&63])<<8
	}
	return p
}

// encode writes src, whole groups of three, to dst: six bytes at a time, and
// the last ones as the standard library does.
func (p *pairs) encode(dst, src []byte) {
	for len(src) >= 8 && len(dst) >= 8 {
		v := binary.BigEndian.Uint64(src) // the last two bytes are not used
		binary.LittleEndian.PutUint64(dst, uint64(p[v>>52])|uint64(p[v>>40&0xfff])<<16|
			uint64(p[v>>28&0xfff])<<32|uint64(p[v>>16&0xfff])<<48)
		src, dst = src[6:], dst[8:]
	}
	base64.RawURLEncoding.Encode(dst, src)
}
