package store_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/mirror/store"
	"github.com/stella-ops/stella/internal/release"
)

var at = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func create(t *testing.T) *store.Store {
	t.Helper()
	s, err := store.Create(filepath.Join(t.TempDir(), "feed"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// content makes a release of files, by path.
func content(id string, files map[string]string) *store.Content {
	var list []store.Entry
	for path, text := range files {
		sum := sha256.Sum256([]byte(text))
		list = append(list, store.Entry{Member: release.Member{Path: path, Size: int64(len(text)), SHA256: hex.EncodeToString(sum[:])}})
	}
	return store.FromMembers(store.PlainTree, "feed", id, at, list)
}

// place stages files and places them as a release, not shown yet.
func place(t *testing.T, s *store.Store, id string, files map[string]string) *store.Content {
	t.Helper()
	c := content(id, files)
	for _, text := range files {
		sum := sha256.Sum256([]byte(text))
		if err := s.Stage(hex.EncodeToString(sum[:]), []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	tree, err := s.Build(id)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range c.List {
		if err := tree.Link(e.Member); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(tree.Record(c), tree.Place(t.Context())); err != nil {
		t.Fatal(err)
	}
	return c
}

func latest(t *testing.T, s *store.Store) string {
	t.Helper()
	id, err := s.Latest()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestPlaceAndShow(t *testing.T) {
	s := create(t)
	place(t, s, "one", map[string]string{"a/b.json": "1", "c.json": "same"})
	if latest(t, s) != "" {
		t.Error("shown before it was")
	}
	place(t, s, "two", map[string]string{"a/b.json": "2", "c.json": "same"})
	for _, id := range []string{"one", "two"} {
		if err := s.Show(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	if before, err := s.Previous(); latest(t, s) != "two" || before != "one" || err != nil {
		t.Error(latest(t, s), before, err)
	}
	if data, err := os.ReadFile(filepath.Join(s.Path(), "latest/a/b.json")); string(data) != "2" || err != nil {
		t.Error(string(data), err)
	}
	to, err := os.Readlink(filepath.Join(s.Path(), "latest"))
	if err != nil || filepath.IsAbs(to) {
		t.Errorf("latest leads to %q, %v: it must be relative, or a mount breaks it", to, err)
	}
	if err := s.Show(t.Context(), "three"); fault.KindOf(err) != fault.NotFound || latest(t, s) != "two" {
		t.Error(err)
	}
	dead, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Show(dead, "one"); err == nil || latest(t, s) != "two" {
		t.Error("shown on a dead context")
	}
	ids, err := s.Releases()
	if err != nil || !slices.Equal(ids, []string{"one", "two"}) {
		t.Error(ids, err)
	}
}

// TestPlaceAgain: a tree that a run left without showing it is replaced; one
// that is shown is not.
func TestPlaceAgain(t *testing.T) {
	s := create(t)
	place(t, s, "one", map[string]string{"a.json": "old"})
	c := place(t, s, "one", map[string]string{"a.json": "new"})
	got, err := s.Content("one")
	if err != nil || got.Digest != c.Digest {
		t.Fatal(err)
	}
	if err := s.Show(t.Context(), "one"); err != nil {
		t.Fatal(err)
	}
	tree, err := s.Build("one")
	if err != nil {
		t.Fatal(err)
	}
	// What is shown is replaced in one step, and who is in it stays in it.
	reader, err := os.OpenRoot(filepath.Join(s.Path(), "latest"))
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if err := tree.Link(c.List[0].Member); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(tree.Write("b.json", []byte("more")), tree.Record(c), tree.Place(t.Context())); err != nil {
		t.Error(err)
	}
	if data, err := os.ReadFile(filepath.Join(s.Path(), "latest/b.json")); string(data) != "more" || err != nil {
		t.Error(string(data), err)
	}
	if data, err := reader.ReadFile("a.json"); string(data) != "new" || err != nil {
		t.Error(string(data), err)
	}
	if _, err := reader.Stat("b.json"); err == nil {
		t.Error("the reader is in two trees")
	}
}

func TestLinksThatAreNone(t *testing.T) {
	for name, make := range map[string]func(path string) error{
		"a folder":           func(p string) error { return os.Mkdir(p, 0o755) },
		"a file":             func(p string) error { return os.WriteFile(p, nil, 0o644) },
		"absolute":           func(p string) error { return os.Symlink("/etc", p) },
		"outside":            func(p string) error { return os.Symlink("releases/../../x", p) },
		"below a release":    func(p string) error { return os.Symlink("releases/a/b", p) },
		"with a hidden name": func(p string) error { return os.Symlink("releases/.x", p) },
	} {
		s := create(t)
		if err := make(filepath.Join(s.Path(), "latest")); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Latest(); fault.KindOf(err) != fault.Trust || len(fault.HintsOf(err)) == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOpenNeedsAStore(t *testing.T) {
	for _, path := range []string{t.TempDir(), filepath.Join(t.TempDir(), "none")} {
		if _, err := store.Open(path); fault.KindOf(err) != fault.NotFound {
			t.Error(err)
		}
	}
	if _, err := store.Create(filepath.Join(t.TempDir(), "a/b")); fault.KindOf(err) != fault.Config {
		t.Error(err)
	}
}

func TestPart(t *testing.T) {
	s := create(t)
	sha := strings.Repeat("a", 64)
	p, err := s.Part(sha)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(p, "half")
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if p, err = s.Part(sha); err != nil || p.Size() != 4 {
		t.Fatal(p.Size(), err)
	}
	fmt.Fprint(p, " and half")
	got := make([]byte, 20)
	if n, _ := p.Reader().Read(got); string(got[:n]) != "half and half" {
		t.Errorf("%q", got)
	}
	if err := p.Drop(); err != nil {
		t.Fatal(err)
	}
	// A link in its place is not followed.
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, []byte("keep"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(s.Path(), "staging", sha+".part")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Part(sha); !errors.Is(err, syscall.ELOOP) {
		t.Error(err)
	}
}

func TestPrune(t *testing.T) {
	s := create(t)
	for i := range 6 {
		place(t, s, fmt.Sprintf("r%d", i), map[string]string{"a.json": fmt.Sprint(i), "c.json": "same"})
		if err := s.Show(t.Context(), fmt.Sprintf("r%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Show(t.Context(), "r0"); err != nil { // rolled back: r0 is shown, r5 before it
		t.Fatal(err)
	}
	// Control: nothing is old enough.
	plan, err := book(t, s).PlanPrune(1, time.Now().Add(-time.Hour))
	if err != nil || len(plan.Releases) != 0 || plan.Objects != 0 {
		t.Fatalf("%+v %v", plan, err)
	}
	stale := filepath.Join(s.Path(), "staging", strings.Repeat("b", 64)+".part")
	if err := os.WriteFile(stale, []byte("half"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := s.Prune(t.Context(), plan); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(stale); err != nil {
		t.Errorf("a part that is not old is gone: %v", err)
	}
	plan, err = book(t, s).PlanPrune(2, time.Now().Add(time.Hour))
	if err != nil || !slices.Equal(plan.Releases, []string{"r1", "r2", "r3"}) || plan.Objects != 3 || plan.Bytes != 3 {
		t.Fatalf("%+v %v", plan, err)
	}
	if err := s.Prune(t.Context(), plan); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(stale); err == nil {
		t.Error("an abandoned part is there still")
	}
	ids, err := s.Releases()
	if err != nil || !slices.Equal(ids, []string{"r0", "r4", "r5"}) {
		t.Error(ids, err)
	}
	for _, id := range ids {
		c, err := s.Content(id)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range c.List {
			if !s.HasObject(e.SHA256, e.Size) {
				t.Errorf("%s of %s is gone", e.Path, id)
			}
		}
		if extra, err := s.Extra(c); len(extra) > 0 || err != nil {
			t.Error(extra, err)
		}
	}
	objects := 0
	_ = filepath.WalkDir(filepath.Join(s.Path(), "objects"), func(_ string, e os.DirEntry, _ error) error {
		if !e.IsDir() {
			objects++
		}
		return nil
	})
	if objects != 4 {
		t.Errorf("%d objects are left, want 4", objects)
	}
}

func TestExtra(t *testing.T) {
	s := create(t)
	c := place(t, s, "one", map[string]string{"mirror/a/b.json": "1"})
	dir := s.ReleasePath("one")
	for _, do := range []func() error{
		func() error { return os.WriteFile(filepath.Join(dir, "mirror/a/c.json"), nil, 0o644) },
		func() error { return os.Mkdir(filepath.Join(dir, "empty"), 0o755) },
		func() error { return os.Symlink("b.json", filepath.Join(dir, "mirror/a/link")) },
	} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
	}
	extra, err := s.Extra(c)
	if err != nil || !slices.Equal(extra, []string{"empty", "mirror/a/c.json", "mirror/a/link"}) {
		t.Error(extra, err)
	}
}
