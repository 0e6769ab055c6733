// Package fetch brings members of a release from a source.
//
// It guarantees that no more is read than was announced or allowed; that
// memory stays the same whatever the size of a member; that what was cut goes
// on where it stopped, with the same version of the object or not at all; that
// a source which trickles is dropped (release.TooSlow), while one that is
// silent counts as a passing failure; and that what it hands over is unchecked
// only until the error of Member is nil.
package fetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/objstore"
	"github.com/stella-ops/stella/internal/release"
	"github.com/stella-ops/stella/internal/signals"
)

// Pieces of a member that is fetched by several requests at once.
const (
	pieceSize = 2 << 20
	pieces    = 8 // in memory at once, of all members together
	chunk     = 256 << 10
)

// smallWithin bounds one document, whatever its rate: nobody knows its size
// before it is there, so a source just above the floor could go on for a day.
const smallWithin = 10 * time.Minute

// Source is where members come from. Make it with New.
type Source struct {
	from   objstore.Reader
	limits release.Limits
	o      Options

	began    time.Time
	received atomic.Int64       // bytes, of all requests
	last     atomic.Int64       // when the last of them came, in nanoseconds since began
	tokens   chan *bytes.Buffer // of pieces
	chunks   sync.Pool
}

// Options of a Source.
type Options struct {
	// Ranges says that the store honours ranges, so that one member may be
	// fetched by several requests at once.
	Ranges bool
	// Delays are the waits before each new attempt after a passing failure,
	// over the life of one request; nil means 500 ms, 1 s, 2 s, 4 s.
	Delays []time.Duration
	// Sleep waits; nil waits by the real clock.
	Sleep func(context.Context, time.Duration) error
	// OnBytes is called with what arrived, from many goroutines; may be nil.
	OnBytes func(int64)
}

// New makes a Source.
func New(from objstore.Reader, limits release.Limits, o Options) *Source {
	if o.Delays == nil {
		o.Delays = []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second}
	}
	if o.Sleep == nil {
		o.Sleep = signals.Sleep
	}
	s := &Source{from: from, limits: limits, o: o, began: time.Now(), tokens: make(chan *bytes.Buffer, pieces)}
	for range pieces {
		s.tokens <- new(bytes.Buffer)
	}
	s.chunks.New = func() any { b := make([]byte, chunk); return &b }
	return s
}

// Place names the source for messages.
func (s *Source) Place() string { return s.from.Place() }

// Received is how many bytes came so far.
func (s *Source) Received() int64 { return s.received.Load() }

// Small reads an object of at most limit bytes into memory. With an ETag that
// still holds the error is objstore.ErrNotModified.
func (s *Source) Small(ctx context.Context, key string, limit int64, etag string) ([]byte, objstore.Info, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, smallWithin, release.Refuse(release.TooSlow, "%s did not come within %s; it is dropped", key, smallWithin).About(key))
	defer cancel()
	data, info, err := s.small(ctx, key, limit, etag)
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) && release.ReasonOf(context.Cause(ctx)) != "" {
		err = context.Cause(ctx)
	}
	return data, info, err
}

func (s *Source) small(ctx context.Context, key string, limit int64, etag string) ([]byte, objstore.Info, error) {
	var out []byte
	var info objstore.Info
	err := s.retry(ctx, func() (bool, error) {
		o, err := s.open(ctx, key, objstore.Get{IfNoneMatch: etag})
		if err != nil {
			return false, err
		}
		defer o.Body.Close()
		info = o.Info
		if o.Size > limit {
			return false, tooLarge(key, fmt.Sprint(o.Size), limit)
		}
		r, done := s.guard(ctx, key, o.Body)
		defer done()
		var b bytes.Buffer
		b.Grow(int(max(0, o.Size)) + bytes.MinRead + 1) // in one piece, when the size is known
		n, err := b.ReadFrom(io.LimitReader(r, limit+1))
		switch {
		case err != nil:
			return false, err
		case n > limit:
			return false, tooLarge(key, "more", limit)
		case o.Size >= 0 && n != o.Size:
			return false, objstore.Fail(objstore.OpRead, s.Place(), key, objstore.ErrTransient, io.ErrUnexpectedEOF)
		}
		out = b.Bytes()
		return false, nil
	})
	return out, info, err
}

// open is that of the store. What is in the place of a file and is none (a link,
// a device) is a refusal (ExtraMember), as it is on the disk of a mirror.
func (s *Source) open(ctx context.Context, key string, g objstore.Get) (*objstore.Object, error) {
	o, err := s.from.Open(ctx, key, g)
	if errors.Is(err, objstore.ErrIrregular) {
		return nil, release.Refuse(release.ExtraMember, "%w", err).About(key)
	}
	return o, err
}

func tooLarge(key, have string, limit int64) error {
	return release.Refuse(release.TooLarge, "%s has %s bytes, at most %d are allowed", key, have, limit).About(key).Found(fmt.Sprint(limit), have)
}

// local is an error of our own side, which no other attempt at the source
// mends.
type local struct{ error }

func (l local) Unwrap() error { return l.error }

// span appends n bytes of an object from off to w, by as many requests as it
// takes. size is that of the whole object; etag is the version to read, or ""
// and then set to the one that is read.
func (s *Source) span(ctx context.Context, key string, off, n, size int64, etag *string, w io.Writer) error {
	return s.retry(ctx, func() (bool, error) {
		got, err := s.once(ctx, key, off, n, size, etag, w)
		off, n = off+got, n-got
		if err == nil && n > 0 {
			err = objstore.Fail(objstore.OpRead, s.Place(), key, objstore.ErrTransient, io.ErrUnexpectedEOF)
		}
		return got >= pieceSize, err
	})
}

func (s *Source) once(ctx context.Context, key string, off, n, size int64, etag *string, w io.Writer) (int64, error) {
	g := objstore.Get{Offset: off, IfMatch: *etag}
	if off+n < size {
		g.Length = n
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	o, err := s.open(ctx, key, g)
	if errors.Is(err, objstore.ErrRange) {
		return 0, wrongSize(key, size, fmt.Sprintf("%d or less", off))
	}
	if err != nil {
		return 0, err
	}
	defer o.Body.Close()
	if o.Size >= 0 && o.Size != size {
		return 0, wrongSize(key, size, fmt.Sprint(o.Size))
	}
	if *etag == "" {
		*etag = o.ETag
	}
	r, done := s.guardWith(key, cancel, o.Body)
	defer done()
	buf := s.chunks.Get().(*[]byte)
	defer s.chunks.Put(buf)
	if skip := off - o.Offset; skip != 0 { // the store gave more than was asked for
		if _, err := io.CopyBuffer(io.Discard, io.LimitReader(r, skip), *buf); err != nil {
			return 0, err
		}
	}
	got, err := copyChunks(w, io.LimitReader(r, n), *buf)
	if err == nil && o.Size < 0 && off+got == size {
		if more, _ := io.ReadAtLeast(r, (*buf)[:1], 1); more > 0 {
			err = wrongSize(key, size, "more")
		}
	}
	return got, err
}

// copyChunks is io.Copy that tells errors of the two sides apart and hands over
// full chunks, which costs fewer system calls.
func copyChunks(w io.Writer, r io.Reader, buf []byte) (total int64, err error) {
	for {
		n, rerr := io.ReadFull(r, buf)
		if n > 0 {
			m, werr := w.Write(buf[:n])
			total += int64(m)
			if werr != nil {
				return total, local{werr}
			}
		}
		switch {
		case errors.Is(rerr, io.EOF) || errors.Is(rerr, io.ErrUnexpectedEOF) && !errors.Is(rerr, objstore.ErrTransient):
			return total, nil
		case rerr != nil:
			return total, rerr
		}
	}
}

func wrongSize(key string, want int64, have string) error {
	return release.Refuse(release.SizeMismatch, "%s has %s bytes, the release says %d", key, have, want).About(key).Found(fmt.Sprint(want), have)
}

// retry calls try until it succeeds, fails for good, or the delays are used up.
// An attempt that moved much starts the delays anew.
func (s *Source) retry(ctx context.Context, try func() (moved bool, err error)) error {
	for i := 0; ; i++ {
		moved, err := try()
		if _, own := errors.AsType[local](err); err == nil || own || !passing(err) {
			return err
		}
		if moved {
			i = 0
		}
		if ctx.Err() != nil || i >= len(s.o.Delays) {
			return err
		}
		if err := s.o.Sleep(ctx, s.o.Delays[i]); err != nil {
			return err
		}
	}
}

func passing(err error) bool {
	return errors.Is(err, objstore.ErrTransient) && fault.KindOf(err) != fault.Trust
}
