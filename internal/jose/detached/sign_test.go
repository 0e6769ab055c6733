package detached_test

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"errors"
	"io"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/jose/detached"
)

// TestEd25519Bytes makes the very bytes of crypto/ed25519, also from the middle
// of a file.
func TestEd25519Bytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := ed25519.NewKeyFromSeed(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "seed"))
		s, err := jose.NewSigner(key, jose.EdDSA, "")
		if err != nil {
			t.Fatal(err)
		}
		whole := strings.Repeat(string(rapid.SliceOfN(rapid.Byte(), 0, 99).Draw(t, "payload")), rapid.SampledFrom([]int{1, 7, 9000}).Draw(t, "times"))
		start := rapid.IntRange(0, len(whole)).Draw(t, "start")
		for _, enc := range []detached.Encoding{detached.Unencoded, detached.Base64URL} {
			r := strings.NewReader(whole)
			if _, err := r.Seek(int64(start), io.SeekStart); err != nil {
				t.Fatal(err)
			}
			got, err := detached.Sign(context.Background(), s, map[string]any{"typ": "x"}, r, enc)
			if err != nil {
				t.Fatal(err)
			}
			header, part := strings.Split(got, ".")[0], whole[start:]
			if enc == detached.Base64URL {
				part = b64([]byte(part))
			}
			if want := header + ".." + b64(ed25519.Sign(key, []byte(header+"."+part))); got != want {
				t.Fatalf("got %s, want %s", got, want)
			}
		}
	})
}

// shifting reads otherwise after it was set back.
type shifting struct {
	*strings.Reader
	second string
}

func (s *shifting) Seek(to int64, whence int) (int64, error) {
	if whence == io.SeekStart {
		s.Reset(s.second)
	}
	return s.Reader.Seek(to, whence)
}

// TestChangedPayload: one r under two payloads would give the key away.
func TestChangedPayload(t *testing.T) {
	long := strings.Repeat("0123456789", 100000)
	s := signerFor(t, jose.EdDSA)
	for _, enc := range []detached.Encoding{detached.Unencoded, detached.Base64URL} {
		for second, want := range map[string]error{long: nil, long + "x": detached.ErrChanged, long[:999999] + "0": detached.ErrChanged, "": detached.ErrChanged} {
			got, err := detached.Sign(t.Context(), s, nil, &shifting{strings.NewReader(long), second}, enc)
			if !errors.Is(err, want) || (want == nil) != (err == nil) || (got == "") == (err == nil) {
				t.Errorf("%d bytes the second time: %q, %v", len(second), got, err)
			}
		}
	}
}

// TestOpaque signs with keys that are only a crypto.Signer.
func TestOpaque(t *testing.T) {
	for _, alg := range streamed() {
		calls := 0
		s := signer(t, opaque{keys()[alg], &calls}, alg)
		for _, enc := range []detached.Encoding{detached.Unencoded, detached.Base64URL} {
			if err := verdict(sign(t, s, payload, enc), s.Key(), rules(), payload); err != nil || calls == 0 {
				t.Errorf("%s: %v after %d calls", alg, err, calls)
			}
		}
	}
	calls := 0
	s := signer(t, opaque{keys()[jose.EdDSA], &calls}, jose.EdDSA)
	for size, want := range map[int64]error{detached.MaxOpaqueEdDSA: nil, detached.MaxOpaqueEdDSA + 1: jose.ErrTooLarge} {
		calls = 0
		_, err := detached.Sign(t.Context(), s, nil, io.NewSectionReader(zeros{}, 0, size), detached.Unencoded)
		if !errors.Is(err, want) || (calls == 1) != (want == nil) {
			t.Errorf("%d bytes: %v after %d calls", size, err, calls)
		}
	}
}

type zeros struct{}

func (zeros) ReadAt(p []byte, _ int64) (int, error) { clear(p); return len(p), nil }

// TestSignRefuses also sees that the key was not touched.
func TestSignRefuses(t *testing.T) {
	broken := errors.New("input/output error")
	dead, cancel := context.WithCancelCause(t.Context())
	cancel(broken)
	type header = map[string]any
	for _, alg := range []jose.Alg{jose.ES256, jose.EdDSA} {
		for _, c := range []struct {
			name   string
			ctx    context.Context
			header header
			r      io.ReadSeeker
			enc    detached.Encoding
			want   error
		}{
			{"control", t.Context(), header{"typ": "x"}, strings.NewReader(payload), detached.Base64URL, nil},
			{"crit", t.Context(), header{"crit": []string{"b64"}}, strings.NewReader(payload), detached.Base64URL, jose.ErrMalformed},
			{"crit, unencoded", t.Context(), header{"crit": []string{"b64"}}, strings.NewReader(payload), detached.Unencoded, jose.ErrMalformed},
			{"alg", t.Context(), header{"alg": "none"}, strings.NewReader(payload), detached.Unencoded, jose.ErrMalformed},
			{"b64", t.Context(), header{"b64": false}, strings.NewReader(payload), detached.Base64URL, jose.ErrMalformed},
			{"no encoding", t.Context(), nil, strings.NewReader(payload), 0, jose.ErrMalformed},
			{"dead context", dead, nil, strings.NewReader(payload), detached.Unencoded, broken},
			{"dead context, no payload", dead, nil, strings.NewReader(""), detached.Unencoded, broken},
			{"broken", t.Context(), nil, brokenSeeker{broken}, detached.Base64URL, broken},
		} {
			calls := 0
			s := signer(t, opaque{keys()[alg], &calls}, alg)
			got, err := detached.Sign(c.ctx, s, c.header, c.r, c.enc)
			if !errors.Is(err, c.want) || (c.want == nil) != (err == nil) || (calls == 1) != (c.want == nil) || (got != "") != (c.want == nil) {
				t.Errorf("%s %s: %q, %v after %d calls", alg, c.name, got, err, calls)
			}
		}
	}
	for _, alg := range []jose.Alg{jose.ES256, jose.EdDSA} { // dies with the last read
		ctx, cancel := context.WithCancelCause(t.Context())
		calls := 0
		s := signer(t, opaque{keys()[alg], &calls}, alg)
		if _, err := detached.Sign(ctx, s, nil, lastRead{strings.NewReader(payload), func() { cancel(broken) }}, detached.Unencoded); !errors.Is(err, broken) || calls != 0 {
			t.Errorf("%s, context gone at the end: %v after %d calls", alg, err, calls)
		}
	}
	refuses := signer(t, refusing{keys()[jose.ES256].Public(), broken}, jose.ES256)
	if _, err := detached.Sign(t.Context(), refuses, nil, strings.NewReader(payload), detached.Unencoded); !errors.Is(err, broken) || !errors.Is(err, jose.ErrSigner) {
		t.Errorf("signer that refuses: %v", err)
	}
}

// lastRead runs done in the read that finds the end.
type lastRead struct {
	*strings.Reader
	done func()
}

func (l lastRead) Read(p []byte) (int, error) {
	n, err := l.Reader.Read(p)
	if err == io.EOF {
		l.done()
	}
	return n, err
}

type brokenSeeker struct{ err error }

func (b brokenSeeker) Read([]byte) (int, error)       { return 0, b.err }
func (b brokenSeeker) Seek(int64, int) (int64, error) { return 0, b.err }

type refusing struct {
	pub crypto.PublicKey
	err error
}

func (r refusing) Public() crypto.PublicKey { return r.pub }
func (r refusing) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, r.err
}
