package mirror_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/ledger"
	"github.com/stella-ops/stella/internal/mirror"
	"github.com/stella-ops/stella/internal/mirror/pack"
	"github.com/stella-ops/stella/internal/mirror/store"
	"github.com/stella-ops/stella/internal/objstore"
	"github.com/stella-ops/stella/internal/release"
)

// site is a mirror behind the gap: it has the same policy and no line.
func (w *world) site() *world {
	w.t.Helper()
	s, m := *w, *w.m
	m.Dir = w.t.TempDir()
	m.Open = func(context.Context, objstore.Place) (objstore.Reader, error) {
		w.t.Error("it opened a line")
		return nil, errors.New("no line")
	}
	s.events = nil
	m.Notify = func(e mirror.Event) { s.events = append(s.events, e) }
	m.Sleep = func(_ context.Context, d time.Duration) error { s.slept += d; return nil }
	s.m, s.slept = &m, 0
	return &s
}

func (w *world) unpack(dirs ...string) (*mirror.UnpackResult, error) {
	w.t.Helper()
	return w.m.Unpack(w.t.Context(), "concelier", dirs, false)
}

// stick copies some segments of a pack, with the small files.
func stick(t *testing.T, from string, segments ...int) string {
	t.Helper()
	dir := t.TempDir()
	for name, data := range folder(t, from) {
		take := !strings.HasPrefix(name, "segment-")
		for _, i := range segments {
			take = take || name == pack.Name(i)
		}
		if !take {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// history lists the kinds and reasons of the record.
func history(t *testing.T, m *mirror.Mirror) (out []string) {
	t.Helper()
	s, err := store.Open(m.Folder("concelier"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Audit(func(e *ledger.Entry, ev *store.Event) error {
		line := e.Kind + " " + ev.ExportID + " " + strings.SplitN(ev.Source, "/", 2)[0]
		if ev.Refusal != nil {
			line += " " + string(ev.Refusal.Reason)
		}
		out = append(out, line)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

// tidy wants nothing to be left of what was taken.
func tidy(t *testing.T, m *mirror.Mirror) {
	t.Helper()
	for _, glob := range []string{"unpack", "staging/*"} {
		if left, err := filepath.Glob(filepath.Join(m.Folder("concelier"), glob)); err != nil || len(left) != 0 {
			t.Errorf("left: %v %v", left, err)
		}
	}
}

func TestUnpack(t *testing.T) {
	w := newWorld(t)
	one, dir1 := w.packed(1)
	two, dir2 := w.packed(2)
	s := w.site()
	dry, err := s.m.Unpack(t.Context(), "concelier", []string{dir1}, true)
	if err != nil || dry.Outcome != mirror.Updated || !dry.DryRun || dry.ExportID != "20260301T010000Z" {
		t.Errorf("%+v %v", dry, err)
	}
	if _, err := os.Stat(s.m.Folder("concelier")); !errors.Is(err, os.ErrNotExist) {
		t.Error("a dry run made the folder")
	}
	res, err := s.unpack(dir1)
	if err != nil || res.Outcome != mirror.Updated || res.Here != res.Segments || !strings.HasPrefix(res.Source, "pack:/") {
		t.Fatalf("%+v %v", res, err)
	}
	s.shows(one)
	if res, err = s.unpack(dir1); err != nil || res.Outcome != mirror.Unchanged {
		t.Errorf("%+v %v", res, err)
	}
	if res, err = s.unpack(dir2); err != nil || res.Outcome != mirror.Updated || res.Before != "20260301T010000Z" || res.Fetched != 10 {
		t.Errorf("%+v %v", res, err)
	}
	s.shows(two)
	res, err = s.unpack(dir1)
	if release.ReasonOf(err) != release.Rollback || fault.KindOf(err) != fault.Trust {
		t.Errorf("older: %+v %v", res, err)
	}
	s.shows(two)
	want := []string{"mirror.accepted 20260301T010000Z pack:", "mirror.accepted 20260301T020000Z pack:", "mirror.refused 20260301T010000Z pack: rollback"}
	if got := history(t, s.m); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	tidy(t, s.m)
	if _, err := s.m.Unpack(t.Context(), "excititor", []string{dir2}, false); release.ReasonOf(err) != release.WrongFeed {
		t.Errorf("another feed: %v", err)
	}
}

// TestUnpackJudges: what a release is refused for does not depend on how it
// came, and a medium is not waited for.
func TestUnpackJudges(t *testing.T) {
	w := newWorld(t)
	two, dir2 := w.packed(2)
	for name, c := range map[string]struct {
		want release.Reason
		make func() string
	}{
		"equivocation": {release.Equivocation, func() string {
			v := newWorldLike(w)
			files := v.bulky(2, func(st *release.Statement) { st.ExpiresAt = st.ExpiresAt.AddDate(0, 0, 1) })
			return v.packOf(files)
		}},
		"stale": {release.Stale, func() string {
			v := newWorldLike(w)
			v.at = w.at.AddDate(0, 0, -3)
			return v.packOf(v.bulky(3, nil))
		}},
		"fast forward": {release.FastForward, func() string {
			v := newWorldLike(w)
			v.m.Policy.MaxStep = 1 << 40
			return v.packOf(v.bulky(3, func(st *release.Statement) { st.Sequence = 1 << 39 }))
		}},
		"no signature that counts": {release.KeyUnknown, func() string {
			dir := stick(t, dir2, 0, 1, 2, 3, 4, 5, 6)
			line, err := release.Sign(t.Context(), two[release.FileStatement], "default", w.keys["stranger"])
			if err != nil {
				t.Fatal(err)
			}
			editPack(t, dir, func(m *pack.Manifest) { m.Signatures = release.Digest(line) })
			if err := os.WriteFile(filepath.Join(dir, release.FileSignature), line, 0o600); err != nil {
				t.Fatal(err)
			}
			return dir
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := w.site()
			s.m.Policy = w.policy("")
			if _, err := s.unpack(dir2); err != nil {
				t.Fatal(err)
			}
			_, err := s.unpack(c.make())
			if release.ReasonOf(err) != c.want {
				t.Errorf("%v", err)
			}
			s.shows(two)
			h := history(t, s.m)
			if len(h) != 2 || !strings.HasSuffix(h[1], string(c.want)) {
				t.Errorf("%q", h)
			}
			if s.slept != 0 {
				t.Errorf("it waited %s", s.slept)
			}
		})
	}
}

// newWorldLike has the keys of another world, and a mirror of its own.
func newWorldLike(w *world) *world {
	v := newWorld(w.t)
	v.keys, v.pems = w.keys, w.pems
	v.m.Policy = v.policy("")
	return v
}

// packOf syncs and packs files.
func (w *world) packOf(files map[string][]byte) string {
	w.t.Helper()
	w.put(files)
	if _, err := w.sync(); err != nil {
		w.t.Fatal(err)
	}
	dir := filepath.Join(w.t.TempDir(), "stick")
	if _, err := w.m.Pack(w.t.Context(), "concelier", "", dir, pack.MinSegment, false); err != nil {
		w.t.Fatal(err)
	}
	return dir
}

// editPack changes pack.json.
func editPack(t *testing.T, dir string, edit func(*pack.Manifest)) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, pack.FileManifest))
	if err != nil {
		t.Fatal(err)
	}
	m, err := pack.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	edit(m)
	if data, err = m.Encode(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, pack.FileManifest), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestUnpackSticks brings one segment at a time, in many orders, each on a
// stick of its own that is gone when the next one comes.
func TestUnpackSticks(t *testing.T) {
	w := newWorld(t)
	one, dir1 := w.packed(1)
	two, dir2 := w.packed(2)
	n := 0
	for name := range folder(t, dir2) {
		if strings.HasPrefix(name, "segment-") {
			n++
		}
	}
	orders := [][]int{{}, {}}
	for i := range n {
		orders[0], orders[1] = append(orders[0], i), append([]int{i}, orders[1]...)
	}
	rnd := rand.New(rand.NewPCG(5, 6))
	for range 6 {
		orders = append(orders, rnd.Perm(n))
	}
	for _, order := range orders {
		t.Run(fmt.Sprint(order), func(t *testing.T) {
			s := w.site()
			if _, err := s.unpack(dir1); err != nil {
				t.Fatal(err)
			}
			missing := n + 1
			for k, i := range order {
				res, err := s.unpack(stick(t, dir2, i))
				if err == nil {
					if k != n-1 || res.Outcome != mirror.Updated {
						t.Errorf("after %d of %d: %+v", k+1, n, res)
					}
					break
				}
				if fault.KindOf(err) != fault.Partial || !errors.Is(err, pack.ErrAbsent) || res.Outcome != mirror.Staged || len(fault.HintsOf(err)) == 0 {
					t.Fatalf("after %d: %+v %v", k+1, res, err)
				}
				if len(res.Missing) >= missing || slices.Contains(res.Missing, pack.Name(i)) || !strings.Contains(err.Error(), res.Missing[0]) {
					t.Errorf("after %s: still missing %v (%v)", pack.Name(i), res.Missing, err)
				}
				missing = len(res.Missing)
				s.shows(one)
			}
			s.shows(two)
			tidy(t, s.m)
			if h := history(t, s.m); len(h) != 2 {
				t.Errorf("%q", h)
			}
		})
	}
}

// TestUnpackPairs brings two sticks at once, and a dry run before each.
func TestUnpackPairs(t *testing.T) {
	w := newWorld(t)
	one, dir := w.packed(1)
	s := w.site()
	for _, c := range []struct {
		a, b []int
		want fault.Kind
	}{{[]int{1}, []int{4}, fault.Partial}, {[]int{0, 1}, []int{2}, fault.Partial}, {[]int{3}, nil, fault.None}} {
		dirs := []string{stick(t, dir, c.a...), stick(t, dir, c.b...)}
		dry, derr := s.m.Unpack(t.Context(), "concelier", dirs, true)
		res, err := s.unpack(dirs...)
		if fault.KindOf(err) != c.want || fault.KindOf(derr) != c.want || !slices.Equal(dry.Missing, res.Missing) || res.Here != len(c.a)+len(c.b) {
			t.Errorf("%v: %+v %v; dry %+v %v", c, res, err, dry, derr)
		}
	}
	s.shows(one)
	tidy(t, s.m)
}
