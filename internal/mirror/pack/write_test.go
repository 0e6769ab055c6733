package pack

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stella-ops/stella/internal/durable"
	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/release"
)

func sizes() []int { return []int{700_000, 900_000, 10, 2_500_000, 0, 40_000} }

// TestWriteAgain packs twice: the same bytes, and the second time into a folder
// with the first, which changes nothing.
func TestWriteAgain(t *testing.T) {
	s := newSample(t, sizes()...)
	one, w := s.write(t)
	two, _ := s.write(t)
	was := snapshot(t, one)
	if !maps.Equal(was, snapshot(t, two)) || len(was) != 3+len(w.Manifest.Segments) || len(w.Manifest.Segments) != 4 {
		t.Errorf("two packs differ: %d files", len(was))
	}
	before := stat(t, one)
	again, err := Write(t.Context(), s.job(one), false)
	if err != nil || !again.Was || again.Kept != 4 || again.Made != 0 {
		t.Errorf("%+v %v", again, err)
	}
	if now := stat(t, one); !maps.Equal(now, before) {
		t.Errorf("files were written again: %v, %v", before, now)
	}
}

func stat(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		if sys, ok := info.Sys().(*syscall.Stat_t); ok {
			out[e.Name()] = fmt.Sprint(sys.Ino, info.ModTime())
		}
	}
	return out
}

// TestWriteRepairs takes a pack with one thing wrong: it becomes the pack that
// it was, and what was right is not written again.
func TestWriteRepairs(t *testing.T) {
	s := newSample(t, sizes()...)
	whole, _ := s.write(t)
	want := snapshot(t, whole)
	flaws := map[string]func(dir string) error{
		"a segment is gone":     func(d string) error { return os.Remove(segment(d, 1)) },
		"a segment is short":    func(d string) error { return os.Truncate(segment(d, 1), 5) },
		"a segment has a flaw":  func(d string) error { return flip(segment(d, 1), 300_000) },
		"pack.json is not yet":  func(d string) error { return os.Remove(filepath.Join(d, FileManifest)) },
		"a left-over of a kill": func(d string) error { return os.WriteFile(filepath.Join(d, tempPrefix+Name(1)), []byte("x"), 0o600) },
		"another signature":     func(d string) error { return flip(filepath.Join(d, release.FileSignature), 0) },
	}
	for name, flaw := range flaws {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for file, data := range want {
				if err := os.WriteFile(filepath.Join(dir, file), []byte(data), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := flaw(dir); err != nil {
				t.Fatal(err)
			}
			before := stat(t, dir)
			w, err := Write(t.Context(), s.job(dir), false)
			if err != nil || w.Kept < 3 {
				t.Fatalf("%+v %v", w, err)
			}
			if !maps.Equal(snapshot(t, dir), want) {
				t.Error("the pack is not what it was")
			}
			for _, i := range []int{0, 2, 3} {
				if before[Name(i)] != stat(t, dir)[Name(i)] {
					t.Errorf("%s was written again", Name(i))
				}
			}
		})
	}
}

func flip(path string, at int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		return err
	}
	b[0] ^= 1
	_, err = f.WriteAt(b, at)
	return err
}

// TestWriteRefuses: each folder is refused and keeps what it holds.
func TestWriteRefuses(t *testing.T) {
	s := newSample(t, sizes()...)
	other := newSample(t, sizes()...)
	other.st.ExportID, other.st.Sequence = "20260302T010000Z", 2
	var err error
	if other.raw, err = release.Encode(other.st); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		prepare func(dir string) error
		want    fault.Kind
		says    string
	}{
		"another release": {func(d string) error { _, err := Write(t.Context(), other.job(d), false); return err }, fault.Order, other.st.ExportID},
		"only its pack.json": {func(d string) error {
			from, _ := other.write(t)
			return os.Rename(filepath.Join(from, FileManifest), filepath.Join(d, FileManifest))
		}, fault.Order, other.st.ExportID},
		"an unfinished pack of another release": {func(d string) error {
			return os.WriteFile(filepath.Join(d, release.FileStatement), other.raw, 0o600)
		}, fault.Order, other.st.ExportID},
		"another segment size": {func(d string) error {
			j := s.job(d)
			j.SegmentSize = 2 * MinSegment
			_, err := Write(t.Context(), j, false)
			return err
		}, fault.Order, "segments of 2097152 bytes"},
		"a foreign segment":   {func(d string) error { return os.WriteFile(segment(d, 10), nil, 0o600) }, fault.Order, Name(10)},
		"a segment zero":      {func(d string) error { return os.WriteFile(segment(d, -1), nil, 0o600) }, fault.Order, Name(-1)},
		"a foreign pack.json": {func(d string) error { return os.WriteFile(filepath.Join(d, FileManifest), []byte("{}"), 0o600) }, fault.Order, "not one of ours"},
		"a FIFO":              {func(d string) error { return syscall.Mkfifo(segment(d, 1), 0o600) }, fault.Input, Name(1)},
		"a link":              {func(d string) error { return os.Symlink("/etc/hostname", segment(d, 1)) }, fault.Input, Name(1)},
		"a folder":            {func(d string) error { return os.Mkdir(segment(d, 1), 0o700) }, fault.Input, Name(1)},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := c.prepare(dir); err != nil {
				t.Fatal(err)
			}
			before := stat(t, dir)
			for _, dry := range []bool{true, false} {
				_, err := Write(t.Context(), s.job(dir), dry)
				if fault.KindOf(err) != c.want || !strings.Contains(err.Error(), c.says) || len(fault.HintsOf(err)) == 0 {
					t.Errorf("%v (%v)", err, fault.KindOf(err))
				}
			}
			if now := stat(t, dir); !maps.Equal(now, before) {
				t.Errorf("it was changed: %v", now)
			}
		})
	}
	control := t.TempDir()
	if err := os.WriteFile(filepath.Join(control, "lost+found"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Write(t.Context(), s.job(control), false); err != nil {
		t.Errorf("control: %v", err)
	}
}

// TestWriteSizes wants bounds on what an operator may ask for.
func TestWriteSizes(t *testing.T) {
	s := newSample(t)
	for size, want := range map[int64]fault.Kind{MinSegment: fault.None, MinSegment - 1: fault.Input, -1: fault.Input, MaxSegment + 1: fault.Input, DefaultSegment: fault.None} {
		j := s.job(filepath.Join(t.TempDir(), "x"))
		j.SegmentSize = size
		if _, err := Write(t.Context(), j, true); fault.KindOf(err) != want {
			t.Errorf("%d: %v", size, err)
		}
		if _, err := os.Stat(j.Dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("a dry run made %s", j.Dir)
		}
	}
}

// TestWriteOfDamage: a store with a flaw never makes a pack that looks whole.
func TestWriteOfDamage(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(s *sample)
		want release.Reason
	}{
		"flipped": {func(s *sample) {
			b := append([]byte(nil), s.files["mirror/a/f0003"]...)
			b[2_000_000] ^= 1
			s.put(t, "mirror/a/f0003", b)
		}, release.DigestMismatch},
		"longer": {func(s *sample) { s.put(t, "mirror/a/f0002", []byte("12345678901")) }, release.SizeMismatch},
		"filled": {func(s *sample) { s.put(t, "mirror/a/empty", []byte("x")) }, release.SizeMismatch},
		"gone":   {func(s *sample) { _ = s.store.Delete(t.Context(), "mirror/a/f0005") }, release.MissingMember},
	} {
		s := newSample(t, sizes()...)
		c.do(s)
		dir := filepath.Join(t.TempDir(), "x")
		_, err := Write(t.Context(), s.job(dir), false)
		if release.ReasonOf(err) != c.want {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(filepath.Join(dir, FileManifest)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: there is a pack.json", name)
		}
	}
}

// TestWriteFaults lets every write fail once, with and without its effect, and
// wants the next run to finish the same pack.
func TestWriteFaults(t *testing.T) {
	s := newSample(t, 700_000, 900_000, 10)
	dir, _ := s.write(t)
	want := snapshot(t, dir)
	total := 0
	count := s.job(filepath.Join(t.TempDir(), "count"))
	count.Hook = func(durable.Step, string) (bool, error) { total++; return false, nil }
	if _, err := Write(t.Context(), count, false); err != nil {
		t.Fatal(err)
	}
	if total < 25 {
		t.Fatalf("%d steps", total)
	}
	for _, apply := range []bool{false, true} {
		for n := range total {
			dir := filepath.Join(t.TempDir(), "x")
			j := s.job(dir)
			i, failed := 0, durable.Step("")
			j.Hook = func(step durable.Step, _ string) (bool, error) {
				if i++; i == n+1 {
					failed = step
					return apply, syscall.ENOSPC
				}
				return false, nil
			}
			_, err := Write(t.Context(), j, false)
			if !errors.Is(err, syscall.ENOSPC) && failed != durable.StepUnlink {
				t.Errorf("step %d (%s): %v", n, failed, err)
			}
			if err != nil && (fault.KindOf(err) != fault.Transient || len(fault.HintsOf(err)) == 0) {
				t.Errorf("step %d (%s): kind %v", n, failed, fault.KindOf(err))
			}
			if _, serr := os.Stat(filepath.Join(dir, FileManifest)); serr == nil {
				for name, data := range want { // it says that it is whole
					if got, _ := os.ReadFile(filepath.Join(dir, name)); string(got) != data {
						t.Errorf("step %d (%s): pack.json is there, %s is not right", n, failed, name)
					}
				}
			}
			j.Hook = nil
			if _, err := Write(t.Context(), j, false); err != nil {
				t.Errorf("step %d (%s): the next run: %v", n, failed, err)
			}
			if !maps.Equal(snapshot(t, dir), want) {
				t.Errorf("step %d (%s): the next run did not finish the pack", n, failed)
			}
		}
	}
	t.Logf("%d points, each with and without effect", total)
}

// TestWriteCancelled ends at every progress note; what is whole stays.
func TestWriteCancelled(t *testing.T) {
	s := newSample(t, sizes()...)
	dir := filepath.Join(t.TempDir(), "x")
	finished, runs := 0, 0
	for ; ; runs++ {
		ctx, cancel := context.WithCancel(t.Context())
		j := s.job(dir)
		j.Step = func(_ int64, name string) {
			if name == Name(finished) {
				finished++
				cancel()
			}
		}
		w, err := Write(ctx, j, false)
		cancel()
		if err == nil {
			if w.Made > 1 {
				t.Errorf("%+v", w)
			}
			break
		}
		if !errors.Is(err, context.Canceled) || w.Made > 1 {
			t.Fatalf("%+v %v", w, err)
		}
	}
	if runs != 4 {
		t.Errorf("%d runs", runs)
	}
	if two, _ := s.write(t); !maps.Equal(snapshot(t, dir), snapshot(t, two)) {
		t.Error("the pack is another one")
	}
}

// TestWriteTwice: a second writer of one folder is told so.
func TestWriteTwice(t *testing.T) {
	s := newSample(t, sizes()...)
	j := s.job(filepath.Join(t.TempDir(), "x"))
	var second error
	j.Step = func(_ int64, name string) {
		if name == Name(0) {
			k := j
			k.Step = nil
			_, second = Write(t.Context(), k, false)
		}
	}
	if _, err := Write(t.Context(), j, false); err != nil || fault.KindOf(second) != fault.Locked {
		t.Errorf("%v, %v", err, second)
	}
}
