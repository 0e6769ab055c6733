package detached

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
)

// TestRFC7797 builds the signing inputs of RFC 7797 section 4 piece by piece.
// Its signatures are HS256, which Open refuses; so the HMAC is made here.
func TestRFC7797(t *testing.T) {
	key, err := base64.RawURLEncoding.DecodeString("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow")
	if err != nil {
		t.Fatal(err)
	}
	var cookbook struct{ Output struct{ Compact string } }
	data, err := os.ReadFile("../testdata/cookbook/rfc7797/hmac-sha2_b64_false.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &cookbook); err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(cookbook.Output.Compact, ".")
	for _, c := range []struct {
		header, payload, sig string
		encode               bool
	}{
		{"eyJhbGciOiJIUzI1NiJ9", "$.02", "5mvfOroL-g7HyqJoozehmsaqmvTYGEq5jTI1gVvoEoQ", true},                                      // 4.1
		{"eyJhbGciOiJIUzI1NiIsImI2NCI6ZmFsc2UsImNyaXQiOlsiYjY0Il19", "$.02", "A5dxf2s96_n5FLueVuW1Z_vh161FwXZC4YLPff6dmDY", false}, // 4.2
		{parts[0], parts[1], parts[2], false},
	} {
		mac := hmac.New(sha256.New, key)
		io.WriteString(mac, c.header+".")
		in := newInput(mac, c.encode)
		if _, err := in.ReadFrom(iotest.OneByteReader(strings.NewReader(c.payload))); err != nil {
			t.Fatal(err)
		}
		if err := in.Close(); err != nil {
			t.Fatal(err)
		}
		if got := base64.RawURLEncoding.EncodeToString(mac.Sum(nil)); got != c.sig {
			t.Errorf("%s: %s, want %s", c.payload, got, c.sig)
		}
	}
}

// FuzzSplit encodes in pieces what encoding/base64 encodes at once.
func FuzzSplit(f *testing.F) {
	f.Add([]byte("0123456789"), []byte{1, 2, 3}, uint16(1))
	f.Add([]byte("0123456789abc"), []byte{0, 200}, uint16(30000))
	f.Add([]byte{}, []byte{}, uint16(0))
	f.Fuzz(func(t *testing.T, unit, cuts []byte, times uint16) {
		payload := bytes.Repeat(unit, min(int(times), 1<<20/max(1, len(unit))))
		var got bytes.Buffer
		in := newInput(&got, true)
		rest := payload
		for i := 0; len(rest) > 0; i++ {
			n := len(rest)
			if i < len(cuts) {
				n = min(n, int(cuts[i])*int(cuts[i]))
			}
			if m, err := in.Write(rest[:n]); m != n || err != nil {
				t.Fatalf("%d of %d: %v", m, n, err)
			}
			rest = rest[n:]
		}
		if err := in.Close(); err != nil {
			t.Fatal(err)
		}
		if want := base64.RawURLEncoding.EncodeToString(payload); got.String() != want {
			t.Fatalf("%d bytes in pieces differ", len(payload))
		}
	})
}

var errDisk = errors.New("disk full")

// failing takes some bytes and then no more.
type failing struct {
	left int
	seen int
}

func (w *failing) Write(p []byte) (int, error) {
	w.seen += len(p)
	if w.left -= len(p); w.left < 0 {
		return 0, errDisk
	}
	return len(p), nil
}

// TestLane hands every byte on, in order, and loses no error. In the bubble a
// goroutine that stays behind fails the test.
func TestLane(t *testing.T) {
	for _, size := range []int{0, 1, firstBlock, inPlace - 1, inPlace, inPlace + 1, 3<<20 + 5} {
		data := bytes.Repeat([]byte("0123456789\n"), size/11+1)[:size]
		synctest.Test(t, func(t *testing.T) {
			var got bytes.Buffer
			l := NewLane(&got)
			for rest := data; len(rest) > 0; {
				n := min(len(rest), 100001)
				if m, err := l.Write(rest[:n]); m != n || err != nil {
					t.Fatal(m, err)
				}
				rest = rest[n:]
			}
			if err := errors.Join(l.Close(), l.Close()); err != nil || !bytes.Equal(got.Bytes(), data) {
				t.Errorf("%d bytes: %d came, %v", size, got.Len(), err)
			}
			if _, err := l.Write([]byte("x")); !errors.Is(err, ErrClosed) {
				t.Errorf("write after close: %v", err)
			}
		})
		if size == 0 {
			continue
		}
		synctest.Test(t, func(t *testing.T) {
			w := &failing{left: size - 1}
			l := NewLane(w)
			_, err := l.Write(data)
			if closed := l.Close(); !errors.Is(closed, errDisk) || !errors.Is(l.Close(), errDisk) {
				t.Errorf("%d bytes: %v, then %v", size, err, closed)
			}
			if w.seen > size {
				t.Errorf("%d bytes written to after the error", w.seen-size)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) { // one that fails early does not hang
		l := NewLane(&failing{left: inPlace + 10})
		for range 100 {
			if _, err := l.Write(make([]byte, ringBlock)); err != nil {
				break
			}
		}
		if err := l.Close(); !errors.Is(err, errDisk) {
			t.Error(err)
		}
	})
}
