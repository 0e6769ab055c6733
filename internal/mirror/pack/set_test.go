package pack

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/objstore"
	"github.com/stella-ops/stella/internal/release"
)

func openSet(t testing.TB, dirs ...string) *Set {
	t.Helper()
	s, err := Open(t.Context(), dirs)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func readAll(t testing.TB, s objstore.Reader, key string, g objstore.Get) ([]byte, error) {
	t.Helper()
	o, err := s.Open(t.Context(), key, g)
	if err != nil {
		return nil, err
	}
	defer o.Body.Close()
	return io.ReadAll(o.Body)
}

// TestSetReads reads every member, from several offsets, of a pack in one
// folder and of one that is spread over three.
func TestSetReads(t *testing.T) {
	s := newSample(t, sizes()...)
	one, _ := s.write(t)
	spread := []string{t.TempDir(), t.TempDir(), t.TempDir()}
	for name, data := range snapshot(t, one) {
		for i, dir := range spread {
			if strings.HasPrefix(name, "segment-") && int(name[12]-'1')%3 != i {
				continue
			}
			if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, dirs := range [][]string{{one}, spread, {spread[2], spread[0], spread[1]}} {
		set := openSet(t, dirs...)
		if _, err := set.Open(t.Context(), "mirror/a/f0001", objstore.Get{}); !errors.Is(err, objstore.ErrNotFound) {
			t.Errorf("a member before Bind: %v", err)
		}
		if err := set.Bind(s.st); err != nil {
			t.Fatal(err)
		}
		if got, err := readAll(t, set, release.FileStatement, objstore.Get{}); err != nil || !bytes.Equal(got, s.raw) {
			t.Errorf("the statement: %d bytes, %v", len(got), err)
		}
		for path, want := range s.files {
			n := int64(len(want))
			for _, off := range []int64{0, 1, n / 2, n - 1} {
				if off < 0 || off > 0 && off >= n {
					continue
				}
				if got, err := readAll(t, set, path, objstore.Get{Offset: off}); err != nil || !bytes.Equal(got, want[off:]) {
					t.Errorf("%s from %d: %d bytes, %v", path, off, len(got), err)
				}
				if got, err := readAll(t, set, path, objstore.Get{Offset: off, Length: 3}); err != nil || !bytes.Equal(got, want[off:min(n, off+3)]) {
					t.Errorf("%s 3 bytes from %d: %d bytes, %v", path, off, len(got), err)
				}
			}
			if _, err := set.Open(t.Context(), path, objstore.Get{Offset: n + 1}); !errors.Is(err, objstore.ErrRange) {
				t.Errorf("%s beyond its end: %v", path, err)
			}
		}
		if _, err := set.Open(t.Context(), "mirror/a/none", objstore.Get{}); !errors.Is(err, objstore.ErrNotFound) {
			t.Errorf("no member: %v", err)
		}
		if err := set.List(t.Context(), "", nil); !errors.Is(err, objstore.ErrUnsupported) {
			t.Errorf("listing: %v", err)
		}
		if !strings.HasPrefix(set.Place(), "pack:/") {
			t.Errorf("place %s", set.Place())
		}
	}
}

// TestSetFlaws opens a pack with one thing wrong, after a control without.
func TestSetFlaws(t *testing.T) {
	s := newSample(t, sizes()...)
	whole, _ := s.write(t)
	files := snapshot(t, whole)
	other := newSample(t, append(sizes(), 5)...)
	otherDir, _ := other.write(t)
	write := func(dir, name string, data []byte) error {
		return os.WriteFile(filepath.Join(dir, name), data, 0o600)
	}
	instead := func(name string, put func(path string) error) func(string) error {
		return func(d string) error {
			return errors.Join(os.Remove(filepath.Join(d, name)), put(filepath.Join(d, name)))
		}
	}
	link := func(path string) error { return os.Symlink(filepath.Join(whole, filepath.Base(path)), path) }
	fifo := func(path string) error { return syscall.Mkfifo(path, 0o600) }
	folder := func(path string) error { return os.Mkdir(path, 0o700) }
	for name, c := range map[string]struct {
		flaw func(dir string) error
		want error
		kind fault.Kind
		says string
	}{
		"no pack.json":             {func(d string) error { return os.Remove(filepath.Join(d, FileManifest)) }, nil, fault.NotFound, "unfinished"},
		"a huge pack.json":         {func(d string) error { return os.Truncate(filepath.Join(d, FileManifest), 1<<40) }, ErrManifest, fault.Trust, "1099511627776 bytes"},
		"a pack.json of nothing":   {func(d string) error { return write(d, FileManifest, nil) }, ErrManifest, fault.Trust, FileManifest},
		"pack.json is a link":      {instead(FileManifest, link), objstore.ErrIrregular, fault.Trust, "symbolic link"},
		"pack.json is a FIFO":      {instead(FileManifest, fifo), objstore.ErrIrregular, fault.Trust, "FIFO"},
		"pack.json is a folder":    {instead(FileManifest, folder), nil, fault.NotFound, FileManifest},
		"no statement":             {func(d string) error { return os.Remove(filepath.Join(d, release.FileStatement)) }, nil, fault.NotFound, "release.json"},
		"no signature":             {func(d string) error { return os.Remove(filepath.Join(d, release.FileSignature)) }, nil, fault.NotFound, "release.json.jws"},
		"another statement":        {func(d string) error { return write(d, release.FileStatement, other.raw) }, ErrMixed, fault.Trust, "release.json"},
		"a flipped statement":      {func(d string) error { return flip(filepath.Join(d, release.FileStatement), 9) }, ErrMixed, fault.Trust, "release.json"},
		"an endless statement":     {func(d string) error { return os.Truncate(filepath.Join(d, release.FileStatement), 1<<40) }, ErrManifest, fault.Trust, "at most"},
		"a flipped signature":      {func(d string) error { return flip(filepath.Join(d, release.FileSignature), 1) }, ErrMixed, fault.Trust, "release.json.jws"},
		"a statement by link":      {instead(release.FileStatement, link), objstore.ErrIrregular, fault.Trust, "symbolic link"},
		"pack.json of another one": {func(d string) error { return write(d, FileManifest, []byte(snapshot(t, otherDir)[FileManifest])) }, ErrMixed, fault.Trust, "release.json"},
		"a short segment":          {func(d string) error { return os.Truncate(segment(d, 1), MinSegment-1) }, ErrDamaged, fault.Trust, Name(1)},
		"a long segment":           {func(d string) error { return os.Truncate(segment(d, 1), MinSegment+1) }, ErrDamaged, fault.Trust, Name(1)},
		"an empty segment":         {func(d string) error { return os.Truncate(segment(d, 3), 0) }, ErrDamaged, fault.Trust, Name(3)},
		"a segment by link":        {instead(Name(2), link), objstore.ErrIrregular, fault.Trust, Name(2)},
		"a segment is a FIFO":      {instead(Name(2), fifo), objstore.ErrIrregular, fault.Trust, Name(2)},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for file, data := range files {
				if err := write(dir, file, []byte(data)); err != nil {
					t.Fatal(err)
				}
			}
			openSet(t, dir) // the control
			if err := c.flaw(dir); err != nil {
				t.Fatal(err)
			}
			_, err := Open(t.Context(), []string{dir})
			if fault.KindOf(err) != c.kind || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(fmt.Sprint(err), c.says) {
				t.Errorf("%v (%v)", err, fault.KindOf(err))
			}
			if len(fault.HintsOf(err)) == 0 && !errors.Is(err, ErrManifest) {
				t.Errorf("no hint: %v", err)
			}
		})
	}
	if _, err := Open(t.Context(), []string{whole, otherDir}); !errors.Is(err, ErrMixed) {
		t.Errorf("two packs: %v", err)
	}
	if _, err := Open(t.Context(), []string{whole, filepath.Join(whole, "none")}); fault.KindOf(err) != fault.NotFound {
		t.Errorf("no folder: %v", err)
	}
	if _, err := Open(t.Context(), nil); fault.KindOf(err) != fault.Input {
		t.Errorf("no folders: %v", err)
	}
}

// TestSetTells says of a wrong byte which segment it is in.
func TestSetTells(t *testing.T) {
	s := newSample(t, sizes()...)
	dir, w := s.write(t)
	for i := range w.Manifest.Segments {
		if err := openSet(t, dir).Check(t.Context(), i); err != nil {
			t.Errorf("control: %v", err)
		}
	}
	if err := flip(segment(dir, 2), 0); err != nil {
		t.Fatal(err)
	}
	set := openSet(t, dir)
	for i := range w.Manifest.Segments {
		if err := set.Check(t.Context(), i); (err != nil) != (i == 2) || err != nil && (!errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), segment(dir, 2))) {
			t.Errorf("segment %d: %v", i, err)
		}
	}
}

// TestBind wants pack.json and the statement to be of one release.
func TestBind(t *testing.T) {
	s := newSample(t, sizes()...)
	dir, _ := s.write(t)
	set := openSet(t, dir)
	if err := set.Bind(s.st); err != nil {
		t.Errorf("control: %v", err)
	}
	lie := *set.Manifest
	set.Manifest = &lie
	lie.Size -= 512
	if err := set.Bind(s.st); !errors.Is(err, ErrManifest) {
		t.Errorf("another size: %v", err)
	}
	lie.Size, lie.Sequence = lie.Size+512, 9
	if err := set.Bind(s.st); !errors.Is(err, ErrMixed) {
		t.Errorf("another sequence: %v", err)
	}
}

// TestHeaderMoved: a stream whose header is not that of the statement is
// noticed, though the bytes behind it are right.
func TestHeaderMoved(t *testing.T) {
	s := newSample(t, 100)
	dir, _ := s.write(t)
	set := openSet(t, dir)
	if err := set.Bind(s.st); err != nil {
		t.Fatal(err)
	}
	const path = "mirror/a/f0000"
	if _, err := readAll(t, set, path, objstore.Get{}); err != nil {
		t.Errorf("control: %v", err)
	}
	from, _, _ := set.Range(path)
	if err := flip(segment(dir, 0), from+1); err != nil {
		t.Fatal(err)
	}
	if _, err := readAll(t, set, path, objstore.Get{}); !errors.Is(err, ErrStream) {
		t.Errorf("%v", err)
	}
}
