package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/objstore"
)

func putReplaces(t *testing.T, s objstore.Store) {
	for _, data := range [][]byte{[]byte("a longer text"), []byte("short"), {}, noise(10 << 20), []byte("end")} {
		info := Put(t, s, "k", data)
		o := Open(t, s, "k", objstore.Get{IfMatch: info.ETag})
		if got := All(t, o); !bytes.Equal(got, data) {
			t.Errorf("%d bytes, want %d", len(got), len(data))
		}
	}
	if keys := keysOf(t, s, ""); !slices.Equal(keys, []string{"k"}) {
		t.Errorf("left over: %q", keys)
	}
}

// putSize: a body of another size than was said leaves the old object.
func putSize(t *testing.T, s objstore.Store) {
	Put(t, s, "k", []byte("old"))
	for _, size := range []int64{3, 5} {
		_, err := s.Put(t.Context(), "k", strings.NewReader("four"), size)
		if err == nil || fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), "announced") {
			t.Errorf("size %d of 4: %v", size, err)
		}
	}
	boom := errors.New("the disk went")
	if _, err := s.Put(t.Context(), "k", &failing{boom}, 10); !errors.Is(err, boom) {
		t.Errorf("a body that cannot be read: %v", err)
	}
	if got := All(t, Open(t, s, "k", objstore.Get{})); string(got) != "old" {
		t.Errorf("a Put that failed left %q", got)
	}
	if keys := keysOf(t, s, ""); !slices.Equal(keys, []string{"k"}) {
		t.Errorf("left over: %q", keys)
	}
}

type failing struct{ err error }

func (f *failing) Read([]byte) (int, error)       { return 0, f.err }
func (f *failing) Seek(int64, int) (int64, error) { return 0, nil }

// putMiddle: a body is read from where it stands.
func putMiddle(t *testing.T, s objstore.Store) {
	body := strings.NewReader("skipped wanted")
	if _, err := body.Seek(8, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(t.Context(), "k", body, 6); err != nil {
		t.Fatal(err)
	}
	if got := All(t, Open(t, s, "k", objstore.Get{})); string(got) != "wanted" {
		t.Errorf("stored %q", got)
	}
}

// putAndGet: readers see one version or the other, whole.
func putAndGet(t *testing.T, s objstore.Store) {
	const size = 300_000
	a, b := bytes.Repeat([]byte("a"), size), bytes.Repeat([]byte("b"), size)
	Put(t, s, "k", a)
	done := make(chan struct{})
	var wg sync.WaitGroup
	for _, data := range [][]byte{a, b} {
		wg.Go(func() {
			for range 15 {
				if _, err := s.Put(t.Context(), "k", bytes.NewReader(data), size); err != nil {
					t.Error(err)
				}
			}
		})
	}
	go func() { wg.Wait(); close(done) }()
	seen := 0
	for open := true; open; {
		select {
		case <-done:
			open = false
		default:
		}
		o, err := s.Open(t.Context(), "k", objstore.Get{})
		if errors.Is(err, objstore.ErrTransient) || errors.Is(err, objstore.ErrChanged) {
			continue
		}
		if err != nil {
			t.Error(err)
			continue
		}
		data, err := io.ReadAll(o.Body)
		o.Body.Close()
		if err == nil && !bytes.Equal(data, a) && !bytes.Equal(data, b) {
			t.Errorf("mixed: %d bytes, first %.1q, last %.1q", len(data), data, data[len(data)-1:])
		}
		seen++
	}
	if seen == 0 {
		t.Error("nothing was read meanwhile")
	}
}

func deletes(t *testing.T, s objstore.Store) {
	Put(t, s, "d/a", []byte("x"))
	Put(t, s, "d/b", []byte("y"))
	for _, key := range []string{"d/a", "d/a", "missing", "missing/below"} {
		if err := s.Delete(t.Context(), key); err != nil {
			t.Errorf("%s: %v", key, err)
		}
	}
	want(t, s, "d/a", objstore.Get{}, objstore.ErrNotFound, fault.NotFound)
	if keys := keysOf(t, s, ""); !slices.Equal(keys, []string{"d/b"}) {
		t.Errorf("left: %q", keys)
	}
}

func lists(t *testing.T, s objstore.Store) {
	if keys := keysOf(t, s, ""); len(keys) != 0 {
		t.Errorf("of the empty store: %q", keys)
	}
	// The byte order of keys is not that of a tree walk.
	all := []string{"a-b", "a.txt", "a/b", "a/b.c", "a/c/d", "a0", "b c/+", "b%20c", "ä/x"}
	for i, key := range all {
		Put(t, s, key, make([]byte, i))
	}
	for prefix, want := range map[string][]string{
		"": all, "a": all[:6], "a/": all[2:5], "a/b": all[2:4], "a/c/d": {"a/c/d"}, "a/c/d/": nil, "b ": {"b c/+"}, "b%": {"b%20c"}, "ä": {"ä/x"},
		"zzz": nil, "/": nil, "a//": nil, "missing/below/": nil, "a.txt/": nil, strings.Repeat("long", 300): nil,
	} {
		if keys := keysOf(t, s, prefix); !slices.Equal(keys, want) {
			t.Errorf("%q: %q, want %q", prefix, keys, want)
		}
	}
	err := s.List(t.Context(), "a/", func(i objstore.Info) error {
		o := Open(t, s, i.Key, objstore.Get{})
		if got := All(t, o); int64(len(got)) != i.Size || all[i.Size] != i.Key || o.ETag != i.ETag || i.Modified.IsZero() {
			t.Errorf("listed as %+v, opened as %+v", i, o.Info)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// listsMany needs more than one page.
func listsMany(t *testing.T, s objstore.Store) {
	var want []string
	for i := range 1010 {
		want = append(want, fmt.Sprintf("many/%02d/object-%d", i%7, i))
	}
	keys := make(chan string)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for key := range keys {
				if _, err := s.Put(t.Context(), key, strings.NewReader("x"), 1); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for _, key := range want {
		keys <- key
	}
	close(keys)
	wg.Wait()
	slices.Sort(want)
	if got := keysOf(t, s, ""); !slices.Equal(got, want) {
		t.Errorf("%d keys, want %d", len(got), len(want))
	}
	some := slices.DeleteFunc(slices.Clone(want), func(key string) bool { return !strings.HasPrefix(key, "many/03/") })
	if got := keysOf(t, s, "many/03/"); !slices.Equal(got, some) {
		t.Errorf("%d keys below a prefix, want %d", len(got), len(some))
	}
}

func listEnds(t *testing.T, s objstore.Store) {
	for _, key := range []string{"a", "b", "c"} {
		Put(t, s, key, nil)
	}
	boom, calls := errors.New("enough"), 0
	err := s.List(t.Context(), "", func(objstore.Info) error {
		if calls++; calls == 2 {
			return boom
		}
		return nil
	})
	if err != boom || calls != 2 {
		t.Errorf("after %d calls: %v", calls, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = s.List(ctx, "", func(objstore.Info) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) || fault.KindOf(err) != fault.Interrupted {
		t.Errorf("cancelled in the middle: %v", err)
	}
	if err := s.List(ctx, "", func(objstore.Info) error { t.Error("called"); return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("on a dead context: %v", err)
	}
}

func deadWrites(t *testing.T, s objstore.Store) {
	Put(t, s, "k", []byte("old"))
	dead, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Put(dead, "k", strings.NewReader("new"), 3); !errors.Is(err, context.Canceled) {
		t.Errorf("Put: %v", err)
	}
	if err := s.Delete(dead, "k"); !errors.Is(err, context.Canceled) {
		t.Errorf("Delete: %v", err)
	}
	if got := All(t, Open(t, s, "k", objstore.Get{})); string(got) != "old" {
		t.Errorf("it holds %q", got)
	}
}
