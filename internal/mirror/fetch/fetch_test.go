package fetch_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stella-ops/stella/internal/mirror/fetch"
	"github.com/stella-ops/stella/internal/objstore"
	"github.com/stella-ops/stella/internal/release"
)

// object is a store of one object, whose bodies come as say tells.
type object struct {
	size int64
	at   func(off int64, p []byte) // what the bytes are
	etag string

	mu   sync.Mutex
	asks []objstore.Get
	say  func(nth int, g objstore.Get, body io.Reader) (io.Reader, error)
}

// Place implements objstore.Reader.
func (*object) Place() string { return "test://place" }

// List implements objstore.Reader.
func (*object) List(context.Context, string, func(objstore.Info) error) error { return nil }

// Open implements objstore.Reader.
func (o *object) Open(ctx context.Context, key string, g objstore.Get) (*objstore.Object, error) {
	o.mu.Lock()
	o.asks = append(o.asks, g)
	nth, etag := len(o.asks), o.etag
	o.mu.Unlock()
	if g.IfMatch != "" && g.IfMatch != etag {
		return nil, objstore.Fail(objstore.OpRead, o.Place(), key, objstore.ErrChanged, nil)
	}
	if g.Offset > 0 && g.Offset >= o.size {
		return nil, objstore.Fail(objstore.OpRead, o.Place(), key, objstore.ErrRange, nil)
	}
	end := o.size
	if g.Length > 0 {
		end = min(end, g.Offset+g.Length)
	}
	var body io.Reader = &bytesAt{o: o, off: g.Offset, end: end}
	if o.say != nil {
		var err error
		if body, err = o.say(nth, g, body); err != nil {
			return nil, err
		}
	}
	return &objstore.Object{Info: objstore.Info{Key: key, Size: o.size, ETag: etag}, Offset: g.Offset, Body: until{ctx, body}}, nil
}

type bytesAt struct {
	o        *object
	off, end int64
}

func (b *bytesAt) Read(p []byte) (int, error) {
	if b.off >= b.end {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), b.end-b.off)]
	b.o.at(b.off, p)
	b.off += int64(len(p))
	return len(p), nil
}

// until ends with its context, as a socket does.
type until struct {
	ctx  context.Context
	body io.Reader
}

func (u until) Read(p []byte) (int, error) {
	if b, ok := u.body.(interface {
		read(context.Context, []byte) (int, error)
	}); ok {
		return b.read(u.ctx, p)
	}
	return u.body.Read(p)
}

func (until) Close() error { return nil }

// paced gives n bytes, then waits for a time, and so on. With n 0 it is silent.
type paced struct {
	io.Reader
	n     int
	every time.Duration
	after int // bytes that come at once
}

func (r *paced) read(ctx context.Context, p []byte) (int, error) {
	if r.after > 0 {
		n, err := r.Reader.Read(p[:min(len(p), r.after)])
		r.after -= n
		return n, err
	}
	wait := r.every
	if r.n == 0 {
		wait = 1000 * time.Hour
	}
	select {
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	case <-time.After(wait):
	}
	return r.Reader.Read(p[:min(len(p), r.n)])
}

// small is an object of which the bytes are in memory.
func small(n int) *object {
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(rand.Uint32())
	}
	return &object{size: int64(n), etag: `"1"`, at: func(off int64, p []byte) { copy(p, data[off:]) }}
}

func (o *object) member() release.Member {
	sum := sha256.New()
	_, _ = io.Copy(sum, &bytesAt{o: o, end: o.size})
	return release.Member{Path: "mirror/x", Size: o.size, SHA256: hex.EncodeToString(sum.Sum(nil))}
}

// staged is a Partial in memory.
type staged struct{ bytes.Buffer }

func (s *staged) Size() int64 { return int64(s.Len()) }

func (s *staged) Reader() io.Reader { return bytes.NewReader(s.Bytes()) }

func limits(rate int64, window time.Duration) release.Limits {
	l := release.DefaultPolicy().Limits
	l.MinimumRate, l.RateWindow = rate, release.Duration(window)
	return l
}

func cut() error {
	return objstore.Fail(objstore.OpRead, "test://place", "k", objstore.ErrTransient, io.ErrUnexpectedEOF)
}

type closing struct {
	paced
	gone chan struct{}
}

// TestPieces: several requests at once, with any delays, give the bytes in
// order; cuts are mended, and no byte comes twice.
func TestPieces(t *testing.T) {
	for seed := range uint64(8) {
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			o := small(9<<20 + int(rnd.Uint32()%(4<<20)))
			var mu sync.Mutex
			cuts := 0
			o.say = func(_ int, g objstore.Get, body io.Reader) (io.Reader, error) {
				mu.Lock()
				defer mu.Unlock()
				r := &paced{Reader: body, n: 64<<10 + int(rnd.Uint32()%(1<<20)), every: time.Duration(rnd.Int64N(int64(time.Second)))}
				if rnd.Uint32()%3 == 0 && cuts < 6 {
					cuts++
					return io.MultiReader(io.LimitReader(body, 1000+int64(rnd.Uint32()%500_000)), failing{}), nil
				}
				return r, nil
			}
			s := fetch.New(o, limits(1000, 30*time.Second), fetch.Options{Ranges: true})
			to, also := new(staged), new(bytes.Buffer)
			want := o.member()
			if err := s.Member(t.Context(), "k", want, to, also, 8); err != nil {
				t.Fatal(err)
			}
			got := release.Digest(to.Bytes())
			if got != "sha256:"+want.SHA256 || release.Digest(also.Bytes()) != got || s.Received() != o.size {
				t.Errorf("%s, %s, %d bytes of %d", got, release.Digest(also.Bytes()), s.Received(), o.size)
			}
			for i, g := range o.asks[1:] {
				if g.IfMatch != o.etag {
					t.Errorf("request %d: %+v", i+1, g)
				}
			}
			if cuts == 0 || len(o.asks) < 5 {
				t.Errorf("%d cuts, %d requests", cuts, len(o.asks))
			}
		})
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, cut() }

// TestMemory: however large a member is, little of it is in memory, also when
// the writer is slower than the source.
func TestMemory(t *testing.T) {
	const size, most = 256 << 20, 40 << 20
	o := &object{size: size, etag: `"1"`, at: func(off int64, p []byte) {
		for i := range p {
			p[i] = byte((off + int64(i)) >> 8)
		}
	}}
	s := fetch.New(o, limits(1000, 30*time.Second), fetch.Options{Ranges: true})
	w := &heapMeter{}
	m := o.member()
	runtime.GC()
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	var wg sync.WaitGroup
	for range 3 { // side by side
		wg.Go(func() {
			if err := s.Member(t.Context(), "k", m, w.partial(), nil, 8); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if peak := int64(w.peak) - int64(before.HeapAlloc); peak > most || w.samples < 10 {
		t.Errorf("%d MiB in use in %d samples", peak>>20, w.samples)
	} else {
		t.Logf("at most %d MiB in use, in %d samples", peak>>20, w.samples)
	}
}

// heapMeter keeps nothing, and looks now and then what is in use.
type heapMeter struct {
	mu      sync.Mutex
	peak    uint64
	samples int
}

type metered struct {
	h    *heapMeter
	size int64
	next int64
}

func (h *heapMeter) partial() *metered { return &metered{h: h} }

func (m *metered) Write(p []byte) (int, error) {
	m.size += int64(len(p))
	if m.size > m.next {
		m.next = m.size + 32<<20
		m.h.mu.Lock()
		defer m.h.mu.Unlock()
		runtime.GC()
		var now runtime.MemStats
		runtime.ReadMemStats(&now)
		m.h.peak = max(m.h.peak, now.HeapAlloc)
		m.h.samples++
	}
	return len(p), nil
}

func (m *metered) Size() int64 { return m.size }

func (m *metered) Reader() io.Reader { return nil }

// TestResume: what is there is hashed and not fetched again.
func TestResume(t *testing.T) {
	o := small(100_000)
	all := make([]byte, o.size)
	o.at(0, all)
	for _, have := range []int{0, 1, 50_000, 99_999, 100_000} {
		o.asks = nil
		s := fetch.New(o, limits(1000, time.Second), fetch.Options{})
		to, also := new(staged), new(bytes.Buffer)
		to.Write(all[:have])
		if err := s.Member(t.Context(), "k", o.member(), to, also, 1); err != nil || !bytes.Equal(to.Bytes(), all) || !bytes.Equal(also.Bytes(), all) {
			t.Errorf("from %d: %v", have, err)
		}
		if s.Received() != int64(len(all)-have) || have == len(all) != (len(o.asks) == 0) {
			t.Errorf("from %d: %d bytes came, by %+v", have, s.Received(), o.asks)
		}
	}
	// What is there is wrong, or too much.
	for _, have := range [][]byte{append([]byte{all[0] ^ 1}, all[1:10]...), append(bytes.Clone(all), 0)} {
		to := new(staged)
		to.Write(have)
		s := fetch.New(o, limits(1000, time.Second), fetch.Options{})
		if err := s.Member(t.Context(), "k", o.member(), to, nil, 1); release.ReasonOf(err) != release.DigestMismatch && release.ReasonOf(err) != release.SizeMismatch {
			t.Errorf("%d bytes: %v", len(have), err)
		}
	}
}

// TestChanged: an object that is replaced between two requests is ErrChanged,
// never a mixture.
func TestChanged(t *testing.T) {
	for _, size := range []int{100_000, 9 << 20} {
		o := small(size)
		want := o.member()
		o.say = func(nth int, _ objstore.Get, body io.Reader) (io.Reader, error) {
			if nth > 1 {
				return body, nil
			}
			o.mu.Lock()
			defer o.mu.Unlock()
			o.etag = `"2"`
			return io.MultiReader(io.LimitReader(body, 1000), failing{}), nil
		}
		s := fetch.New(o, limits(1000, time.Second), fetch.Options{Ranges: true, Sleep: func(context.Context, time.Duration) error { return nil }})
		to := new(staged)
		if err := s.Member(t.Context(), "k", want, to, nil, 4); !errors.Is(err, objstore.ErrChanged) || to.Len() != 1000 {
			t.Errorf("%d bytes: %v after %d", size, err, to.Len())
		}
	}
}

// TestTries: how often a passing failure is tried again, and after which waits;
// other failures are not.
func TestTries(t *testing.T) {
	usual := []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second}
	for name, c := range map[string]struct {
		fail  error
		times int
		asks  int
		took  time.Duration
	}{
		"never":        {nil, 0, 1, 0},
		"twice":        {cut(), 2, 3, usual[0] + usual[1]},
		"always":       {cut(), 1000, 5, usual[0] + usual[1] + usual[2] + usual[3]},
		"denied":       {objstore.Fail(objstore.OpRead, "p", "k", objstore.ErrDenied, nil), 1000, 1, 0},
		"not found":    {objstore.Fail(objstore.OpRead, "p", "k", objstore.ErrNotFound, nil), 1000, 1, 0},
		"redirected":   {objstore.Fail(objstore.OpRead, "p", "k", objstore.ErrRedirect, nil), 1000, 1, 0},
		"irregular":    {objstore.Fail(objstore.OpRead, "p", "k", objstore.ErrIrregular, nil), 1000, 1, 0},
		"unclassified": {fmt.Errorf("odd"), 1000, 1, 0},
	} {
		for what, do := range map[string]func(context.Context, *fetch.Source, *object) error{
			"Member": func(ctx context.Context, s *fetch.Source, o *object) error {
				return s.Member(ctx, "k", o.member(), new(staged), nil, 1)
			},
			"Small": func(ctx context.Context, s *fetch.Source, _ *object) error {
				_, _, err := s.Small(ctx, "k", 100, "")
				return err
			},
			"Info": func(ctx context.Context, s *fetch.Source, _ *object) error { _, err := s.Info(ctx, "k"); return err },
		} {
			synctest.Test(t, func(t *testing.T) {
				o := small(10)
				o.say = func(nth int, _ objstore.Get, body io.Reader) (io.Reader, error) {
					if nth <= c.times {
						return nil, c.fail
					}
					return body, nil
				}
				began := time.Now()
				err := do(t.Context(), fetch.New(o, limits(1000, 30*time.Second), fetch.Options{}), o)
				if took := time.Since(began); len(o.asks) != c.asks || took != c.took || (err == nil) != (c.asks > c.times) {
					t.Errorf("%s, %s: %d requests in %s, want %d in %s: %v", name, what, len(o.asks), took, c.asks, c.took, err)
				}
				if name == "irregular" && release.ReasonOf(err) != release.ExtraMember {
					t.Errorf("%s, %s: %v", name, what, err)
				}
			})
		}
	}
}

// TestWriter: an error of our own disk is not tried again at the source.
func TestWriter(t *testing.T) {
	o := small(100)
	disk := errors.New("disk full")
	s := fetch.New(o, limits(1000, time.Second), fetch.Options{})
	full := objstore.Fail(objstore.OpWrite, "disk", "k", objstore.ErrTransient, disk) // as passing as it may look
	if err := s.Member(t.Context(), "k", o.member(), broken{full}, nil, 1); !errors.Is(err, disk) || len(o.asks) != 1 {
		t.Errorf("%d requests: %v", len(o.asks), err)
	}
}

type broken struct{ err error }

func (b broken) Write([]byte) (int, error) { return 0, b.err }

func (broken) Size() int64 { return 0 }

func (broken) Reader() io.Reader { return nil }
