package mirror_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/mirror"
	"github.com/stella-ops/stella/internal/objstore"
	"github.com/stella-ops/stella/internal/objstore/fs"
	"github.com/stella-ops/stella/internal/release"
)

// onDisk makes a world that reads from a directory.
func onDisk(t *testing.T) (w *world, dir string) {
	t.Helper()
	w = newWorld(t)
	dir = filepath.Join(t.TempDir(), "latest")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	var err error
	if w.source, err = fs.Open(dir); err != nil {
		t.Fatal(err)
	}
	w.from(place(t, "file://"+dir), func(_ context.Context, p objstore.Place) (closer, error) { return fs.Open(p.Path) })
	return w, dir
}

// odd is what may be in the place of a file on a medium that somebody else has
// made.
type odd struct {
	name string
	make func(t *testing.T, path string, data []byte)
	// why a release and a tree are refused.
	why  release.Reason
	tree release.Reason
	kind fault.Kind // of a release; Trust when 0
	root bool       // root is not kept from it
}

func odds() []odd {
	must := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	link := func(to func(path string) string) func(*testing.T, string, []byte) {
		return func(t *testing.T, path string, data []byte) {
			elsewhere := filepath.Join(t.TempDir(), "same")
			must(t, os.WriteFile(elsewhere, data, 0o644)) // the very bytes that the release wants
			if to != nil {
				elsewhere = to(path)
			}
			must(t, os.Symlink(elsewhere, path))
		}
	}
	return []odd{
		{name: "link to the same bytes", why: release.ExtraMember, tree: release.ExtraMember, make: link(nil)},
		{name: "link to a secret", why: release.ExtraMember, tree: release.ExtraMember, make: link(func(string) string { return "/etc/passwd" })},
		{name: "link to a device", why: release.ExtraMember, tree: release.ExtraMember, make: link(func(string) string { return "/dev/zero" })},
		{name: "link to itself", why: release.ExtraMember, tree: release.ExtraMember, make: link(func(path string) string { return path })},
		{name: "link to nothing", why: release.ExtraMember, tree: release.ExtraMember, make: link(func(string) string { return "/no/such" })},
		{name: "FIFO", why: release.ExtraMember, tree: release.ExtraMember, make: func(t *testing.T, path string, _ []byte) { must(t, syscall.Mkfifo(path, 0o644)) }},
		{name: "socket", why: release.ExtraMember, tree: release.ExtraMember, make: func(t *testing.T, path string, _ []byte) {
			short := filepath.Join(os.TempDir(), "s"+filepath.Base(t.TempDir())+strings.ReplaceAll(t.Name(), "/", "")[:8])
			l, err := net.Listen("unix", short) // a path of a socket is short
			must(t, err)
			t.Cleanup(func() { l.Close() })
			must(t, os.Rename(short, path))
		}},
		{name: "device", why: release.ExtraMember, tree: release.ExtraMember, make: func(t *testing.T, path string, _ []byte) {
			if err := syscall.Mknod(path, syscall.S_IFCHR|0o644, 1<<8|5); err != nil {
				t.Skipf("this user may make no device: %v", err)
			}
		}},
		{name: "folder", why: release.MissingMember, make: func(t *testing.T, path string, data []byte) {
			must(t, os.Mkdir(path, 0o755))
			must(t, os.WriteFile(filepath.Join(path, "x"), data, 0o644))
		}},
		{name: "unreadable file", kind: fault.Denied, root: true, make: func(t *testing.T, path string, data []byte) { must(t, os.WriteFile(path, data, 0)) }},
	}
}

// TestOddFiles: what is no regular file is neither read nor waited for, at any
// place of a release, and in a tree.
func TestOddFiles(t *testing.T) {
	t.Parallel()
	for _, c := range odds() {
		if c.root && os.Geteuid() == 0 {
			t.Logf("%s: not shown, since root reads everything", c.name)
			continue
		}
		for _, path := range []string{release.FileStatement, release.FileSignature, release.PathIndex, bundlePath, bundlePath + ".jws", "mirror/community/manifest.json"} {
			t.Run(c.name+" as "+filepath.Base(path), func(t *testing.T) {
				w, dir := onDisk(t)
				one := w.publish(1)
				w.good(one)
				two := w.publish(2)
				if err := os.Remove(filepath.Join(dir, path)); err != nil {
					t.Fatal(err)
				}
				c.make(t, filepath.Join(dir, path), two[path])
				want, kind := c.why, fault.Trust
				if c.kind != fault.None {
					kind = c.kind
				}
				if c.name == "folder" {
					want = map[string]release.Reason{release.FileStatement: release.StatementMissing, release.FileSignature: release.SignatureMissing}[path]
					if want == "" {
						want = release.MissingMember
					}
				}
				_, err := quickly(t, w)
				if fault.KindOf(err) != kind || release.ReasonOf(err) != want {
					t.Errorf("kind %v, reason %q, want %q: %v", fault.KindOf(err), release.ReasonOf(err), want, err)
				}
				w.shows(one)
				if err := os.RemoveAll(filepath.Join(dir, path)); err != nil {
					t.Fatal(err)
				}
				w.put(two)
				w.good(two)
			})
		}
		t.Run(c.name+" in a tree", func(t *testing.T) {
			w, dir := onDisk(t)
			w.feed.Shape = mirror.Tree
			files := map[string][]byte{"a/b.json": []byte("1"), "c.json": []byte("2")}
			w.put(files)
			w.good(files)
			w.at = w.at.Add(time.Minute)
			c.make(t, filepath.Join(dir, "a/odd.json"), []byte("x"))
			_, err := quickly(t, w)
			if release.ReasonOf(err) != c.tree || c.tree != "" && fault.KindOf(err) != fault.Trust {
				t.Errorf("reason %q, want %q: %v", release.ReasonOf(err), c.tree, err)
			}
			if c.tree != "" {
				w.shows(files)
			}
			if err := os.RemoveAll(filepath.Join(dir, "a/odd.json")); err != nil {
				t.Fatal(err)
			}
			files["a/new.json"] = []byte("3")
			w.put(files)
			w.good(files)
		})
	}
}

// quickly syncs, and fails when that hangs.
func quickly(t *testing.T, w *world) (*mirror.Result, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	res, err := w.m.Sync(ctx, w.feed, false)
	if ctx.Err() != nil {
		t.Fatalf("it hangs: %v", err)
	}
	return res, err
}

// TestOddSource: the source itself is no folder.
func TestOddSource(t *testing.T) {
	t.Parallel()
	w, dir := onDisk(t)
	one := w.publish(1)
	w.good(one)
	open := w.m.Open
	w.m.Open = func(_ context.Context, p objstore.Place) (objstore.Reader, error) { return fs.Open(p.Path) }
	for name, c := range map[string]struct {
		kind fault.Kind
		make func(path string) error
	}{
		"nothing": {fault.NotFound, func(string) error { return nil }},
		"a file":  {fault.Input, func(path string) error { return os.WriteFile(path, nil, 0o644) }},
		"a FIFO":  {fault.Input, func(path string) error { return syscall.Mkfifo(path, 0o644) }},
		"a loop":  {fault.Input, func(path string) error { return os.Symlink(path, path) }},
	} {
		path := filepath.Join(filepath.Dir(dir), strings.ReplaceAll(name, " ", "-"))
		if err := c.make(path); err != nil {
			t.Fatal(err)
		}
		w.feed.Source = place(t, "file://"+path)
		if _, err := quickly(t, w); fault.KindOf(err) != c.kind || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
		w.shows(one)
	}
	w.m.Open, w.feed.Source = open, place(t, "file://"+dir)
	w.good(w.publish(2))
}
