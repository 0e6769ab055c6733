package pkcs11

import (
	"crypto/rand"
	"encoding/binary"
	"time"
)

// A CKA_ID of ours is the time in milliseconds since 1970, big-endian, followed
// by random bytes. A token keeps no time of its own, and this attribute is the
// one that names a key, so nobody changes it.
const (
	timeSize = 8
	idSize   = timeSize + 8
)

// newID is a CKA_ID for a key that is made now.
func newID(now time.Time) ([]byte, error) {
	id := binary.BigEndian.AppendUint64(nil, uint64(now.UnixMilli()))
	id = append(id, make([]byte, idSize-timeSize)...)
	_, err := rand.Read(id[timeSize:])
	return id, err
}

// madeAt is the time in a CKA_ID, or the zero time for one that is not ours:
// of another size, or of no time in this century.
func madeAt(id []byte) time.Time {
	if len(id) != idSize {
		return time.Time{}
	}
	first, last := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)
	ms := binary.BigEndian.Uint64(id)
	if ms < uint64(first.UnixMilli()) || ms >= uint64(last.UnixMilli()) {
		return time.Time{}
	}
	return time.UnixMilli(int64(ms)).UTC()
}
