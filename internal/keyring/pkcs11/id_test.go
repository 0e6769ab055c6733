package pkcs11

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"
)

func TestID(t *testing.T) {
	at := time.Date(2026, 2, 3, 4, 5, 6, 789e6, time.UTC)
	id, err := newID(at.Add(time.Microsecond))
	if err != nil || len(id) != idSize || !madeAt(id).Equal(at) {
		t.Fatalf("%x is of %s, %v", id, madeAt(id), err)
	}
	other, err := newID(at)
	if err != nil || bytes.Equal(id, other) || !bytes.Equal(id[:timeSize], other[:timeSize]) {
		t.Errorf("at one time %x and %x, %v", id, other, err)
	}
	later, err := newID(at.Add(time.Millisecond))
	if err != nil || bytes.Compare(later, id) <= 0 || bytes.Compare(later, other) <= 0 {
		t.Errorf("%x is later than %x, %v", later, id, err)
	}
	of := func(ms int64) []byte { return append(binary.BigEndian.AppendUint64(nil, uint64(ms)), id[timeSize:]...) }
	edge := time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()
	if madeAt(of(edge - 1)).IsZero() { // control
		t.Error("the end of the century is no time")
	}
	for what, foreign := range map[string][]byte{
		"none": nil, "one byte": {1}, "short": id[:idSize-1], "long": append(bytes.Clone(id), 0),
		"seconds": of(at.Unix()), "microseconds": of(at.UnixMicro()), "zero": of(0), "negative": of(-1), "the next century": of(edge),
	} {
		if got := madeAt(foreign); !got.IsZero() {
			t.Errorf("%s: %x is of %s", what, foreign, got)
		}
	}
}

// FuzzID: what has a time has a time of this century and says it again.
func FuzzID(f *testing.F) {
	id, err := newID(time.Now())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(id)
	f.Add(id[1:])
	f.Fuzz(func(t *testing.T, id []byte) {
		at := madeAt(id)
		if at.IsZero() {
			return
		}
		if again := binary.BigEndian.AppendUint64(nil, uint64(at.UnixMilli())); at.Year() < 2000 || at.Year() > 2099 || len(id) != idSize || !bytes.HasPrefix(id, again) {
			t.Fatalf("%x is of %s", id, at)
		}
	})
}
