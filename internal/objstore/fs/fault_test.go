package fs_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stella-ops/stella/internal/durable"
	"github.com/stella-ops/stella/internal/objstore"
	"github.com/stella-ops/stella/internal/objstore/storetest"
)

// TestFaults: whatever step fails, with or without its effect, the object is
// the old one or the new one, and success means the new one.
func TestFaults(t *testing.T) {
	boom := errors.New("injected")
	for _, op := range []string{"put", "delete"} {
		for at := range 8 {
			for _, apply := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%d/%v", op, at, apply), func(t *testing.T) {
					s := open(t, t.TempDir())
					storetest.Put(t, s, "a/b/k", []byte("old"))
					n := 0
					s.Hook = func(durable.Step, string) (bool, error) {
						if n++; n == at+1 {
							return apply, boom
						}
						return false, nil
					}
					after, err := "new", error(nil)
					if op == "put" {
						_, err = s.Put(t.Context(), "a/b/k", strings.NewReader("new"), 3)
					} else {
						after, err = "", s.Delete(t.Context(), "a/b/k")
					}
					s.Hook = nil
					if errors.Is(err, boom) != (n > at) {
						t.Errorf("%d steps, %v", n, err)
					}
					got := ""
					if o, err := s.Open(t.Context(), "a/b/k", objstore.Get{}); err == nil {
						got = string(storetest.All(t, o))
					} else if !errors.Is(err, objstore.ErrNotFound) {
						t.Error(err)
					}
					if left, err := filepath.Glob(filepath.Join(strings.TrimPrefix(s.Place(), "file://"), "a/b/.tmp-*")); len(left) != 0 || err != nil {
						t.Errorf("left over: %q, %v", left, err)
					}
					if got != "old" && got != after || err == nil && got != after {
						t.Errorf("%v, and it holds %q", err, got)
					}
				})
			}
		}
	}
}

// TestOrder: bytes are stable before they have their name, and names before a
// Put has an end; that of each directory too.
func TestOrder(t *testing.T) {
	s := open(t, t.TempDir())
	for range 2 { // the second time the directories are there
		var steps []string
		s.Hook = func(step durable.Step, name string) (bool, error) {
			if strings.HasPrefix(name, ".tmp-") {
				name = "TEMP"
			}
			steps = append(steps, string(step)+" "+name)
			return false, nil
		}
		storetest.Put(t, s, "a/b/k", []byte("x"))
		want := []string{"syncdir a", "syncdir b", "temp TEMP", "write TEMP", "sync TEMP", "rename k", "syncdir k"}
		if !slices.Equal(steps, want) {
			t.Errorf("steps %q, want %q", steps, want)
		}
	}
	entries, err := os.ReadDir(filepath.Join(strings.TrimPrefix(s.Place(), "file://"), "a/b"))
	if err != nil || len(entries) != 1 {
		t.Errorf("left over: %v, %v", entries, err)
	}
}
