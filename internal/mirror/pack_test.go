package mirror_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/mirror"
	"github.com/stella-ops/stella/internal/mirror/pack"
	"github.com/stella-ops/stella/internal/release"
)

// bulky makes a release that fills several segments: a bundle that lies in
// more than two, files across cuts, an empty one, and one that is there twice.
func (w *world) bulky(seq int, edit func(*release.Statement)) map[string][]byte {
	w.t.Helper()
	rnd := rand.New(rand.NewPCG(uint64(seq), 2))
	noise := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = 'a' + byte(rnd.IntN(26))
		}
		return b
	}
	files := w.files(seq, "primary", "community")
	files[bundlePath] = fmt.Appendf(nil, `{"advisories":[%q]}`, noise(2_700_000))
	jws, err := w.keys["k1"].SignDetached(map[string]any{"provider": "default"}, files[bundlePath])
	if err != nil {
		w.t.Fatal(err)
	}
	files[bundlePath+".jws"] = []byte(jws)
	for i, n := range []int{700_000, 900_000, 30_000, 0} {
		files[fmt.Sprintf("mirror/primary/extra/%d.json", i)] = noise(n)
	}
	files["mirror/community/again.json"] = files["mirror/primary/extra/0.json"]
	statement := w.state(seq, files, edit)
	files[release.FileStatement], files[release.FileSignature] = statement, w.sign(statement, "k1")
	return files
}

// packed publishes, syncs and packs a bulky release.
func (w *world) packed(seq int) (files map[string][]byte, dir string) {
	w.t.Helper()
	files = w.bulky(seq, nil)
	w.put(files)
	w.good(files)
	dir = filepath.Join(w.t.TempDir(), "stick")
	if _, err := w.m.Pack(w.t.Context(), "concelier", "", dir, pack.MinSegment, false); err != nil {
		w.t.Fatal(err)
	}
	return files, dir
}

func folder(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		out[e.Name()] = string(data)
	}
	return out
}

func TestPack(t *testing.T) {
	w := newWorld(t)
	files := w.bulky(1, nil)
	w.put(files)
	w.good(files)
	w.events = nil
	dir := filepath.Join(t.TempDir(), "stick")
	dry, err := w.m.Pack(t.Context(), "concelier", "", dir, pack.MinSegment, true)
	if err != nil || !dry.DryRun || dry.Made != len(dry.Segments) || dry.SHA256 != "" {
		t.Errorf("%+v %v", dry, err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a dry run made %s", dir)
	}
	res, err := w.m.Pack(t.Context(), "concelier", "", dir, pack.MinSegment, false)
	if err != nil || res.ExportID != "20260301T010000Z" || res.Made != len(dry.Segments) || res.Size != dry.Size || len(res.Segments) < 5 {
		t.Fatalf("%+v %v", res, err)
	}
	got := folder(t, dir)
	sum := sha256.New()
	for _, s := range res.Segments {
		one := sha256.Sum256([]byte(got[s.Name]))
		if hex.EncodeToString(one[:]) != s.SHA256 || int64(len(got[s.Name])) != s.Size {
			t.Errorf("%s is not what was said", s.Name)
		}
		sum.Write([]byte(got[s.Name]))
	}
	if res.SHA256 != "sha256:"+hex.EncodeToString(sum.Sum(nil)) || len(got) != len(res.Segments)+3 {
		t.Errorf("%d files, %s", len(got), res.SHA256)
	}
	for _, name := range []string{release.FileStatement, release.FileSignature} {
		if got[name] != string(files[name]) {
			t.Errorf("%s has other bytes", name)
		}
	}
	segments, last := 0, int64(0)
	for _, e := range w.events {
		if e.Type == mirror.SegmentDone {
			segments++
		}
		if e.Bytes < last || e.Total != res.Size {
			t.Errorf("%+v after %d", e, last)
		}
		last = e.Bytes
	}
	if segments != len(res.Segments) || last != res.Size {
		t.Errorf("%d notes, the last at %d", segments, last)
	}
	again, err := w.m.Pack(t.Context(), "concelier", res.ExportID, dir, pack.MinSegment, false)
	if err != nil || !again.Unchanged || again.Kept != len(res.Segments) || !maps.Equal(folder(t, dir), got) {
		t.Errorf("%+v %v", again, err)
	}
}

// TestPackRefuses: each with its own error and what to do, and no pack.json.
func TestPackRefuses(t *testing.T) {
	w := newWorld(t)
	w.m.Policy = w.policy("statement: optional")
	loose := w.files(1, "primary")
	w.put(loose)
	if _, err := w.sync(); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "stick")
	fails := func(export string, want fault.Kind, says string) {
		t.Helper()
		_, err := w.m.Pack(t.Context(), "concelier", export, dir, pack.MinSegment, false)
		if fault.KindOf(err) != want || !strings.Contains(fmt.Sprint(err, fault.HintsOf(err)), says) {
			t.Errorf("%v (%v)", err, fault.KindOf(err))
		}
		if _, err := os.Stat(filepath.Join(dir, pack.FileManifest)); !errors.Is(err, os.ErrNotExist) {
			t.Error("there is a pack.json")
		}
	}
	fails("", fault.Order, "stella mirror publish")
	fails("../x", fault.Input, "not the name of an export")
	fails("20200101T000000Z", fault.NotFound, "stella mirror status")
	if _, err := w.m.Pack(t.Context(), "excititor", "", dir, 0, false); fault.KindOf(err) != fault.NotFound {
		t.Errorf("no feed: %v", err)
	}
	two := w.bulky(2, nil)
	w.put(two)
	w.good(two)
	object := filepath.Join(w.m.Folder("concelier"), "latest/mirror/primary/extra/1.json")
	good, err := os.ReadFile(object)
	if err != nil {
		t.Fatal(err)
	}
	bad := bytes.Clone(good)
	bad[500_000] ^= 1
	if err := os.WriteFile(object, bad, 0o600); err != nil {
		t.Fatal(err)
	}
	fails("", fault.Trust, "stella mirror verify")
	if err := os.WriteFile(object, good, 0o600); err != nil {
		t.Fatal(err)
	}
	policy := w.m.Policy
	at := w.at
	w.m.Policy = w.policy("")
	w.m.Policy.Keys[0].RevokedAt = &at
	fails("", fault.Trust, "revoked")
	w.m.Policy = policy
	if _, err := w.m.Pack(t.Context(), "concelier", "", dir, pack.MinSegment, false); err != nil {
		t.Errorf("control: %v", err)
	}
}

// TestPackAndPrune: a release that is being packed stays, and nothing waits.
func TestPackAndPrune(t *testing.T) {
	w := newWorld(t)
	one := w.bulky(1, nil)
	w.put(one)
	w.good(one)
	dir := filepath.Join(t.TempDir(), "stick")
	later := func() time.Time { return time.Now().Add(48 * time.Hour) } // files have the host's times
	done := false
	notify := w.m.Notify
	w.m.Notify = func(e mirror.Event) {
		if e.Type != mirror.SegmentDone || done {
			return
		}
		done = true
		m := *w.m
		m.Notify = notify
		for seq := 2; seq <= 4; seq++ { // the timer goes on
			w.publish(seq)
			if _, err := m.Sync(t.Context(), w.feed, false); err != nil {
				t.Errorf("sync during a pack: %v", err)
			}
		}
		m.Now = later
		plan, err := m.Prune(t.Context(), "concelier", 1, time.Hour, false)
		if err != nil || len(plan.Releases) != 1 || plan.Releases[0] == "20260301T010000Z" {
			t.Errorf("prune during a pack: %+v %v", plan, err)
		}
	}
	res, err := w.m.Pack(t.Context(), "concelier", "", dir, pack.MinSegment, false)
	if err != nil || res.ExportID != "20260301T010000Z" || !done {
		t.Errorf("%+v %v", res, err)
	}
	w.m.Notify, w.m.Now = notify, later
	plan, err := w.m.Prune(t.Context(), "concelier", 1, time.Hour, false)
	if err != nil || len(plan.Releases) != 1 || plan.Releases[0] != "20260301T010000Z" {
		t.Errorf("control: prune afterwards: %+v %v", plan, err)
	}
}

// TestPackCancelled: what is whole stays, and the next run makes the rest.
func TestPackCancelled(t *testing.T) {
	w := newWorld(t)
	_, want := w.packed(1)
	dir := filepath.Join(t.TempDir(), "stick")
	ctx, cancel := context.WithCancel(t.Context())
	w.m.Notify = func(e mirror.Event) {
		if e.Type == mirror.SegmentDone && strings.Contains(e.Text, "00002") {
			cancel()
		}
	}
	if _, err := w.m.Pack(ctx, "concelier", "", dir, pack.MinSegment, false); fault.KindOf(err) != fault.Interrupted {
		t.Errorf("%v", err)
	}
	w.m.Notify = nil
	res, err := w.m.Pack(t.Context(), "concelier", "", dir, pack.MinSegment, false)
	if err != nil || res.Kept != 2 || !maps.Equal(folder(t, dir), folder(t, want)) {
		t.Errorf("%+v %v", res, err)
	}
}
