package pack

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/stella-ops/stella/internal/durable"
	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/objstore"
	"github.com/stella-ops/stella/internal/release"
)

// Job is one pack to write.
type Job struct {
	Release     *release.Statement
	Statement   []byte                            // its exact bytes
	Signatures  []byte                            // of its signature file
	From        objstore.Reader                   // of the members, by their paths
	Dir         string                            // folder to write to; its parent must be there
	SegmentSize int64                             // bytes; DefaultSegment when 0
	Step        func(done int64, finished string) // of the stream; with the name of a segment that is durable; may be nil
	Planned     func(*Manifest)                   // once, before anything is written; may be nil
	Hook        durable.Hook
}

// Written is what Write did.
type Written struct {
	Manifest *Manifest // without digests after a dry run
	Kept     int       // segments that were there
	Made     int       // segments that were written, or would be
	Was      bool      // the whole pack was there
}

// Write writes a pack, or the rest of one: what is there already and right is
// kept. pack.json comes last, when every member was read and had its digest. A
// folder with another pack is an error of kind Order (ErrMixed), a full medium
// one of kind Transient. With dry nothing is written and no member read.
func Write(ctx context.Context, j Job, dry bool) (*Written, error) {
	if j.SegmentSize == 0 {
		j.SegmentSize = DefaultSegment
	}
	l, m, err := j.plan()
	if err != nil {
		return nil, err
	}
	if j.Planned != nil {
		j.Planned(m)
	}
	t, err := openTarget(j.Dir, !dry)
	if dry && errors.Is(err, fs.ErrNotExist) {
		return &Written{Manifest: m, Made: len(m.Segments)}, nil // it would be made
	}
	if err != nil {
		return nil, err
	}
	defer t.close()
	t.Hook = j.Hook
	out, need, err := j.look(t, m)
	if err != nil || dry {
		return out, err
	}
	if err := t.room(need); err != nil {
		return out, err
	}
	if err := t.Sweep(0); err != nil { // of runs that were killed; the folder is ours
		return out, err
	}
	if err := j.papers(ctx, t); err != nil {
		return out, err
	}
	if err := j.segments(ctx, t, l, out); err != nil {
		return out, err
	}
	data, err := m.Encode()
	if err != nil {
		return out, fmt.Errorf("internal error: %w", err)
	}
	if has, err := t.small(FileManifest, MaxManifest); err == nil && bytes.Equal(has, data) {
		out.Was = out.Made == 0
		return out, nil
	}
	if err := context.Cause(ctx); err != nil {
		return out, err
	}
	return out, full(t.Write(FileManifest, data, 0o644))
}

// plan computes everything but digests.
func (j *Job) plan() (*Layout, *Manifest, error) {
	l, err := NewLayout(j.Release)
	if err != nil {
		return nil, nil, err
	}
	n := segments(l.Size(), j.SegmentSize)
	switch {
	case j.SegmentSize < MinSegment || j.SegmentSize > MaxSegment:
		return nil, nil, fault.Errorf(fault.Input, "segments of %d bytes; allowed: %d to %d", j.SegmentSize, int64(MinSegment), int64(MaxSegment))
	case n > MaxSegments:
		return nil, nil, fault.Errorf(fault.Input, "%d bytes in segments of %d are %d segments, more than %d", l.Size(), j.SegmentSize, n, MaxSegments).
			Hint("use a segment size of %d or more", l.Size()/MaxSegments+1)
	}
	m := &Manifest{
		Schema: Schema, Feed: j.Release.Feed, ExportID: j.Release.ExportID, Sequence: j.Release.Sequence,
		Statement: release.Digest(j.Statement), Signatures: release.Digest(j.Signatures),
		Size: l.Size(), SegmentSize: j.SegmentSize, Segments: make([]Segment, n),
	}
	for i := range m.Segments {
		m.Segments[i] = Segment{Name: Name(i), Size: min(j.SegmentSize, l.Size()-int64(i)*j.SegmentSize)}
	}
	return l, m, nil
}

// look refuses a folder with another pack, and counts what is to be done.
func (j *Job) look(t *target, m *Manifest) (*Written, int64, error) {
	out := &Written{Manifest: m}
	other := func(what string) error {
		return fault.Errorf(fault.Order, "%q holds %w: %s; this one would be of export %s in segments of %d bytes", t.Path(), ErrMixed, what, m.ExportID, m.SegmentSize).
			Hint("use another folder, or empty this one")
	}
	data, err := t.small(FileManifest, MaxManifest)
	if err != nil {
		return out, 0, err
	}
	if data != nil {
		was, err := Parse(data)
		if err != nil {
			return out, 0, other("its pack.json is not one of ours")
		}
		if was.Statement != m.Statement || was.SegmentSize != m.SegmentSize {
			return out, 0, other(fmt.Sprintf("a pack of export %s of the feed %s in segments of %d bytes", was.ExportID, was.Feed, was.SegmentSize))
		}
	}
	if data, err = t.small(release.FileStatement, release.MaxStatement); err != nil {
		return out, 0, err
	}
	if data != nil && !bytes.Equal(data, j.Statement) {
		what := "its release.json is of another release"
		if st, err := release.ParseStatement(data); err == nil {
			what = fmt.Sprintf("an unfinished pack of export %s of the feed %s", st.ExportID, st.Feed)
		}
		return out, 0, other(what)
	}
	names, err := t.Names()
	if err != nil {
		return out, 0, err
	}
	for _, name := range names {
		_, ours := slices.BinarySearchFunc(m.Segments, name, func(s Segment, n string) int { return cmp.Compare(s.Name, n) })
		if strings.HasPrefix(name, "segment-") && !ours { // cat segment-* would take it
			return out, 0, other(fmt.Sprintf("%s is none of its %d segments", name, len(m.Segments)))
		}
	}
	var need int64
	for _, s := range m.Segments {
		f, err := t.existing(s)
		if err != nil {
			return out, 0, err
		}
		if f == nil {
			out.Made++
			need += s.Size
			continue
		}
		out.Kept++
		if err := f.Close(); err != nil {
			return out, 0, err
		}
	}
	return out, need, nil
}

// papers writes the two files of the statement, first: they say whose the
// segments are when this run is cut off.
func (j *Job) papers(ctx context.Context, t *target) error {
	for _, f := range []struct {
		name string
		data []byte
	}{{release.FileStatement, j.Statement}, {release.FileSignature, j.Signatures}} {
		has, err := t.small(f.name, int64(len(f.data)))
		if err == nil && bytes.Equal(has, f.data) {
			continue
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if err := t.Write(f.name, f.data, 0o644); err != nil {
			return full(err)
		}
	}
	return nil
}

// segments goes through the whole stream once, so that every member is checked
// and the digests are those of what was read.
func (j *Job) segments(ctx context.Context, t *target, l *Layout, out *Written) error {
	m, whole, src := out.Manifest, sha256.New(), newStream(l, j.From)
	out.Kept, out.Made = 0, 0
	for i := range m.Segments {
		s := &m.Segments[i]
		from := int64(i) * m.SegmentSize
		sum := sha256.New()
		tick := &ticker{done: from, step: j.Step}
		fill := func(w io.Writer) error {
			return src.copy(ctx, io.MultiWriter(w, sum, whole, tick), from, from+s.Size, true)
		}
		has, err := t.existing(*s)
		switch {
		case err != nil:
			return err
		case has != nil:
			c := &compare{f: bufio.NewReaderSize(has, 4*chunk)}
			if err := errors.Join(fill(c), has.Close()); err != nil {
				return err
			}
			s.SHA256 = hex.EncodeToString(sum.Sum(nil))
			if !c.differs {
				out.Kept++
				break
			}
			if err := j.again(ctx, t, l, *s, from); err != nil {
				return err
			}
			out.Made++
		default:
			if err := t.segment(ctx, s.Name, fill); err != nil {
				return err
			}
			out.Made++
			s.SHA256 = hex.EncodeToString(sum.Sum(nil))
		}
		if j.Step != nil {
			j.Step(from+s.Size, s.Name)
		}
	}
	m.SHA256 = hex.EncodeToString(whole.Sum(nil))
	return nil
}

// again replaces a segment that is there and wrong, after its members were
// checked: they must be now what they were then.
func (j *Job) again(ctx context.Context, t *target, l *Layout, s Segment, from int64) error {
	return t.segment(ctx, s.Name, func(w io.Writer) error {
		sum := sha256.New()
		if err := newStream(l, j.From).copy(ctx, io.MultiWriter(w, sum), from, from+s.Size, false); err != nil {
			return err
		}
		if hex.EncodeToString(sum.Sum(nil)) != s.SHA256 {
			return fault.Errorf(fault.Transient, "%s changed while %s was written: %w", j.From.Place(), s.Name, objstore.ErrChanged)
		}
		return nil
	})
}

// ticker tells how far the stream has come.
type ticker struct {
	done int64
	step func(int64, string)
}

func (t *ticker) Write(p []byte) (int, error) {
	t.done += int64(len(p))
	if t.step != nil {
		t.step(t.done, "")
	}
	return len(p), nil
}
