package fetch

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"sync"

	"github.com/stella-ops/stella/internal/jose/detached"
	"github.com/stella-ops/stella/internal/objstore"
	"github.com/stella-ops/stella/internal/release"
)

// Partial is a member on its way, as package store keeps it.
type Partial interface {
	io.Writer
	Size() int64
	Reader() io.Reader
}

// Member appends to what is there until the member is whole, and checks its
// digest. also, if not nil, gets every byte from the first one on, in order,
// with what was there already. split is how many requests may run at once for
// this member; they are of no use below some megabytes. A wrong digest is a
// Refusal (DigestMismatch, SizeMismatch); an object that was replaced meanwhile
// is objstore.ErrChanged.
func (s *Source) Member(ctx context.Context, key string, m release.Member, to Partial, also io.Writer, split int) error {
	sum := sha256.New()
	sink := io.Writer(sum)
	done := func() error { return nil }
	if also != nil { // two hashes of one stream, on two cores
		lane := detached.NewLane(sum)
		defer lane.Close()
		sink, done = io.MultiWriter(lane, also), lane.Close
	}
	if to.Size() > m.Size {
		return wrongSize(key, m.Size, fmt.Sprintf("(in staging) %d", to.Size()))
	}
	if to.Size() > 0 {
		if _, err := io.Copy(sink, to.Reader()); err != nil {
			return fmt.Errorf("reading what was fetched of %s: %w", key, err)
		}
	}
	all := io.MultiWriter(to, sink)
	var etag string
	var err error
	switch left := m.Size - to.Size(); {
	case left == 0 && m.Size > 0:
	case split > 1 && s.o.Ranges && left > 2*pieceSize:
		err = s.pieces(ctx, key, to.Size(), m.Size, split, all)
	default:
		err = s.span(ctx, key, to.Size(), left, m.Size, &etag, all)
	}
	if err == nil {
		err = done()
	}
	if err != nil {
		return err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != m.SHA256 {
		return release.Refuse(release.DigestMismatch, "%s has the digest sha256:%s, the release says sha256:%s", m.Path, got, m.SHA256).
			About(m.Path).Found("sha256:"+m.SHA256, "sha256:"+got)
	}
	return nil
}

// piece is one part of a member that is fetched beside others.
type piece struct {
	buf  *bytes.Buffer
	done chan error
}

// pieces fetches from off to size by several requests at once, and writes in
// order. What is in memory is bounded over all members by tokens; the writer
// holds the requests back.
func (s *Source) pieces(ctx context.Context, key string, off, size int64, split int, w io.Writer) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(nil)
	// The first one tells which version all others must be of.
	var etag string
	n := min(pieceSize, size-off)
	if err := s.span(ctx, key, off, n, size, &etag, w); err != nil {
		return err
	}
	off += n
	queue := make(chan piece, split)
	wg.Go(func() {
		defer close(queue)
		for ; off < size; off += pieceSize {
			at, n := off, min(pieceSize, size-off)
			p := piece{done: make(chan error, 1)}
			select {
			case p.buf = <-s.tokens:
			case <-ctx.Done():
				return
			}
			p.buf.Reset()
			tag := etag
			wg.Go(func() { p.done <- s.span(ctx, key, at, n, size, &tag, p.buf) })
			select {
			case queue <- p:
			case <-ctx.Done():
				<-p.done
				s.tokens <- p.buf
				return
			}
		}
	})
	var failed error
	for p := range queue {
		err := <-p.done
		if err == nil && failed == nil {
			if _, werr := w.Write(p.buf.Bytes()); werr != nil {
				err = werr
			}
		}
		s.tokens <- p.buf
		if err != nil && failed == nil {
			failed = err
			cancel(err)
		}
	}
	if failed == nil {
		failed = context.Cause(ctx)
	}
	return failed
}

// Whole appends an object of unknown size and digest to what is empty, and
// returns what it was. More than limit bytes are a Refusal (TooLarge).
func (s *Source) Whole(ctx context.Context, key string, limit int64, to, also io.Writer) (m release.Member, info objstore.Info, err error) {
	info, err = s.Info(ctx, key)
	switch {
	case err != nil:
		return m, info, err
	case info.Size > limit:
		return m, info, tooLarge(key, fmt.Sprint(info.Size), limit)
	case info.Size < 0:
		return m, info, release.Refuse(release.Format, "%s does not tell the size of %s", s.Place(), key).About(key)
	}
	sum := sha256.New()
	all := io.MultiWriter(to, sum)
	if also != nil {
		all = io.MultiWriter(to, also, sum)
	}
	etag := info.ETag
	if err := s.span(ctx, key, 0, info.Size, info.Size, &etag, all); err != nil {
		return m, info, err
	}
	return release.Member{Path: key, Size: info.Size, SHA256: hex.EncodeToString(sum.Sum(nil))}, info, nil
}

// Info tells what an object is, without reading it.
func (s *Source) Info(ctx context.Context, key string) (info objstore.Info, err error) {
	err = s.retry(ctx, func() (_ bool, err error) {
		o, err := s.open(ctx, key, objstore.Get{Length: 1})
		if err == nil {
			info = o.Info
			err = o.Body.Close()
		}
		return false, err
	})
	return info, err
}

// List is that of the store, with retries before the first object only.
func (s *Source) List(ctx context.Context, prefix string, each func(objstore.Info) error) error {
	return s.retry(ctx, func() (bool, error) {
		seen := false
		err := s.from.List(ctx, prefix, func(i objstore.Info) error {
			seen = true
			return each(i)
		})
		if seen && err != nil {
			err = local{err}
		}
		return false, err
	})
}
