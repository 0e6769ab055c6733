package pack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/objstore"
	"github.com/stella-ops/stella/internal/release"
)

var _ objstore.Reader = (*Set)(nil)

// Place implements objstore.Reader.
func (s *Set) Place() string {
	names := s.names()
	if len(names) > 400 {
		names = names[:400] + "…"
	}
	return "pack:" + names
}

// List implements objstore.Reader: a pack is not listed, its statement is.
func (s *Set) List(_ context.Context, prefix string, _ func(objstore.Info) error) error {
	return objstore.Fail(objstore.OpList, s.Place(), prefix, objstore.ErrUnsupported, nil)
}

// Open implements objstore.Reader for the files of the statement and its
// members. A member whose header in the stream is not the one that belongs
// there is ErrStream, which may be a damaged copy: see Check. One that lies in segments that are
// not here is ErrAbsent.
func (s *Set) Open(ctx context.Context, key string, g objstore.Get) (*objstore.Object, error) {
	if d, ok := s.papers[key]; ok {
		g.IfNoneMatch = ""
		o, err := d.Open(ctx, key, g)
		if err == nil {
			o.ETag = ""
		}
		return o, err
	}
	i, ok := 0, false
	if s.layout != nil {
		i, ok = s.layout.find(key)
	}
	if !ok {
		return nil, objstore.Fail(objstore.OpRead, s.Place(), key, objstore.ErrNotFound, nil)
	}
	if err := objstore.Dead(ctx, objstore.OpRead, s.Place(), key); err != nil {
		return nil, err
	}
	m := s.layout.members[i]
	if g.Offset < 0 || g.Length < 0 || g.Offset > 0 && g.Offset >= m.Size {
		return nil, objstore.Fail(objstore.OpRead, s.Place(), key, objstore.ErrRange, nil)
	}
	from, to := s.layout.data[i]+g.Offset, s.layout.end(i)
	if g.Length > 0 {
		to = min(to, from+g.Length)
	}
	first := g.Offset == 0 && m.Size > 0
	if first {
		from = s.layout.start[i]
	}
	if err := s.want(m.Path, from, to); err != nil {
		return nil, err
	}
	b := &body{ctx: ctx, s: s, pos: from, end: to}
	if first {
		if err := s.header(b, i); err != nil {
			return nil, errors.Join(err, b.Close())
		}
	}
	return &objstore.Object{Info: objstore.Info{Key: key, Size: m.Size}, Offset: g.Offset, Body: b}, nil
}

// header reads the header of a member and wants it to be right: what tar would
// make of the stream is then what the statement says.
func (s *Set) header(b io.Reader, i int) error {
	want, err := s.layout.header(i)
	if err != nil {
		return err
	}
	got := make([]byte, len(want))
	if _, err := io.ReadFull(b, got); err != nil {
		return err
	}
	if path := s.layout.members[i].Path; !bytes.Equal(got, want) {
		return release.Refuse(release.Format, "%s: %w", path, ErrStream).About(path)
	}
	return nil
}

// Has reports whether the bytes from..to of the stream are here.
func (s *Set) Has(from, to int64) bool { return len(s.Absent(from, to)) == 0 }

// Absent lists the segments with bytes of from..to that are not here.
func (s *Set) Absent(from, to int64) []int {
	var out []int
	for pos := from; pos < to; {
		end, _, ok := s.piece(pos)
		if !ok {
			out = append(out, int(pos/s.Manifest.SegmentSize))
			end = s.gap(pos)
		}
		pos = end
	}
	return out
}

// piece finds what holds the byte at pos, and up to where: a segment, or what
// was kept of one (then -1).
func (s *Set) piece(pos int64) (end int64, segment int, ok bool) {
	i := int(pos / s.Manifest.SegmentSize)
	if i < len(s.at) && s.at[i] != nil {
		return int64(i)*s.Manifest.SegmentSize + s.Manifest.Segments[i].Size, i, true
	}
	if s.kept != nil {
		if to, ok := s.kept.find(pos); ok {
			return to, -1, true
		}
	}
	return 0, 0, false
}

// gap is where the hole at pos ends: at the end of its segment, or where
// something was kept.
func (s *Set) gap(pos int64) int64 {
	end := (pos/s.Manifest.SegmentSize + 1) * s.Manifest.SegmentSize
	if s.kept != nil {
		end = min(end, s.kept.next(pos))
	}
	return end
}

func (s *Set) want(path string, from, to int64) error {
	absent := s.Absent(from, to)
	if len(absent) == 0 {
		return nil
	}
	return fault.Errorf(fault.Partial, "%s: %w: %s", path, ErrAbsent, strings.Join(s.Named(absent), ", ")).
		Hint("attach the medium that has %s, then run the same command with its folder", s.Manifest.Segments[absent[0]].Name)
}

// Named gives the names of segments, each once.
func (s *Set) Named(list []int) []string {
	var out []string
	for i, n := range list {
		if i == 0 || list[i-1] != n {
			out = append(out, s.Manifest.Segments[n].Name)
		}
	}
	return out
}

// body reads a range of the stream, opening one file after the other.
type body struct {
	ctx      context.Context
	s        *Set
	pos, end int64
	cur      io.ReadCloser
	left     int64
	segment  int
}

func (b *body) Read(p []byte) (int, error) {
	for {
		if b.cur == nil {
			if b.pos >= b.end {
				return 0, io.EOF
			}
			if err := b.next(); err != nil {
				return 0, err
			}
		}
		n, err := b.cur.Read(p)
		b.pos += int64(n)
		b.left -= int64(n)
		switch {
		case err == io.EOF && b.left == 0:
			err = b.cur.Close()
			b.cur = nil
		case err == io.EOF:
			err = fmt.Errorf("reading %s: %w", b.s.Place(), io.ErrUnexpectedEOF)
		case err != nil && b.segment >= 0:
			err = b.s.broken(b.segment, err)
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

func (b *body) next() error {
	end, segment, ok := b.s.piece(b.pos)
	if !ok {
		return fault.Errorf(fault.Partial, "%w", ErrAbsent)
	}
	end = min(end, b.end)
	b.left, b.segment = end-b.pos, segment
	if segment < 0 {
		var err error
		b.cur, err = b.s.kept.open(b.ctx, b.pos, b.left)
		return err
	}
	seg := b.s.Manifest.Segments[segment]
	o, err := b.s.at[segment].Open(b.ctx, seg.Name, objstore.Get{Offset: b.pos - int64(segment)*b.s.Manifest.SegmentSize, Length: b.left})
	if err != nil {
		return b.s.broken(segment, err)
	}
	if o.Size != seg.Size {
		return errors.Join(b.s.damaged(b.s.at[segment], seg.Name, fmt.Sprintf("it has %d bytes now, %s says %d", o.Size, FileManifest, seg.Size)), o.Body.Close())
	}
	b.cur = o.Body
	return nil
}

func (b *body) Close() error {
	if b.cur == nil {
		return nil
	}
	err := b.cur.Close()
	b.cur = nil
	return err
}
