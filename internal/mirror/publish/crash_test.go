package publish

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/objstore"
	objfs "github.com/stella-ops/stella/internal/objstore/fs"
	"github.com/stella-ops/stella/internal/objstore/mem"
	"github.com/stella-ops/stella/internal/release"
)

var errBoom = errors.New("injected")

// TestEveryWriteOfABucket fails each write and removal of a publication, with
// and without its effect. Readers find the release before or the new one; and
// publishing again succeeds: under the same id, and under the next one.
func TestEveryWriteOfABucket(t *testing.T) {
	w := newWorld(t)
	older, newer := w.export(1), w.export(2, unsigned) // SignBundles and ES256: a second signature is another one
	for _, copies := range []bool{false, true} {
		for _, first := range []bool{false, true} {
			base := mem.New("base")
			o := w.options("20260301T110000Z")
			o.CopyMembers = copies
			if !first {
				w.publish(older, Bucket(base), o)
			}
			o.ExportID, o.SignBundles = "20260301T120000Z", true
			n, points := 0, 0
			for ; ; n++ {
				done := true
				for _, apply := range []bool{false, true} {
					s := clone(t, base)
					writes := 0
					s.Hook = func(op objstore.Op, _ string) (bool, error) {
						if op != objstore.OpWrite && op != objstore.OpDelete {
							return false, nil
						}
						writes++
						if writes == n+1 {
							return apply, errBoom
						}
						return false, nil
					}
					_, err := Publish(t.Context(), newer, Bucket(s), o)
					s.Hook = nil
					if err == nil {
						continue
					}
					done = false
					points++
					if !errors.Is(err, errBoom) {
						t.Fatalf("write %d: %v", n, err)
					}
					w.afterCrash(s, newer, o, first, fmt.Sprintf("copies %v, first %v, write %d, persisted %v", copies, first, n, apply))
				}
				if done {
					break
				}
			}
			t.Logf("copies %v, first %v: %d points", copies, first, points)
			if points < 20 {
				t.Errorf("only %d points", points)
			}
		}
	}
}

func (w *world) afterCrash(s *mem.Store, from string, o Options, first bool, what string) {
	w.t.Helper()
	if first && get(w.t, s, "latest/"+release.FileStatement) == nil {
		// Nothing is shown yet, as before.
	} else {
		w.mustShow(s, "latest")
	}
	for _, id := range []string{o.ExportID, "20260301T130000Z"} {
		again, also := clone(w.t, s), []string{}
		o.ExportID = id
		if _, err := Publish(w.t.Context(), from, Bucket(again), o); err != nil {
			w.t.Fatalf("%s: again as %s: %v", what, id, err)
		}
		if o.CopyMembers {
			also = []string{"latest"}
		}
		st := w.mustShow(again, "latest", also...)
		if st.ExportID != id {
			w.t.Fatalf("%s: again as %s: shown is %s", what, id, st.ExportID)
		}
		if n := bytes.Count(get(w.t, again, "latest/"+release.FileSignature), []byte("\n")); n != 1 {
			w.t.Fatalf("%s: again as %s: %d signatures are left", what, id, n)
		}
		if o.CopyMembers {
			if has := keys(w.t, again, "latest/"); len(has) != len(st.Members)+2 {
				w.t.Fatalf("%s: latest/ holds %d objects for %d members", what, len(has), len(st.Members))
			}
		}
	}
}

// TestReadersBetweenSteps takes the pair as it is after each write, and reads
// its two objects at any two of these moments, in both orders.
func TestReadersBetweenSteps(t *testing.T) {
	w := newWorld(t)
	s := mem.New("m")
	older := w.publish(w.export(1), Bucket(s), w.options("e1"))
	type moment struct{ data, jws []byte }
	var moments []moment
	look := func() {
		m := moment{get(t, s, "latest/"+release.FileStatement), get(t, s, "latest/"+release.FileSignature)}
		if last := len(moments) - 1; last < 0 || !bytes.Equal(moments[last].data, m.data) || !bytes.Equal(moments[last].jws, m.jws) {
			moments = append(moments, m)
		}
	}
	s.Hook = func(op objstore.Op, _ string) (bool, error) {
		if op == objstore.OpWrite {
			look()
		}
		return false, nil
	}
	newer := w.publish(w.export(2), Bucket(s), w.options("e2"))
	s.Hook = nil
	look()
	if len(moments) != 4 {
		t.Fatalf("the pair had %d states, want old, two mixed ones and new", len(moments))
	}
	torn := 0
	for i, a := range moments {
		for k, b := range moments[i:] {
			for _, m := range []moment{{a.data, b.jws}, {b.data, a.jws}} { // statement first, signatures first
				st, _, err := w.policy.Verify(m.data, m.jws, "concelier", w.at)
				switch {
				case err == nil && st.ExportID != older.ExportID && st.ExportID != newer.ExportID:
					t.Errorf("states %d and %d: %s", i, i+k, st.ExportID)
				case err != nil && k <= 1:
					t.Errorf("states %d and %d, one write between the two reads: %v", i, i+k, err)
				case err != nil && release.ReasonOf(err) != release.SignatureInvalid:
					t.Errorf("states %d and %d: %v", i, i+k, err)
				case err != nil:
					torn++ // such a reader reads again: two writes lay between its two reads
				}
			}
		}
	}
	t.Logf("%d of 20 reads are torn, all with two or more writes in between", torn)
	if torn > 4 {
		t.Errorf("%d torn reads", torn)
	}
}

// TestEveryStepOfADirectory does the same for a directory.
func TestEveryStepOfADirectory(t *testing.T) {
	w := newWorld(t)
	older, newer := w.export(1), w.export(2, unsigned)
	points := 0
	for n := 0; ; n++ {
		done := true
		for _, apply := range []bool{false, true} {
			dir := t.TempDir()
			d := w.directory(dir)
			w.publish(older, d, w.options("e1"))
			steps := 0
			d.hook = func(step, string) (bool, error) {
				if steps++; steps == n+1 {
					return apply, errBoom
				}
				return false, nil
			}
			o := w.options("e2")
			o.SignBundles = true
			_, err := Publish(t.Context(), newer, d, o)
			d.hook = nil
			if err == nil {
				continue
			}
			done = false
			points++
			if !errors.Is(err, errBoom) {
				t.Fatal(err)
			}
			w.read(dir)
			for _, id := range []string{"e2", "e3"} {
				o.ExportID = id
				w.at = w.at.Add(time.Second)
				if _, err := Publish(t.Context(), newer, d, o); err != nil {
					t.Fatalf("step %d, persisted %v: again as %s: %v", n, apply, id, err)
				}
				if st := w.read(dir); st.ExportID != id {
					t.Fatalf("step %d: shown is %s", n, st.ExportID)
				}
			}
		}
		if done {
			break
		}
	}
	t.Logf("%d points", points)
	if points < 20 {
		t.Errorf("only %d points", points)
	}
}

func (w *world) directory(dir string) *Dir {
	w.t.Helper()
	d, err := Directory(dir)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { d.Close() })
	return d
}

// read reads a directory as a mirror does, which follows the link once.
func (w *world) read(dir string) *release.Statement {
	w.t.Helper()
	s, err := objfs.Open(dir + "/latest")
	if err != nil {
		w.t.Fatal(err)
	}
	defer s.Close()
	data, jws := get(w.t, s, release.FileStatement), get(w.t, s, release.FileSignature)
	st, _, err := w.policy.Verify(data, jws, "concelier", w.at)
	if err != nil {
		w.t.Fatal(err)
	}
	up, err := objfs.Open(dir)
	if err != nil {
		w.t.Fatal(err)
	}
	defer up.Close()
	w.whole(up, st.ExportID, st)
	if have := keys(w.t, up, st.ExportID+"/"); len(have) != len(st.Members)+2 {
		w.t.Fatalf("export %s holds %d files for %d members", st.ExportID, len(have), len(st.Members))
	}
	return st
}
