package mirror_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/mirror"
	"github.com/stella-ops/stella/internal/mirror/pack"
	"github.com/stella-ops/stella/internal/release"
)

// change edits a segment; with hide pack.json says that it has always been so.
func change(t *testing.T, dir string, i int, hide bool, edit func([]byte)) {
	t.Helper()
	path := filepath.Join(dir, pack.Name(i))
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	edit(data)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if hide {
		sum := sha256.Sum256(data)
		editPack(t, dir, func(m *pack.Manifest) { m.Segments[i].SHA256 = hex.EncodeToString(sum[:]) })
	}
}

// TestUnpackDamage: a bad copy is named and is no refusal of the release; a bad
// release is a refusal. What is shown stays, and a good copy is taken after it.
func TestUnpackDamage(t *testing.T) {
	w := newWorld(t)
	one, dir1 := w.packed(1)
	two, dir2 := w.packed(2)
	all := []int{0, 1, 2, 3, 4}
	flip := func(at int) func([]byte) { return func(b []byte) { b[at] ^= 1 } }
	header := func(b []byte) {
		i := strings.Index(string(b), "mirror/index.json\x00")
		if i < 0 {
			t.Fatal("the index is in another segment")
		}
		b[i+1] ^= 1
	}
	for name, c := range map[string]struct {
		flaw     func(dir string)
		segments []int
		damaged  int // segment that is named
		want     error
		reason   release.Reason
	}{
		"a byte of a bundle":               {func(d string) { change(t, d, 1, false, flip(500_000)) }, all, 1, pack.ErrDamaged, ""},
		"a byte of a bundle, hidden":       {func(d string) { change(t, d, 1, true, flip(500_000)) }, all, -1, nil, release.DigestMismatch},
		"a header":                         {func(d string) { change(t, d, 0, false, header) }, all, 0, pack.ErrDamaged, ""},
		"a header, hidden":                 {func(d string) { change(t, d, 0, true, header) }, all, -1, pack.ErrStream, ""},
		"a byte of a part of the pack":     {func(d string) { change(t, d, 1, false, flip(500_000)) }, []int{0, 1}, 1, pack.ErrDamaged, ""},
		"a byte behind a hole":             {func(d string) { change(t, d, 1, false, flip(500_000)) }, []int{1}, 1, pack.ErrDamaged, ""},
		"a byte of a whole member, partly": {func(d string) { change(t, d, 3, false, flip(700_000)) }, []int{2, 3}, 3, pack.ErrDamaged, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := w.site()
			if _, err := s.unpack(dir1); err != nil {
				t.Fatal(err)
			}
			dir := stick(t, dir2, c.segments...)
			c.flaw(dir)
			_, err := s.unpack(dir)
			if fault.KindOf(err) != fault.Trust || c.want != nil && !errors.Is(err, c.want) || release.ReasonOf(err) != c.reason {
				t.Errorf("%v (%v)", err, fault.KindOf(err))
			}
			if c.damaged >= 0 && (!strings.Contains(fmt.Sprint(err), filepath.Join(dir, pack.Name(c.damaged))) || len(fault.HintsOf(err)) == 0) {
				t.Errorf("it does not name the segment: %v", err)
			}
			s.shows(one)
			if h := history(t, s.m); (len(h) == 2) != (c.reason != "") {
				t.Errorf("%q", h)
			}
			if s.slept != 0 {
				t.Errorf("it waited %s", s.slept)
			}
			if _, err := s.unpack(stick(t, dir2, all...)); err != nil {
				t.Errorf("a good copy: %v", err)
			}
			s.shows(two)
			tidy(t, s.m)
		})
	}
}

// TestUnpackSwapped: segments under each other's names.
func TestUnpackSwapped(t *testing.T) {
	w := newWorld(t)
	_, dir := w.packed(1)
	bad := stick(t, dir, 0, 3, 4)
	for from, to := range map[int]int{1: 2, 2: 1} {
		data, err := os.ReadFile(filepath.Join(dir, pack.Name(from)))
		if err == nil {
			err = os.WriteFile(filepath.Join(bad, pack.Name(to)), data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	s := w.site()
	if _, err := s.unpack(bad); !errors.Is(err, pack.ErrDamaged) {
		t.Errorf("%v", err)
	}
}

// TestUnpackOwnDisk: what was taken and then went wrong on the site's own disk
// is asked for again; it is no refusal of the release.
func TestUnpackOwnDisk(t *testing.T) {
	w := newWorld(t)
	one, dir := w.packed(1)
	first, rest := []int{1, 2, 4}, []int{0, 3}
	spoil := func(t *testing.T, s *world, glob string) {
		t.Helper()
		paths, err := filepath.Glob(filepath.Join(s.m.Folder("concelier"), glob))
		if err != nil || len(paths) == 0 {
			t.Fatalf("%v %v", paths, err)
		}
		for _, path := range paths {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if len(data) > 0 {
				data[len(data)/2] ^= 1
			}
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, glob := range map[string]string{"staged members": "staging/*.part", "kept pieces": "unpack/*/*"} {
		t.Run(name, func(t *testing.T) {
			s := w.site()
			if _, err := s.unpack(stick(t, dir, first...)); fault.KindOf(err) != fault.Partial {
				t.Fatal(err)
			}
			spoil(t, s, glob)
			for asked := 0; ; asked++ {
				res, err := s.unpack(stick(t, dir, rest...))
				if err == nil {
					if asked == 0 {
						t.Error("it did not notice")
					}
					break
				}
				if fault.KindOf(err) != fault.Partial || len(res.Missing) == 0 || asked > 20 {
					t.Fatalf("%+v %v", res, err)
				}
				if res, err = s.unpack(stick(t, dir, first...)); err == nil && res.Outcome == mirror.Updated {
					break
				}
			}
			s.shows(one)
			tidy(t, s.m)
			if h := history(t, s.m); len(h) != 1 {
				t.Errorf("%q", h)
			}
		})
	}
}

// TestUnpackBundleSignature: a bundle that came before its signature is held to
// it all the same.
func TestUnpackBundleSignature(t *testing.T) {
	w := newWorld(t)
	files := w.cut(w.bulky(1, nil))
	control := w.forged(files)
	for reason, key := range map[release.Reason]string{release.KeyUnknown: "stranger", release.SignatureInvalid: "k1"} {
		jws, err := w.keys[key].SignDetached(map[string]any{"provider": "default"}, []byte("another bundle"))
		if err != nil {
			t.Fatal(err)
		}
		w.unsigned(reason, w.forged(w.restated(with(files, bundlePath+".jws", []byte(jws)))))
	}
	for _, sticks := range [][]string{{stick(t, control, 0, 1, 2, 3), stick(t, control, 4, 5)}, {stick(t, control, 4, 5), stick(t, control, 0, 1, 2, 3)}} {
		s := w.site()
		if _, err := s.unpack(sticks[0]); fault.KindOf(err) != fault.Partial {
			t.Errorf("control: %v", err)
		}
		if _, err := s.unpack(sticks[1]); err != nil {
			t.Errorf("control: %v", err)
		}
	}
}

// unsigned wants a pack to be refused, at once and stick by stick.
func (w *world) unsigned(reason release.Reason, dir string) {
	t := w.t
	t.Helper()
	for _, sticks := range [][]string{{dir}, {stick(t, dir, 0, 1, 2, 3), stick(t, dir, 4, 5)}, {stick(t, dir, 4, 5), stick(t, dir, 0, 1, 2, 3)}} {
		s := w.site()
		for i, one := range sticks {
			_, err := s.unpack(one)
			if last := i == len(sticks)-1; last && release.ReasonOf(err) != reason || !last && fault.KindOf(err) != fault.Partial {
				t.Errorf("stick %d of %d: %v", i+1, len(sticks), err)
			}
		}
		if h := history(t, s.m); len(h) != 1 || !strings.HasSuffix(h[0], string(reason)) {
			t.Errorf("%q", h)
		}
		if st, err := s.m.Status("concelier"); err != nil || st.Shown.ExportID != "" || len(st.Releases) != 0 {
			t.Errorf("%+v %v", st, err)
		}
	}
}

// cut lengthens the bundle so that its signature begins a segment.
func (w *world) cut(files map[string][]byte) map[string][]byte {
	w.t.Helper()
	var at int
	for path, data := range files {
		if path < bundlePath && path != release.FileStatement {
			at += 512 + (len(data)+511)/512*512
		}
	}
	at += 512
	more := pack.MinSegment - (at+len(files[bundlePath]))%pack.MinSegment
	bundle := append(bytes.Clone(files[bundlePath]), bytes.Repeat([]byte(" "), more)...)
	jws, err := w.keys["k1"].SignDetached(map[string]any{"provider": "default"}, bundle)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.restated(with(with(files, bundlePath, bundle), bundlePath+".jws", []byte(jws)))
}

// restated makes the statement of changed files.
func (w *world) restated(files map[string][]byte) map[string][]byte {
	delete(files, release.FileStatement)
	delete(files, release.FileSignature)
	statement := w.state(1, files, nil)
	files[release.FileStatement], files[release.FileSignature] = statement, w.sign(statement, "k1")
	return files
}

// forged packs files that no mirror of ours has accepted.
func (w *world) forged(files map[string][]byte) string {
	w.t.Helper()
	w.put(files)
	st, err := release.ParseStatement(files[release.FileStatement])
	if err != nil {
		w.t.Fatal(err)
	}
	dir := filepath.Join(w.t.TempDir(), "stick")
	if _, err := pack.Write(w.t.Context(), pack.Job{
		Release: st, Statement: files[release.FileStatement], Signatures: files[release.FileSignature],
		From: w.source, Dir: dir, SegmentSize: pack.MinSegment,
	}, false); err != nil {
		w.t.Fatal(err)
	}
	return dir
}

// TestUnpackHiddenFlaw: a pack that was made to look whole around a wrong byte
// is refused as a bad release also when its segments come one by one; good ones
// are taken after it.
func TestUnpackHiddenFlaw(t *testing.T) {
	w := newWorld(t)
	one, good := w.packed(1)
	all := []int{0, 1, 2, 3, 4}
	bad := stick(t, good, all...)
	change(t, bad, 1, true, func(b []byte) { b[500_000] ^= 1 })
	for _, order := range [][]int{all, {4, 3, 2, 1, 0}} {
		s := w.site()
		for k, i := range order {
			_, err := s.unpack(stick(t, bad, i))
			if release.ReasonOf(err) == release.DigestMismatch {
				break
			}
			if fault.KindOf(err) != fault.Partial || k == len(all)-1 {
				t.Errorf("after %d: %v", k+1, err)
			}
		}
		if h := history(t, s.m); len(h) != 1 || !strings.HasSuffix(h[0], "digest_mismatch") {
			t.Errorf("%q", h)
		}
		for _, i := range order {
			if _, err := s.unpack(stick(t, good, i)); err == nil {
				break
			}
		}
		s.shows(one)
		tidy(t, s.m)
	}
}
