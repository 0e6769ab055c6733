package mirror_test

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/mirror"
	"github.com/stella-ops/stella/internal/objstore"
	"github.com/stella-ops/stella/internal/release"
)

// TestRollbackOverTheLine: of three releases the second is offered again: the
// pin refuses it, not the policy.
func TestRollbackOverTheLine(t *testing.T) {
	w := newWorld(t)
	one := w.publish(1)
	two := w.publish(2)
	w.put(one)
	w.good(one)
	w.put(two)
	w.good(two)
	three := w.publish(3)
	w.good(three)
	for _, old := range []map[string][]byte{two, one} {
		w.put(old)
		if _, err := w.sync(); release.ReasonOf(err) != release.Rollback {
			t.Errorf("an older release: %v", err)
		}
		w.shows(three)
	}
	w.put(three)
	if res := w.good(three); res.Outcome != mirror.Unchanged {
		t.Errorf("control: %+v", res)
	}
}

// TestSettlesAgain: a refusal is known only until the source had something good.
func TestSettlesAgain(t *testing.T) {
	w := newWorld(t)
	good := w.publish(1)
	w.good(good)
	for i := 1; i <= 2; i++ {
		w.put(nil)
		if _, err := w.sync(); release.ReasonOf(err) != release.Emptied || w.slept != time.Duration(i)*w.m.Settle {
			t.Errorf("time %d: slept %s, %v", i, w.slept, err)
		}
		w.at = w.at.Add(time.Minute)
		w.put(good)
		w.good(good)
		w.at = w.at.Add(time.Minute)
	}
	if st, err := w.m.Status("concelier"); err != nil || st.Refusals[release.Emptied] != 2 {
		t.Errorf("%v %+v", err, st)
	}
}

// TestTwinOfABundle: a member with the bytes of a bundle does not take it past
// its signature.
func TestTwinOfABundle(t *testing.T) {
	w := newWorld(t)
	w.good(w.publish(1))
	honest := w.publish(2)
	jws, err := w.keys["stranger"].SignDetached(nil, honest[bundlePath])
	if err != nil {
		t.Fatal(err)
	}
	twin := with(with(honest, bundlePath+".jws", []byte(jws)), "mirror/primary/aaa.json", honest[bundlePath])
	w.put(resigned(w, twin, "k1", nil))
	if _, err := w.sync(); release.ReasonOf(err) != release.KeyUnknown {
		t.Errorf("a stranger's signature, beside a twin: %v", err)
	}
	fine := resigned(w, with(honest, "mirror/primary/aaa.json", honest[bundlePath]), "k1", nil)
	w.put(fine)
	w.good(fine)
}

// TestRevokedBundleKey: a bundle that is here already is judged again when the
// policy has changed.
func TestRevokedBundleKey(t *testing.T) {
	w := newWorld(t)
	one := w.publish(1)
	w.good(one)
	// The same bundles and signatures in a new release that another key signs.
	two := with(one, "mirror/primary/constant.json", []byte(`{"never":"say never"}`))
	two = resigned(w, two, "k2", nil)
	w.put(two)
	trusted := w.m.Policy
	w.m.Policy = w.revoked("k1")
	if _, err := w.sync(); release.ReasonOf(err) != release.KeyRevoked {
		t.Errorf("bundles of a revoked key: %v", err)
	}
	w.m.Policy = trusted
	w.good(two)
}

// revoked is the policy with one key revoked.
func (w *world) revoked(kid string) *release.Policy {
	w.t.Helper()
	text := "schema_version: 1\nkeys:\n"
	for _, k := range []string{"k1", "k2"} {
		text += "  - id: " + k + "\n    pem: |\n      " + strings.ReplaceAll(strings.TrimSpace(w.pems[k]), "\n", "\n      ") + "\n"
		if k == kid {
			text += "    revoked_at: 2026-02-01T00:00:00Z\n"
		}
	}
	p, err := release.ParsePolicy("revoked.yaml", []byte(text))
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// thief publishes a release by one key that leaps far ahead; all bundles are
// signed by the other.
func (w *world) by(seq int, kid, bundles string, edit func(*release.Statement)) map[string][]byte {
	w.t.Helper()
	files := w.files(seq, "primary")
	jws, err := w.keys[bundles].SignDetached(map[string]any{"provider": "default"}, files[bundlePath])
	if err != nil {
		w.t.Fatal(err)
	}
	files[bundlePath+".jws"] = []byte(jws)
	statement := w.state(seq, files, edit)
	files[release.FileStatement], files[release.FileSignature] = statement, w.sign(statement, kid)
	w.put(files)
	return files
}

// TestWayOutOfATheft: what a stolen key had pinned ends with its revocation,
// whether the honest release is the one before or takes the thief's name.
func TestWayOutOfATheft(t *testing.T) {
	w := newWorld(t)
	honest := w.by(1, "k2", "k2", nil)
	w.good(honest)
	stolen := w.by(2, "k1", "k2", func(s *release.Statement) { s.Sequence = 900_000 })
	w.good(stolen)
	w.m.Policy = w.revoked("k1")
	w.put(honest)
	if res, err := w.sync(); err != nil || res.Outcome != mirror.Updated || res.Sequence != 1 {
		t.Errorf("back to the honest release: %+v %v", res, err)
	}
	// The thief's is the one before now, and verify says what that is.
	if r, err := w.m.VerifyDisk(t.Context(), "concelier", ""); err != nil || len(r.Findings) != 1 || r.Findings[0].Reason != release.KeyRevoked {
		t.Errorf("%+v %v", r, err)
	}
	same := w.by(2, "k2", "k2", nil) // the thief's export id
	if res := w.good(same); res.Outcome != mirror.Updated || res.Sequence != 2 {
		t.Errorf("the honest release of the thief's name: %+v", res)
	}
	// Control: without a revocation that name is taken.
	w = newWorld(t)
	w.good(w.by(1, "k2", "k2", nil))
	w.good(w.by(2, "k1", "k2", nil))
	w.by(3, "k2", "k2", func(s *release.Statement) { s.ExportID = "20260301T020000Z" })
	if _, err := w.sync(); release.ReasonOf(err) != release.Equivocation {
		t.Errorf("control: %v", err)
	}
}

// TestResigned: other signatures of the statement that is shown are taken, and
// a threshold that was raised is met on the disk too.
func TestResigned(t *testing.T) {
	w := newWorld(t)
	one := w.publish(1)
	w.good(one)
	two := with(one, release.FileSignature, w.sign(one[release.FileStatement], "k1", "k2"))
	w.put(two)
	w.m.Policy = w.policy("threshold: 2")
	if res := w.good(two); res.Outcome != mirror.Unchanged {
		t.Errorf("%+v", res)
	}
	w.m.Policy = w.policy("threshold: 2\nmax_age: 10h") // another policy: the whole statement is judged again
	w.good(two)
}

// TestKeyThatRanOut: what was accepted while its key was valid stays good.
func TestKeyThatRanOut(t *testing.T) {
	w := newWorld(t)
	w.at = time.Date(2025, 12, 31, 23, 0, 0, 0, time.UTC) // "old" is valid until the next day
	one := w.by(1, "old", "old", nil)
	w.good(one)
	w.at = w.at.Add(12 * time.Hour)
	w.m.Policy = w.policy("max_age: 100h")
	if res := w.good(one); res.Outcome != mirror.Unchanged {
		t.Errorf("%+v", res)
	}
	w.by(2, "old", "old", func(s *release.Statement) { s.GeneratedAt = w.at; s.ExpiresAt = w.at.Add(time.Hour) })
	if _, err := w.sync(); release.ReasonOf(err) != release.KeyExpired {
		t.Errorf("control: a new release by a key that ran out: %v", err)
	}
}

// TestDamage: an edited member is not shown in the next release, and repair
// mends the one that is shown, in one step.
func TestDamage(t *testing.T) {
	w := newWorld(t)
	one := w.publish(1)
	w.good(one)
	path := filepath.Join(w.m.Folder("concelier"), "latest/mirror/primary/constant.json")
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o444 {
		t.Errorf("%v %v: a member can be written to", info.Mode(), err)
	}
	spoil := func() {
		t.Helper()
		data := bytes.ToUpper(one["mirror/primary/constant.json"])
		if err := errors.Join(os.Chmod(path, 0o644), os.WriteFile(path, data, 0o644), os.Chtimes(path, time.Time{}, w.at.Add(time.Minute))); err != nil {
			t.Fatal(err)
		}
		if r, err := w.m.VerifyDisk(t.Context(), "concelier", ""); err != nil || r.Err() == nil {
			t.Fatalf("verify does not see it: %v", err)
		}
	}
	spoil()
	res, err := w.m.Repair(t.Context(), w.feed)
	if err != nil || res.Fetched != 1 {
		t.Fatalf("%v %+v", err, res)
	}
	w.shows(one)
	spoil()
	two := w.publish(2) // has the same constant.json
	if _, err := w.sync(); err != nil {
		t.Fatal(err)
	}
	for p, want := range two {
		if got, err := os.ReadFile(filepath.Join(w.m.Folder("concelier"), "latest", p)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %v", p, err)
		}
	}
}

// TestHolds: a rollback holds for trees too, is not undone by typing it twice,
// and prune keeps what it was rolled back from.
func TestHolds(t *testing.T) {
	for _, shape := range []mirror.Shape{mirror.Releases, mirror.Tree} {
		w := newWorld(t)
		w.feed.Shape = shape
		publish := w.publish
		if shape == mirror.Tree {
			publish = func(seq int) map[string][]byte {
				files := w.files(seq, "primary")
				w.put(files)
				return files
			}
		}
		one := publish(1)
		if _, err := w.sync(); err != nil {
			t.Fatal(err)
		}
		w.at = w.at.Add(time.Minute)
		two := publish(2)
		newest, err := w.sync()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.m.Rollback(t.Context(), "concelier", "", "", false); err != nil {
			t.Fatal(err)
		}
		w.at = w.at.Add(time.Minute)
		for range 2 {
			if res, err := w.sync(); err != nil || res.Outcome != mirror.Held {
				t.Errorf("%s: %+v %v", shape, res, err)
			}
			w.shows(one)
		}
		if _, err := w.m.Rollback(t.Context(), "concelier", "", "", false); fault.KindOf(err) != fault.Order {
			t.Errorf("%s: typed twice: %v", shape, err)
		}
		for _, id := range []string{"../releases/" + newest.ExportID, "never"} {
			if _, err := w.m.Rollback(t.Context(), "concelier", id, "why", false); fault.KindOf(err) != fault.NotFound {
				t.Errorf("%s: to %q: %v", shape, id, err)
			}
		}
		if plan, err := w.m.Prune(t.Context(), "concelier", 1, 0, false); err != nil || len(plan.Releases) != 0 {
			t.Errorf("%s: pruned %+v %v", shape, plan, err)
		}
		if _, err := w.m.Rollback(t.Context(), "concelier", newest.ExportID, "mended", false); err != nil {
			t.Fatal(err)
		}
		w.shows(two)
		if res, err := w.sync(); err != nil || res.Outcome != mirror.Unchanged {
			t.Errorf("%s: forward again: %+v %v", shape, res, err)
		}
	}
}

// TestCutOffWithoutRecord: a tree that a run placed and did not record is no
// other release of that name.
func TestCutOffWithoutRecord(t *testing.T) {
	w := looseWorld(t)
	w.put(w.files(1, "primary"))
	if _, err := w.sync(); err != nil {
		t.Fatal(err)
	}
	// What such a run leaves: objects and tree, and a history without it.
	done := w.m.Folder("concelier")
	w.m.Dir = t.TempDir()
	for _, dir := range []string{"objects", "releases"} {
		if err := os.CopyFS(filepath.Join(w.m.Folder("concelier"), dir), os.DirFS(filepath.Join(done, dir))); err != nil {
			t.Fatal(err)
		}
	}
	other := w.files(1, "primary") // signed anew, as a publisher does who starts again
	w.put(other)
	want := maps.Clone(other)
	delete(want, "mirror/primary/constant.json")
	w.good(want)
}

// TestVerifyIsCancelled: a verify that was cut off does not say that all is good.
func TestVerifyIsCancelled(t *testing.T) {
	w := newWorld(t)
	w.good(w.publish(1))
	ctx, cancel := context.WithCancel(t.Context())
	w.m.Notify = func(e mirror.Event) {
		if e.Type == mirror.Progress {
			cancel()
		}
	}
	if r, err := w.m.VerifyDisk(ctx, "concelier", ""); !errors.Is(err, context.Canceled) {
		t.Errorf("%+v %v", r, err)
	}
}

// TestFolderIsFollowed: a publisher that flips its link and removes the export
// that is being read is followed.
func TestFolderIsFollowed(t *testing.T) {
	w := newWorld(t)
	one := w.publish(1)
	old := w.source
	two := w.publish(2)
	opened := 0
	w.m.Open = func(context.Context, objstore.Place) (objstore.Reader, error) {
		if opened++; opened == 1 {
			w.put(one)
			if err := old.Delete(t.Context(), bundlePath); err != nil { // what is left of the export that goes
				t.Fatal(err)
			}
			return &vanishing{Reader: old, w: w}, nil
		}
		w.put(two)
		return old, nil
	}
	if res, err := w.sync(); err != nil || res.Sequence != 2 {
		t.Errorf("%+v %v", res, err)
	}
}

// vanishing is a folder of which nothing is left once a member was asked for.
type vanishing struct {
	objstore.Reader
	w    *world
	gone bool
}

func (v *vanishing) Open(ctx context.Context, key string, g objstore.Get) (*objstore.Object, error) {
	if key == bundlePath {
		v.gone = true
	}
	if v.gone {
		return nil, objstore.Fail(objstore.OpRead, v.Place(), key, objstore.ErrNotFound, nil)
	}
	return v.Reader.Open(ctx, key, g)
}
