package store_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/mirror/store"
	"github.com/stella-ops/stella/internal/release"
)

// TestFoldersAreFolders: a link in place of a folder is not followed, so that
// nothing behind it is swept.
func TestFoldersAreFolders(t *testing.T) {
	for _, name := range []string{"staging", "objects", "releases", "history", "evidence", "unpack"} {
		s := create(t)
		outside := t.TempDir()
		if err := os.WriteFile(filepath.Join(outside, "keep"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(s.Path(), name)
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(outside, path); err != nil {
			t.Fatal(err)
		}
		for _, open := range []func(string) (*store.Store, error){store.Open, store.Create} {
			if s, err := open(s.Path()); fault.KindOf(err) != fault.Config || len(fault.HintsOf(err)) == 0 {
				t.Errorf("%s: %v %v", name, s, err)
			}
		}
		if _, err := os.Stat(filepath.Join(outside, "keep")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestOtherSigner: a history is not gone on with under another key, and what
// was refused is not in it.
func TestOtherSigner(t *testing.T) {
	s, other := create(t), create(t)
	if err := book(t, s).Append(at, store.Accepted, event("one")); err != nil {
		t.Fatal(err)
	}
	if err := book(t, other).Append(at, store.Accepted, event("one")); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(s.Path(), "history/signer.pem")
	right, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	wrong, err := os.ReadFile(filepath.Join(other.Path(), "history/signer.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(key, wrong, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := book(t, s).Append(at, store.Accepted, event("two")); fault.KindOf(err) != fault.Config {
		t.Errorf("another key: %v", err)
	}
	if err := os.WriteFile(key, right, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := book(t, s).Append(at, store.Accepted, event("two")); err != nil {
		t.Errorf("the right key again: %v", err)
	}
}

// TestNamesThatAreOurs: an export cannot have a name under which it would not
// be found again.
func TestNamesThatAreOurs(t *testing.T) {
	for _, id := range []string{"latest", "previous", "a.inventory.json", "../x", "a/b", ""} {
		if release.ExportID(id) {
			t.Errorf("%q is taken", id)
		}
		if s := create(t); s.HasRelease(id) {
			t.Errorf("%q is there", id)
		}
	}
	if !release.ExportID("20260301T010000Z") {
		t.Error("control")
	}
}

// TestWhole: a release that lost a member, or part of one, is found by its sizes.
func TestWhole(t *testing.T) {
	s := create(t)
	c := place(t, s, "one", map[string]string{"a/b.json": "1", "c.json": "22"})
	if err := s.Whole(c); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(s.ReleasePath("one"), "c.json"), 1); err != nil {
		t.Fatal(err)
	}
	if err := s.Whole(c); release.ReasonOf(err) != release.MissingMember {
		t.Error(err)
	}
}
