package detached_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"

	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/jose/detached"
)

// generated is a payload that is nowhere in memory.
type generated struct {
	left int64
	from []byte
}

func (g *generated) Read(p []byte) (int, error) {
	if g.left == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(int64(len(p)), g.left)], g.from)
	g.left -= int64(n)
	return n, nil
}

// TestMemory verifies 256 MiB and counts all that was ever allocated on the
// way: what is bounded in sum is bounded at every moment.
func TestMemory(t *testing.T) {
	const size, bound = 256 << 20, 8 << 20
	from := []byte(strings.Repeat("0123456789\n", 1<<15))
	for _, alg := range []jose.Alg{jose.ES256, jose.EdDSA} {
		for _, header := range []string{`{"alg":%q}`, `{"alg":%q,"b64":false,"crit":["b64"]}`} {
			s := signerFor(t, alg)
			compact := b64(fmt.Appendf(nil, header, alg)) + ".." + b64([]byte("\x01"+strings.Repeat("\x00", 62)+"\x01"))
			if alg == jose.ES256 {
				compact = b64(fmt.Appendf(nil, header, alg)) + ".." + b64([]byte(strings.Repeat("\x01", 64)))
			}
			v, err := detached.Open(compact, with(s.Key()), rules())
			if err != nil {
				t.Fatal(err)
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			n, err := detached.VerifyReader(t.Context(), &generated{size, from}, v)
			runtime.ReadMemStats(&after)
			if n != size || !errors.Is(err, jose.ErrSignature) {
				t.Errorf("%s %s: %d bytes, %v", alg, header, n, err)
			}
			if got := after.TotalAlloc - before.TotalAlloc; got > bound {
				t.Errorf("%s %s: allocated %d bytes, want at most %d", alg, header, got, bound)
			}
		}
	}
}

// TestVerifyReader gives each way in which reading ends its own error and
// leaves no goroutine: one that stays behind fails the bubble.
func TestVerifyReader(t *testing.T) {
	long := strings.Repeat("0123456789", 100000)
	broken, gone := errors.New("connection reset"), errors.New("terminated")
	for _, enc := range []detached.Encoding{detached.Unencoded, detached.Base64URL} {
		s := signerFor(t, jose.EdDSA)
		compact := sign(t, s, long, enc)
		for _, c := range []struct {
			name string
			r    func(cancel func(error)) io.Reader
			want error
		}{
			{"control", func(func(error)) io.Reader { return strings.NewReader(long) }, nil},
			{"byte and error at once", func(func(error)) io.Reader { return iotest.DataErrReader(strings.NewReader(long)) }, nil},
			{"short reads", func(func(error)) io.Reader { return iotest.HalfReader(strings.NewReader(long)) }, nil},
			{"cut", func(func(error)) io.Reader { return strings.NewReader(long[1:]) }, jose.ErrSignature},
			{"broken", func(func(error)) io.Reader {
				return io.MultiReader(strings.NewReader(long[:900000]), iotest.ErrReader(broken))
			}, broken},
			{"cancelled", func(cancel func(error)) io.Reader {
				return io.MultiReader(strings.NewReader(long[:900000]), readerFunc(func([]byte) (int, error) { cancel(gone); return 0, nil }), strings.NewReader(long[900000:]))
			}, gone},
		} {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				v, err := detached.Open(compact, with(s.Key()), rules())
				if err != nil {
					t.Fatal(err)
				}
				_, err = detached.VerifyReader(ctx, c.r(cancel), v)
				if !errors.Is(err, c.want) || (c.want == nil) != (err == nil) {
					t.Errorf("%s: %v", c.name, err)
				}
				if err := v.Verify(); !errors.Is(err, detached.ErrClosed) {
					t.Errorf("%s: left open: %v", c.name, err)
				}
			})
		}
		synctest.Test(t, func(t *testing.T) { // given up half way
			v, err := detached.Open(compact, with(s.Key()), rules())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(v, long[:900000]); err != nil {
				t.Fatal(err)
			}
			if err := v.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// TestTwoSums hashes a member and verifies it in one pass, as the mirror does.
func TestTwoSums(t *testing.T) {
	long := strings.Repeat("0123456789", 100000)
	s := signerFor(t, jose.ES256)
	for _, enc := range []detached.Encoding{detached.Unencoded, detached.Base64URL} {
		v, err := detached.Open(sign(t, s, long, enc), with(s.Key()), rules())
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.New()
		lane := detached.NewLane(sum)
		if _, err := detached.VerifyReader(t.Context(), io.TeeReader(strings.NewReader(long), lane), v); err != nil {
			t.Error(err)
		}
		if err := lane.Close(); err != nil {
			t.Error(err)
		}
		if want := sha256.Sum256([]byte(long)); string(sum.Sum(nil)) != string(want[:]) {
			t.Error("another SHA-256")
		}
	}
}
