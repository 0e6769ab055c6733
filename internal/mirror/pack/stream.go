package pack

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/stella-ops/stella/internal/objstore"
	"github.com/stella-ops/stella/internal/release"
)

const chunk = 256 << 10

// stream makes the tar stream of a release from its members.
type stream struct {
	l    *Layout
	from objstore.Reader
	sum  hash.Hash // of the member that is being read
	buf  []byte
}

func newStream(l *Layout, from objstore.Reader) *stream {
	return &stream{l: l, from: from, sum: sha256.New(), buf: make([]byte, chunk)}
}

// copy writes the bytes from..to of the stream. With verify the calls must
// follow on each other from 0: each member is then checked at its last byte.
func (s *stream) copy(ctx context.Context, w io.Writer, from, to int64, verify bool) error {
	pos := from
	for i := s.l.from(from); i < len(s.l.members) && pos < to; i++ {
		if pos < s.l.data[i] {
			head, err := s.l.header(i)
			if err != nil {
				return err
			}
			part := head[pos-s.l.start[i] : min(to, s.l.data[i])-s.l.start[i]]
			if _, err := w.Write(part); err != nil {
				return err
			}
			if pos += int64(len(part)); pos < s.l.data[i] {
				return nil
			}
			s.sum.Reset()
		}
		if end := s.l.end(i); pos < end || pos == s.l.data[i] {
			n := min(to, end) - pos
			if err := s.member(ctx, w, i, pos-s.l.data[i], n); err != nil {
				return err
			}
			if pos += n; pos < end {
				return nil
			}
			if err := s.verified(i); verify && err != nil {
				return err
			}
		}
		n, err := zeros(w, min(to, s.l.padded(i))-pos)
		if pos += n; err != nil {
			return err
		}
	}
	_, err := zeros(w, to-pos)
	return err
}

// member writes n bytes of a member.
func (s *stream) member(ctx context.Context, w io.Writer, i int, off, n int64) error {
	m := s.l.members[i]
	if n == 0 && m.Size > 0 {
		return nil // its header ended with the segment
	}
	o, err := s.from.Open(ctx, m.Path, objstore.Get{Offset: off, Length: n})
	if errors.Is(err, objstore.ErrNotFound) {
		return release.Refuse(release.MissingMember, "the release names %s, but %w", m.Path, err).About(m.Path)
	}
	if err != nil {
		return err
	}
	defer o.Body.Close()
	if o.Size != m.Size {
		return release.Refuse(release.SizeMismatch, "%s of %s has %d bytes, the release says %d", m.Path, s.from.Place(), o.Size, m.Size).
			About(m.Path).Found(fmt.Sprint(m.Size), fmt.Sprint(o.Size))
	}
	body := io.LimitReader(o.Body, n)
	for left := n; left > 0; {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		got, err := io.ReadFull(body, s.buf[:min(left, chunk)])
		s.sum.Write(s.buf[:got])
		if _, werr := w.Write(s.buf[:got]); werr != nil {
			return werr
		}
		left -= int64(got)
		if err != nil {
			return fmt.Errorf("reading %s of %s: %w", m.Path, s.from.Place(), err)
		}
	}
	return nil
}

func (s *stream) verified(i int) error {
	m := s.l.members[i]
	if got := hex.EncodeToString(s.sum.Sum(nil)); got != m.SHA256 {
		return release.Refuse(release.DigestMismatch, "%s of %s has the digest sha256:%s, the release says sha256:%s", m.Path, s.from.Place(), got, m.SHA256).
			About(m.Path).Found("sha256:"+m.SHA256, "sha256:"+got)
	}
	return nil
}

// zeros writes n zeros, n being small.
func zeros(w io.Writer, n int64) (int64, error) {
	if n <= 0 {
		return 0, nil
	}
	k, err := w.Write(make([]byte, n))
	return int64(k), err
}
