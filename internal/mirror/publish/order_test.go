package publish

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/objstore"
	"github.com/stella-ops/stella/internal/objstore/mem"
	"github.com/stella-ops/stella/internal/release"
	"github.com/stella-ops/stella/internal/testenv/exports"
)

// TestWhatMayFollow looks at what is shown before anything is written.
func TestWhatMayFollow(t *testing.T) {
	w := newWorld(t)
	stranger := w.newKey(jose.EdDSA, "stranger")
	strange := func(o *Options) { o.Signers = []Signer{{Signer: stranger.Signer}} }
	for _, c := range []struct {
		name   string
		first  func(*Options)
		second func(*Options)
		kind   fault.Kind
		seq    int64
	}{
		{"control", func(*Options) {}, func(*Options) {}, fault.None, 2},
		{"a leap", func(*Options) {}, func(o *Options) { o.Sequence = 9 }, fault.None, 9},
		{"after a leap", func(o *Options) { o.Sequence = 9 }, func(*Options) {}, fault.None, 10},
		{"same number", func(*Options) {}, func(o *Options) { o.Sequence = 1 }, fault.Order, 0},
		{"clock goes back", func(*Options) {}, func(o *Options) { o.Now = func() time.Time { return w.at.Add(-time.Minute) } }, fault.Order, 0},
		{"another feed", func(o *Options) { o.Feed = "excititor" }, func(*Options) {}, fault.Input, 0},
		{"another feed, numbered", func(o *Options) { o.Feed = "excititor" }, func(o *Options) { o.Sequence = 9 }, fault.Input, 0},
		{"a stranger's", strange, func(*Options) {}, fault.Trust, 0},
		{"a stranger's, numbered", strange, func(o *Options) { o.Sequence = 9 }, fault.None, 9},
		{"old key, known to the mirrors", strange, func(o *Options) { o.Policy = w.policyOf("", w.key, stranger) }, fault.None, 2},
		{"no key", func(*Options) {}, func(o *Options) { o.Signers = nil }, fault.Input, 0},
		{"a key twice", func(*Options) {}, func(o *Options) { o.Signers = append(o.Signers, o.Signers...) }, fault.Input, 0},
		{"no feed", func(*Options) {}, func(o *Options) { o.Feed = "" }, fault.Input, 0},
		{"id is a path", func(*Options) {}, func(o *Options) { o.ExportID = "a/b" }, fault.Input, 0},
		{"id is latest", func(*Options) {}, func(o *Options) { o.ExportID = "latest" }, fault.Input, 0},
		{"no lifetime", func(*Options) {}, func(o *Options) { o.Lifetime = time.Millisecond }, fault.Input, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := mem.New("m")
			o := w.options("e1")
			c.first(&o)
			w.publish(w.export(1), Bucket(s), o)
			before := get(t, s, "latest/"+release.FileStatement)
			o = w.options("e2")
			c.second(&o)
			r, err := Publish(t.Context(), w.export(2), Bucket(s), o)
			if fault.KindOf(err) != c.kind {
				t.Fatalf("kind %s: %v", fault.KindOf(err), err)
			}
			if err != nil {
				if !bytes.Equal(get(t, s, "latest/"+release.FileStatement), before) || len(keys(t, s, "e2/")) > 0 {
					t.Error("something was written")
				}
				return
			}
			if r.Sequence != c.seq {
				t.Errorf("sequence %d, want %d", r.Sequence, c.seq)
			}
			w.mustShow(s, "latest")
		})
	}
}

// TestCutOffOften: signatures of runs that were cut off do not pile up until
// readers refuse the file.
func TestCutOffOften(t *testing.T) {
	w := newWorld(t)
	s := mem.New("m")
	w.publish(w.export(1), Bucket(s), w.options("e1"))
	from := w.export(2)
	for n := range 20 {
		s.Hook = func(op objstore.Op, key string) (bool, error) {
			if op == objstore.OpWrite && key == "latest/"+release.FileStatement {
				return false, errBoom
			}
			return false, nil
		}
		w.at = w.at.Add(time.Second)
		if _, err := Publish(t.Context(), from, Bucket(s), w.options(fmt.Sprintf("cut%d", n))); !errors.Is(err, errBoom) {
			t.Fatal(err)
		}
		s.Hook = nil
		if st := w.mustShow(s, "latest"); st.ExportID != "e1" {
			t.Fatal(st.ExportID)
		}
	}
	if n := bytes.Count(get(t, s, "latest/"+release.FileSignature), []byte("\n")); n != 2 {
		t.Errorf("%d signatures", n)
	}
	if r := w.publish(from, Bucket(s), w.options("e2")); r.Sequence != 2 {
		t.Errorf("sequence %d", r.Sequence)
	}
}

// TestTwoPublishers: the second one comes while the first one sends members.
func TestTwoPublishers(t *testing.T) {
	w := newWorld(t)
	s := mem.New("m")
	w.publish(w.export(1), Bucket(s), w.options("e1"))
	o, once := w.options("e2"), false
	o.Notify = func(e Event) {
		if e.Type == Uploaded && !once {
			once = true
			w.publish(w.export(3), Bucket(s), w.options("e3"))
		}
	}
	if _, err := Publish(t.Context(), w.export(2), Bucket(s), o); fault.KindOf(err) != fault.Transient {
		t.Errorf("%v", err)
	}
	if st := w.mustShow(s, "latest"); st.ExportID != "e3" {
		t.Errorf("shown is %s", st.ExportID)
	}
	d := w.directory(t.TempDir())
	o = w.options("e2")
	o.Notify = func(e Event) {
		if e.Type == Uploaded {
			if _, err := Publish(t.Context(), w.export(3), d, w.options("e3")); fault.KindOf(err) != fault.Locked {
				t.Errorf("in a directory: %v", err)
			}
		}
	}
	w.publish(w.export(2), d, o)
}

// TestCopies: members below latest/ for readers that know no statement.
func TestCopies(t *testing.T) {
	w := newWorld(t)
	s := mem.New("m")
	put(t, s, "latest/mirror/primary/data/g0/000/000000.bin", bytes.Repeat([]byte("x"), 100)) // there before, of the same size
	step := func(id, from string, copies bool, copied, removed int) {
		t.Helper()
		o := w.options(id)
		o.CopyMembers = copies
		r := w.publish(from, Bucket(s), o)
		if r.Copied != copied || r.Removed != removed {
			t.Errorf("%s: %d copied and %d removed, want %d and %d", id, r.Copied, r.Removed, copied, removed)
		}
		if copies {
			w.mustShow(s, "latest", "latest")
		} else {
			w.mustShow(s, "latest")
		}
	}
	a := w.export(1)
	b := w.export(2, func(e *exports.Options) { e.Domains = []string{"primary"} })
	step("e1", a, false, 0, 0)
	step("e2", a, true, 10, 0)
	step("e3", a, true, 0, 0)
	write(t, filepath.Join(a, "mirror/primary/more.txt"), "more")
	step("e4", a, true, 1, 0)
	step("e5", b, false, 0, 0)
	step("e6", a, true, 11, 0) // nothing vouches for what is there
	step("e7", b, true, 6, 4)  // an empty file is the same; three of the other domain and more.txt go

	// A run is cut off while it copies, and then comes what was there before.
	s.Hook = func(op objstore.Op, key string) (bool, error) {
		if op == objstore.OpWrite && key == "latest/mirror/primary/manifest.json" {
			return true, errBoom
		}
		return false, nil
	}
	o := w.options("e8")
	o.CopyMembers = true
	if _, err := Publish(t.Context(), a, Bucket(s), o); !errors.Is(err, errBoom) {
		t.Fatal(err)
	}
	s.Hook = nil
	step("e9", b, true, 7, 3)
}

// TestDirectories: what is in the way in a directory.
func TestDirectories(t *testing.T) {
	w := newWorld(t)
	if _, err := Directory(filepath.Join(t.TempDir(), "no")); fault.KindOf(err) != fault.NotFound {
		t.Errorf("a missing directory: %v", err)
	}
	for _, c := range []struct {
		name   string
		change func(dir string) error
		kind   fault.Kind
	}{
		{"control", func(string) error { return nil }, fault.None},
		{"link to an export without a statement", func(dir string) error {
			return errors.Join(os.Mkdir(dir+"/e0", 0o755), os.Symlink("e0", dir+"/latest"))
		}, fault.None},
		{"link to nothing", func(dir string) error { return os.Symlink("e0", dir+"/latest") }, fault.None},
		{"left-overs", func(dir string) error {
			return errors.Join(os.MkdirAll(dir+"/.publish-e1/mirror", 0o755), os.Symlink("x", dir+"/.latest-x"))
		}, fault.None},
		{"folder", func(dir string) error { return os.Mkdir(dir+"/latest", 0o755) }, fault.Input},
		{"link elsewhere", func(dir string) error { return os.Symlink("../e1", dir+"/latest") }, fault.Input},
		{"absolute link", func(dir string) error { return os.Symlink("/etc", dir+"/latest") }, fault.Input},
		{"file of our name", func(dir string) error { return os.WriteFile(dir+"/e1", nil, 0o644) }, fault.Order},
		{"folder of our name", func(dir string) error { return os.Mkdir(dir+"/e1", 0o755) }, fault.Order},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := c.change(dir); err != nil {
				t.Fatal(err)
			}
			_, err := Publish(t.Context(), w.export(1), w.directory(dir), w.options("e1"))
			if fault.KindOf(err) != c.kind {
				t.Fatalf("kind %s: %v", fault.KindOf(err), err)
			}
			if err != nil {
				return
			}
			w.read(dir)
			entries, err := os.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				if strings.HasPrefix(e.Name(), stagePrefix) || strings.HasPrefix(e.Name(), linkPrefix) {
					t.Errorf("left over: %s", e.Name())
				}
			}
		})
	}
	// Taken up, but changed since.
	dir := t.TempDir()
	d, from := w.directory(dir), w.export(1)
	w.publish(from, d, w.options("e1"))
	if err := os.Remove(dir + "/latest"); err != nil {
		t.Fatal(err)
	}
	index := dir + "/e1/" + release.PathIndex
	data, err := os.ReadFile(index)
	if err != nil {
		t.Fatal(err)
	}
	write(t, index, strings.Replace(string(data), "1", "2", 1))
	if _, err := Publish(t.Context(), from, d, w.options("e1")); release.ReasonOf(err) != release.DigestMismatch {
		t.Errorf("changed since: %v", err)
	}
	write(t, index, string(data))
	if r := w.publish(from, d, w.options("e1")); r.Outcome != Finished {
		t.Errorf("control: %+v", r)
	}
}

// TestReadInParts reads a member as a multipart upload does, each part twice.
func TestReadInParts(t *testing.T) {
	w := newWorld(t)
	f, err := openFolder(w.export(1))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m := &file{Member: release.Member{Path: "mirror/primary/bundle.json"}, from: f}
	if err := m.read(t.Context(), 1<<20); err != nil {
		t.Fatal(err)
	}
	for _, flaw := range []string{"", "digest", "skipped", "cut"} {
		part, r, was := m.Size/3, m.open(t.Context()), m.SHA256
		if flaw == "digest" {
			m.SHA256 = strings.Repeat("0", 64)
		}
		var sent bytes.Buffer
		err := error(nil)
		for at := int64(0); at < m.Size && err == nil; at += part {
			for _, to := range []io.Writer{io.Discard, &sent} {
				if flaw == "skipped" && at == 0 {
					continue
				}
				if _, serr := r.Seek(at, io.SeekStart); serr != nil {
					t.Fatal(serr)
				}
				if _, err = io.CopyN(to, r, min(part, m.Size-at)); err != nil {
					break
				}
			}
			if flaw == "cut" {
				break
			}
		}
		if err == nil {
			err = r.whole()
		}
		if (err == nil) != (flaw == "") || flaw == "" && !bytes.Equal(sent.Bytes(), m.data) || flaw == "digest" && !errors.Is(err, objstore.ErrChanged) {
			t.Errorf("%q: %d bytes, %v", flaw, sent.Len(), err)
		}
		m.SHA256 = was
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}
