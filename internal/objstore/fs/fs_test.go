package fs_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/objstore"
	"github.com/stella-ops/stella/internal/objstore/fs"
	"github.com/stella-ops/stella/internal/objstore/storetest"
)

func open(t *testing.T, dir string) *fs.Store {
	t.Helper()
	s, err := fs.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
}

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) objstore.Store { return open(t, t.TempDir()) })
}

// TestIrregular: nothing but plain files and directories is opened or listed,
// wherever in the path it stands, and nothing waits for a FIFO.
func TestIrregular(t *testing.T) {
	outside := t.TempDir()
	write(t, outside, "secret", "secret")
	for _, c := range []struct {
		what string
		key  string // of what is read
		make func(dir string) error
	}{
		{"symbolic link", "bad", func(d string) error { return os.Symlink("good", filepath.Join(d, "bad")) }},
		{"symbolic link", "bad", func(d string) error { return os.Symlink(filepath.Join(outside, "secret"), filepath.Join(d, "bad")) }},
		{"symbolic link", "bad", func(d string) error { return os.Symlink("bad", filepath.Join(d, "bad")) }},
		{"symbolic link", "bad/secret", func(d string) error { return os.Symlink(outside, filepath.Join(d, "bad")) }},
		{"symbolic link", "bad/x", func(d string) error { return os.Symlink("sub", filepath.Join(d, "bad")) }},
		{"FIFO", "bad", func(d string) error { return syscall.Mkfifo(filepath.Join(d, "bad"), 0o600) }},
		{"socket", "bad", func(d string) error {
			ln, err := net.Listen("unix", filepath.Join(d, "bad"))
			if err == nil {
				ln.(*net.UnixListener).SetUnlinkOnClose(false)
				err = ln.Close()
			}
			return err
		}},
		{"device", "bad", func(d string) error { return syscall.Mknod(filepath.Join(d, "bad"), syscall.S_IFCHR|0o600, 0x103) }},
	} {
		t.Run(c.what+" "+c.key, func(t *testing.T) {
			dir, err := os.MkdirTemp("", "o") // the path of a socket is short
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(dir) })
			write(t, dir, "good", "good")
			write(t, dir, "sub/x", "x")
			if err := c.make(dir); errors.Is(err, syscall.EPERM) {
				t.Skip("not allowed here: ", err)
			} else if err != nil {
				t.Fatal(err)
			}
			s := open(t, dir)
			_, err = s.Open(t.Context(), c.key, objstore.Get{})
			if !errors.Is(err, objstore.ErrIrregular) || fault.KindOf(err) != fault.Trust || !strings.Contains(err.Error(), c.what) {
				t.Errorf("Open: %v", err)
			}
			var seen []string
			each := func(i objstore.Info) error { seen = append(seen, i.Key); return nil }
			if err := s.List(t.Context(), "", each); !errors.Is(err, objstore.ErrIrregular) || !strings.Contains(err.Error(), `"bad"`) {
				t.Errorf("List gives %q and %v", seen, err)
			}
			// Controls: the same store without the bad one in the way.
			if got := storetest.All(t, storetest.Open(t, s, "good", objstore.Get{})); string(got) != "good" {
				t.Errorf("the plain file holds %q", got)
			}
			if err := s.List(t.Context(), "sub/", each); err != nil {
				t.Errorf("below another prefix: %v", err)
			}
		})
	}
}

// TestRootLink: the root is resolved once.
func TestRootLink(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "one/f", "one")
	write(t, dir, "two/f", "two")
	link := filepath.Join(dir, "latest")
	if err := os.Symlink("one", link); err != nil {
		t.Fatal(err)
	}
	s := open(t, link)
	if err := errors.Join(os.Remove(link), os.Symlink("two", link)); err != nil {
		t.Fatal(err)
	}
	if got := storetest.All(t, storetest.Open(t, s, "f", objstore.Get{})); string(got) != "one" {
		t.Errorf("after the switch it reads %q", got)
	}
	if got := storetest.All(t, storetest.Open(t, open(t, link), "f", objstore.Get{})); string(got) != "two" {
		t.Errorf("opened anew it reads %q", got)
	}
	if place, err := objstore.Parse(s.Place()); err != nil || place.Path != filepath.Join(dir, "one") {
		t.Errorf("place %s: %v", s.Place(), err)
	}
}

func TestOpenDirectory(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "file", "")
	if err := syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, kind := range map[string]fault.Kind{"missing": fault.NotFound, "file": fault.Input, "fifo": fault.Input, ".": fault.None} {
		s, err := fs.Open(filepath.Join(dir, name))
		if fault.KindOf(err) != kind {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			s.Close()
		}
	}
}

// TestChangeWhileReading: a file that is written in place never looks whole.
func TestChangeWhileReading(t *testing.T) {
	for name, change := range map[string]func(path string) error{
		"same size": func(p string) error {
			return errors.Join(os.WriteFile(p, bytes.Repeat([]byte("b"), 1000), 0o600), os.Chtimes(p, time.Time{}, time.Unix(1, 0)))
		},
		"grown": func(p string) error {
			f, err := os.OpenFile(p, os.O_APPEND|os.O_WRONLY, 0)
			if err == nil {
				_, err = f.WriteString("more")
				err = errors.Join(err, f.Close())
			}
			return err
		},
		"cut":     func(p string) error { return os.Truncate(p, 600) },
		"control": func(string) error { return nil },
	} {
		dir := t.TempDir()
		write(t, dir, "f", strings.Repeat("a", 1000))
		s := open(t, dir)
		o := storetest.Open(t, s, "f", objstore.Get{})
		if _, err := io.ReadFull(o.Body, make([]byte, 500)); err != nil {
			t.Fatal(err)
		}
		if err := change(filepath.Join(dir, "f")); err != nil {
			t.Fatal(err)
		}
		_, err := io.ReadAll(o.Body)
		o.Body.Close()
		if name == "control" && err != nil || name != "control" && !errors.Is(err, objstore.ErrChanged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestTag: an edit of the same length that hides its time is another version.
func TestTag(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "f", "one")
	s, when := open(t, dir), time.Unix(1_700_000_000, 0)
	tag := func() string {
		if err := os.Chtimes(filepath.Join(dir, "f"), when, when); err != nil {
			t.Fatal(err)
		}
		o := storetest.Open(t, s, "f", objstore.Get{})
		storetest.All(t, o)
		return o.ETag
	}
	before := tag()
	write(t, dir, "f", "two")
	if after := tag(); after == before {
		t.Errorf("both are %s", after)
	}
}

// TestUnfinished: what a crash in a Put leaves is no object.
func TestUnfinished(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "d/.tmp-x", "half")
	write(t, dir, "d/f", "whole")
	s := open(t, dir)
	var keys []string
	if err := s.List(t.Context(), "", func(i objstore.Info) error { keys = append(keys, i.Key); return nil }); err != nil || len(keys) != 1 {
		t.Errorf("listed %q, %v", keys, err)
	}
	if _, err := s.Open(t.Context(), "d/.tmp-x", objstore.Get{}); !errors.Is(err, objstore.ErrKey) {
		t.Errorf("Open: %v", err)
	}
}

// TestFileAndDirectory: what a file system cannot hold is said, and harms
// nothing.
func TestFileAndDirectory(t *testing.T) {
	s := open(t, t.TempDir())
	storetest.Put(t, s, "a/b", []byte("x"))
	for _, key := range []string{"a", "a/b/c"} {
		if _, err := s.Put(t.Context(), key, strings.NewReader("y"), 1); !errors.Is(err, objstore.ErrKey) || fault.KindOf(err) != fault.Input {
			t.Errorf("%s: %v", key, err)
		}
	}
	if err := s.Delete(t.Context(), "a"); err != nil {
		t.Errorf("deleting what is a directory: %v", err)
	}
	if got := storetest.All(t, storetest.Open(t, s, "a/b", objstore.Get{})); string(got) != "x" {
		t.Errorf("a/b holds %q", got)
	}
}

// TestHostileNames: a name that is no key ends the listing, in words that can
// be printed.
func TestHostileNames(t *testing.T) {
	deep := strings.Repeat("d/", objstore.MaxDepth)
	for name, file := range map[string]string{"escape": "a\x1b[2J", "newline": "a\nb", "not UTF-8": "a\xff", "too deep": deep + "f"} {
		dir := t.TempDir()
		write(t, dir, file, "x")
		err := open(t, dir).List(t.Context(), "", func(objstore.Info) error { return nil })
		if !errors.Is(err, objstore.ErrKey) || fault.KindOf(err) != fault.Trust || strings.ContainsAny(err.Error(), "\x1b\n") || !utf8.ValidString(err.Error()) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
