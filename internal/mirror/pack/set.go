package pack

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/objstore"
	"github.com/stella-ops/stella/internal/objstore/fs"
	"github.com/stella-ops/stella/internal/release"
)

// MaxDirs bounds the folders that make one pack.
const MaxDirs = 100

// Set is one pack that is spread over folders: each segment in one of them,
// the small files in each or in some. It is an objstore.Reader of the release's
// statement and, after Bind, of its members. It is not safe for use while Keep
// runs.
type Set struct {
	Manifest *Manifest

	dirs   []*folder
	at     []*folder // of each segment; nil: not here
	papers map[string]*folder
	layout *Layout
	kept   *kept
	sound  map[int]error // segments whose digest was looked at
}

// folder is one open folder of a set.
type folder struct {
	*fs.Store
	path string
}

// Open opens the folders of a pack and looks at what lies there: one
// description, the same statement, segments of the said sizes. Nothing but the
// small files is read. Errors: NotFound when a folder or pack.json is not
// there; ErrManifest, ErrMixed, ErrDamaged, objstore.ErrIrregular of kind
// Trust.
func Open(ctx context.Context, dirs []string) (*Set, error) {
	s := &Set{papers: map[string]*folder{}, sound: map[int]error{}}
	if len(dirs) == 0 || len(dirs) > MaxDirs {
		return nil, fault.Errorf(fault.Input, "%d folders of a pack; allowed: 1 to %d", len(dirs), MaxDirs)
	}
	err := s.open(ctx, dirs)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Set) open(ctx context.Context, dirs []string) error {
	for _, dir := range dirs {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return err
		}
		st, err := fs.Open(abs)
		if err != nil {
			return err
		}
		s.dirs = append(s.dirs, &folder{st, abs})
	}
	if err := s.describe(ctx); err != nil {
		return err
	}
	for name, digest := range map[string]string{release.FileStatement: s.Manifest.Statement, release.FileSignature: s.Manifest.Signatures} {
		if err := s.paper(ctx, name, digest); err != nil {
			return err
		}
	}
	return s.survey(ctx)
}

// describe reads pack.json of all folders that have it.
func (s *Set) describe(ctx context.Context) error {
	var first []byte
	var from string
	for _, d := range s.dirs {
		data, err := d.read(ctx, FileManifest, MaxManifest)
		switch {
		case errors.Is(err, objstore.ErrNotFound):
		case err != nil:
			return err
		case first == nil:
			if s.Manifest, err = Parse(data); err != nil {
				return fmt.Errorf("%s: %w", d.path, err)
			}
			first, from = data, d.path
		case !bytes.Equal(data, first):
			return fault.Errorf(fault.Trust, "%s and %s hold %w: their %s differ", from, d.path, ErrMixed, FileManifest).
				Hint("give only folders of one pack")
		}
	}
	if first == nil {
		return fault.Errorf(fault.NotFound, "no %s in %s: there is no pack, or an unfinished one", FileManifest, s.names()).
			Hint("copy %s, %s and %s to each medium", FileManifest, release.FileStatement, release.FileSignature).
			Hint("a pack is finished by running stella mirror pack again")
	}
	return nil
}

// paper finds a folder with a good copy of a file of the statement.
func (s *Set) paper(ctx context.Context, name, digest string) error {
	var wrong error
	for _, d := range s.dirs {
		got, _, err := d.digest(ctx, name, release.MaxStatement)
		switch {
		case errors.Is(err, objstore.ErrNotFound):
		case err != nil:
			return err
		case "sha256:"+got == digest:
			s.papers[name] = d
			return nil
		default:
			wrong = fault.Errorf(fault.Trust, "%s is not the one that %s names (%w): its digest is sha256:%s, not %s",
				filepath.Join(d.path, name), FileManifest, ErrMixed, got, digest).
				Hint("copy it and %s again, from the folder that stella mirror pack wrote", FileManifest)
		}
	}
	if wrong == nil {
		wrong = fault.Errorf(fault.NotFound, "no %s in %s", name, s.names()).
			Hint("copy %s, %s and %s to each medium", FileManifest, release.FileStatement, release.FileSignature)
	}
	return wrong
}

// survey finds the segments.
func (s *Set) survey(ctx context.Context) error {
	s.at = make([]*folder, len(s.Manifest.Segments))
	for i, seg := range s.Manifest.Segments {
		var wrong error
		for _, d := range s.dirs {
			o, err := d.Open(ctx, seg.Name, objstore.Get{Length: 1})
			if errors.Is(err, objstore.ErrNotFound) {
				continue
			}
			if err == nil {
				err = o.Body.Close()
			}
			if err != nil {
				return err
			}
			if o.Size == seg.Size {
				s.at[i] = d
				break
			}
			wrong = s.damaged(d, seg.Name, fmt.Sprintf("it has %d bytes, %s says %d", o.Size, FileManifest, seg.Size))
		}
		if s.at[i] == nil && wrong != nil {
			return wrong
		}
	}
	return nil
}

func (s *Set) damaged(d *folder, name, why string) error {
	return fault.Errorf(fault.Trust, "%s is %w: %s", filepath.Join(d.path, name), ErrDamaged, why).
		Hint("copy %s again, from the folder that stella mirror pack wrote, then run the same command", name).
		Hint("if a fresh copy is refused too, the medium or whoever carried it is not to be trusted")
}

// Close releases the folders.
func (s *Set) Close() error {
	var all []error
	for _, d := range s.dirs {
		all = append(all, d.Close())
	}
	if s.kept != nil {
		all = append(all, s.kept.close())
	}
	return errors.Join(all...)
}

func (s *Set) names() string {
	var b []string
	for _, d := range s.dirs {
		b = append(b, d.path)
	}
	return strings.Join(b, ", ")
}

// Here counts the segments that are in the folders.
func (s *Set) Here() int {
	n := 0
	for _, d := range s.at {
		if d != nil {
			n++
		}
	}
	return n
}

// Bind tells the set what the statement says, which the caller has verified.
func (s *Set) Bind(st *release.Statement) error {
	l, err := NewLayout(st)
	if err != nil {
		return err
	}
	m := s.Manifest
	if m.Feed != st.Feed || m.ExportID != st.ExportID || m.Sequence != st.Sequence {
		return fault.Errorf(fault.Trust, "%s is of export %s (sequence %d) of the feed %s, the statement of %s (%d) of %s: %w",
			FileManifest, m.ExportID, m.Sequence, m.Feed, st.ExportID, st.Sequence, st.Feed, ErrMixed)
	}
	if m.Size != l.Size() {
		return bad("size is %d, but the members of the release make a stream of %d bytes", m.Size, l.Size())
	}
	s.layout = l
	return nil
}

// Check reads a segment that is here and compares its digest, once a run.
func (s *Set) Check(ctx context.Context, i int) error {
	if err, known := s.sound[i]; known {
		return err
	}
	d, seg := s.at[i], s.Manifest.Segments[i]
	got, n, err := d.digest(ctx, seg.Name, seg.Size)
	if err != nil {
		return s.broken(i, err)
	}
	if n != seg.Size || got != seg.SHA256 {
		err = s.damaged(d, seg.Name, fmt.Sprintf("its digest is sha256:%s, %s says sha256:%s", got, FileManifest, seg.SHA256))
	}
	s.sound[i] = err
	return err
}

// CheckRange is Check for every segment that is here and has bytes of from..to.
func (s *Set) CheckRange(ctx context.Context, from, to int64) error {
	for i := int(from / s.Manifest.SegmentSize); i < len(s.at) && int64(i)*s.Manifest.SegmentSize < to; i++ {
		if s.at[i] == nil {
			continue
		}
		if err := s.Check(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

// Range returns where in the stream a member lies, with its header; false before
// Bind.
func (s *Set) Range(path string) (from, to int64, ok bool) {
	if s.layout == nil {
		return 0, 0, false
	}
	return s.layout.span(path)
}

// read reads a small file.
func (d *folder) read(ctx context.Context, name string, limit int64) ([]byte, error) {
	var b bytes.Buffer
	_, err := d.copy(ctx, name, limit, &b)
	return b.Bytes(), err
}

func (d *folder) digest(ctx context.Context, name string, limit int64) (string, int64, error) {
	sum := sha256.New()
	n, err := d.copy(ctx, name, limit, sum)
	return hex.EncodeToString(sum.Sum(nil)), n, err
}

func (d *folder) copy(ctx context.Context, name string, limit int64, w io.Writer) (int64, error) {
	o, err := d.Open(ctx, name, objstore.Get{})
	if err != nil {
		return 0, err
	}
	defer o.Body.Close()
	if o.Size > limit {
		return 0, fault.Errorf(fault.Trust, "%s has %d bytes, at most %d are allowed: %w", filepath.Join(d.path, name), o.Size, limit, ErrManifest)
	}
	return io.CopyBuffer(struct{ io.Writer }{w}, io.LimitReader(o.Body, limit+1), make([]byte, chunk))
}

// broken is the error of a segment that could not be read though it was there.
func (s *Set) broken(i int, err error) error {
	d, name := s.at[i], s.Manifest.Segments[i].Name
	switch {
	case errors.Is(err, objstore.ErrNotFound), errors.Is(err, os.ErrClosed):
		return fault.Errorf(fault.Transient, "%s: %w", filepath.Join(d.path, name), ErrGone).
			Hint("attach the medium again, then run the same command: what was read is kept")
	case fault.KindOf(err) == fault.Unclassified: // the medium
		return fault.Errorf(fault.Transient, "%w", err).
			Hint("copy %s again, to another medium if this one fails: what was read is kept", name)
	}
	return err
}
