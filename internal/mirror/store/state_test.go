package store_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/ledger"
	"github.com/stella-ops/stella/internal/mirror/store"
	"github.com/stella-ops/stella/internal/release"
)

// event is one that a test appends.
func event(id string) store.Event {
	pin := release.Pin{ExportID: id, Digest: "sha256:" + id, GeneratedAt: at}
	return store.Event{Facts: store.Facts{Feed: "feed", ExportID: id, Layout: store.Signed}, Pin: &pin, Operator: "t", Version: "v"}
}

func book(t *testing.T, s *store.Store) *store.Book {
	t.Helper()
	b, err := s.Book(true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

// TestStateIsTheHistory: with the state file, without it, and with a file that
// is older, newer or broken, the state is what the history says.
func TestStateIsTheHistory(t *testing.T) {
	s := create(t)
	b := book(t, s)
	file := filepath.Join(s.Path(), "state.json")
	if err := b.Append(at, store.Accepted, event("one")); err != nil {
		t.Fatal(err)
	}
	if err := b.Save(); err != nil {
		t.Fatal(err)
	}
	old, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	refused := event("two")
	refused.Refusal = &store.Refusal{Reason: release.Rollback}
	if err := errors.Join(b.Append(at.Add(-time.Hour), store.Refused, refused), b.Append(at, store.Accepted, event("three")), b.Save()); err != nil {
		t.Fatal(err) // the clock that went back did no harm
	}
	saved, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	ahead := strings.Replace(string(saved), `"records": 3`, `"records": 9`, 1)
	lies := strings.Replace(string(saved), b.Head[:20], "sha256:"+strings.Repeat("0", 13), 1)
	for name, data := range map[string]string{"saved": string(saved), "older": string(old), "none": "", "broken": "{", "other head": lies, "other schema": "{}"} {
		if err := os.WriteFile(file, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
		got := book(t, s)
		if got.Records != 3 || got.Head != b.Head || got.Shown.ExportID != "three" || got.Pin.ExportID != "three" || got.Refusals[release.Rollback] != 1 {
			t.Errorf("%s: %+v", name, got.State)
		}
	}
	if err := os.WriteFile(file, []byte(ahead), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Book(false); fault.KindOf(err) != fault.Trust || len(fault.HintsOf(err)) == 0 {
		t.Errorf("a history whose end is gone: %v", err)
	}
}

// TestHistoryIsHeldTo: a record that was changed, removed or put in is found.
func TestHistoryIsHeldTo(t *testing.T) {
	for name, do := range map[string]func(dir string) error{
		"changed": func(dir string) error {
			path := filepath.Join(dir, "0000000002")
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return os.WriteFile(path, []byte(strings.Replace(string(data), "two", "tow", 1)), 0o600)
		},
		"removed": func(dir string) error { return os.Remove(filepath.Join(dir, "0000000002")) },
		"swapped": func(dir string) error {
			return errors.Join(os.Rename(filepath.Join(dir, "0000000002"), filepath.Join(dir, "x")),
				os.Rename(filepath.Join(dir, "0000000003"), filepath.Join(dir, "0000000002")), os.Rename(filepath.Join(dir, "x"), filepath.Join(dir, "0000000003")))
		},
		"control": func(string) error { return nil },
	} {
		s := create(t)
		b := book(t, s)
		for _, id := range []string{"one", "two", "three"} {
			if err := b.Append(at, store.Accepted, event(id)); err != nil {
				t.Fatal(err)
			}
		}
		if err := do(filepath.Join(s.Path(), "history")); err != nil {
			t.Fatal(err)
		}
		n, err := s.Audit(func(*ledger.Entry, *store.Event) error { return nil })
		if name == "control" {
			if n != 3 || err != nil {
				t.Errorf("control: %d, %v", n, err)
			}
			continue
		}
		if fault.KindOf(err) != fault.Trust {
			t.Errorf("%s: %d records, %v", name, n, err)
		}
	}
}

// TestSignerIsKept: a history whose key is gone or open to others is not gone
// on with under another key.
func TestSignerIsKept(t *testing.T) {
	s := create(t)
	b := book(t, s)
	if err := b.Append(at, store.Accepted, event("one")); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(s.Path(), "history/signer.pem")
	if info, err := os.Stat(key); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatal(info.Mode(), err)
	}
	if err := os.Chmod(key, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Book(true); fault.KindOf(err) != fault.Config {
		t.Error(err)
	}
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Book(true); fault.KindOf(err) != fault.Config {
		t.Error(err)
	}
	if b, err := s.Book(false); err != nil || b.Shown.ExportID != "one" {
		t.Errorf("reading needs the key: %v", err)
	}
}

// TestSettle: a run that was cut off between record and link is finished.
func TestSettle(t *testing.T) {
	s := create(t)
	place(t, s, "one", map[string]string{"a.json": "1"})
	b := book(t, s)
	if err := b.Append(at, store.Accepted, event("one")); err != nil {
		t.Fatal(err)
	}
	if changed, err := b.Settle(); !changed || err != nil || latest(t, s) != "one" {
		t.Error(changed, err, latest(t, s))
	}
	if changed, err := b.Settle(); changed || err != nil {
		t.Error(changed, err)
	}
}
