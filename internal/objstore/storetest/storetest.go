// Package storetest holds every objstore.Store to what objstore promises.
//
// It guarantees that a store that passes Run or RunReader can take another
// one's place in the callers, and that what it finds is reported by the name of
// the promise. Only tests import it.
package storetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/objstore"
)

// Run tests a store; open gives an empty one each time.
func Run(t *testing.T, open func(t *testing.T) objstore.Store) {
	RunReader(t, func(t *testing.T, objects map[string][]byte) objstore.Reader {
		s := open(t)
		for key, data := range objects {
			Put(t, s, key, data)
		}
		return s
	})
	for name, test := range map[string]func(*testing.T, objstore.Store){
		"put replaces whole":  putReplaces,
		"put wants its size":  putSize,
		"put from the middle": putMiddle,
		"put and get at once": putAndGet,
		"delete":              deletes,
		"list":                lists,
		"list many":           listsMany,
		"list ends":           listEnds,
		"bad keys are not written": func(t *testing.T, s objstore.Store) {
			for name, key := range badKeys() {
				if _, err := s.Put(t.Context(), key, strings.NewReader("x"), 1); !errors.Is(err, objstore.ErrKey) || fault.KindOf(err) != fault.Input {
					t.Errorf("%s: Put gives %v", name, err)
				}
				if err := s.Delete(t.Context(), key); !errors.Is(err, objstore.ErrKey) {
					t.Errorf("%s: Delete gives %v", name, err)
				}
			}
		},
		"no write on a dead context": deadWrites,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

// RunReader tests what can be read of a store; seed gives one that holds just
// these objects.
func RunReader(t *testing.T, seed func(t *testing.T, objects map[string][]byte) objstore.Reader) {
	big := noise(10 << 20)
	objects := map[string][]byte{"dir/object": []byte("0123456789"), "empty": {}, "big": big}
	for _, key := range unusualKeys() {
		objects[key] = []byte("of " + key)
	}
	r := seed(t, objects)
	t.Run("get", func(t *testing.T) {
		for key, want := range objects {
			o := Open(t, r, key, objstore.Get{})
			if o.Key != key || o.Size != int64(len(want)) && o.Size != -1 || o.Offset != 0 {
				t.Errorf("%s: %+v", key, o.Info)
			}
			if got := All(t, o); !bytes.Equal(got, want) {
				t.Errorf("%s: %d bytes, want %d", key, len(got), len(want))
			}
		}
	})
	t.Run("ranges", func(t *testing.T) { ranges(t, r) })
	t.Run("big ranges", func(t *testing.T) {
		for at := int64(0); at < int64(len(big)); at += 3 << 20 {
			g := objstore.Get{Offset: at, Length: 3 << 20}
			o := Open(t, r, "big", g)
			want := big[at:min(at+3<<20, int64(len(big)))]
			if got := All(t, o); o.Offset != at || !bytes.Equal(got, want) {
				t.Errorf("%+v: %d bytes at %d", g, len(got), o.Offset)
			}
		}
	})
	t.Run("conditions", func(t *testing.T) { conditions(t, r) })
	t.Run("not found", func(t *testing.T) {
		for _, key := range []string{"missing", "dir", "dir/missing", "dir/object/below", "missing/below"} {
			want(t, r, key, objstore.Get{}, objstore.ErrNotFound, fault.NotFound)
		}
	})
	t.Run("bad keys", func(t *testing.T) {
		for name, key := range badKeys() {
			if _, err := r.Open(t.Context(), key, objstore.Get{}); !errors.Is(err, objstore.ErrKey) || fault.KindOf(err) != fault.Input {
				t.Errorf("%s: %v", name, err)
			} else if len(err.Error()) > 900 || strings.ContainsAny(err.Error(), "\x00\x1b\n") {
				t.Errorf("%s: not printable: %q", name, err)
			}
		}
	})
	t.Run("bad ranges", func(t *testing.T) {
		for _, g := range []objstore.Get{{Offset: -1}, {Length: -1}, {Offset: 1 << 62, Length: 1 << 62}, {IfMatch: "bare"}, {IfNoneMatch: "\"a\r\nb\""}} {
			if o, err := r.Open(t.Context(), "dir/object", g); err == nil || fault.KindOf(err) != fault.Input {
				t.Errorf("%+v: %v, %v", g, o, err)
			}
		}
	})
	t.Run("cancelled", func(t *testing.T) { cancelled(t, r) })
	t.Run("at once", func(t *testing.T) { atOnce(t, r, big) })
}

func ranges(t *testing.T, r objstore.Reader) {
	for _, c := range []struct {
		g    objstore.Get
		want string
	}{
		{objstore.Get{}, "0123456789"},
		{objstore.Get{Length: 4}, "0123"},
		{objstore.Get{Offset: 3, Length: 4}, "3456"},
		{objstore.Get{Offset: 3}, "3456789"},
		{objstore.Get{Offset: 9}, "9"},
		{objstore.Get{Offset: 9, Length: 1}, "9"},
		{objstore.Get{Offset: 5, Length: 5}, "56789"},
		{objstore.Get{Offset: 5, Length: 1000}, "56789"}, // the end comes first
		{objstore.Get{Length: 1000}, "0123456789"},
	} {
		o := Open(t, r, "dir/object", c.g)
		if got := string(All(t, o)); got != c.want || o.Offset != c.g.Offset || o.Size != 10 {
			t.Errorf("%+v: %q at %d of %d", c.g, got, o.Offset, o.Size)
		}
	}
	for _, offset := range []int64{10, 11, 1 << 40} {
		want(t, r, "dir/object", objstore.Get{Offset: offset}, objstore.ErrRange, fault.Unclassified)
		want(t, r, "dir/object", objstore.Get{Offset: offset, Length: 5}, objstore.ErrRange, fault.Unclassified)
	}
	o := Open(t, r, "empty", objstore.Get{Length: 5})
	if got := All(t, o); len(got) != 0 || o.Offset != 0 {
		t.Errorf("of the empty object: %q", got)
	}
	want(t, r, "empty", objstore.Get{Offset: 1}, objstore.ErrRange, fault.Unclassified)
}

func conditions(t *testing.T, r objstore.Reader) {
	o := Open(t, r, "dir/object", objstore.Get{})
	All(t, o)
	tag := o.ETag
	if tag == "" {
		t.Fatal("no entity tag")
	}
	if o := Open(t, r, "dir/object", objstore.Get{IfMatch: tag, Offset: 5}); string(All(t, o)) != "56789" || o.ETag != tag {
		t.Errorf("If-Match that holds: %+v", o.Info)
	}
	if o := Open(t, r, "dir/object", objstore.Get{IfNoneMatch: `"other"`}); string(All(t, o)) != "0123456789" {
		t.Errorf("If-None-Match that holds: %+v", o.Info)
	}
	want(t, r, "dir/object", objstore.Get{IfMatch: `"other"`}, objstore.ErrChanged, fault.Transient)
	want(t, r, "dir/object", objstore.Get{IfMatch: `"other"`, Offset: 5}, objstore.ErrChanged, fault.Transient)
	want(t, r, "dir/object", objstore.Get{IfNoneMatch: tag}, objstore.ErrNotModified, fault.Unclassified)
}

func cancelled(t *testing.T, r objstore.Reader) {
	dead, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Open(dead, "big", objstore.Get{}); !errors.Is(err, context.Canceled) || fault.KindOf(err) != fault.Interrupted {
		t.Errorf("Open: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	o, err := r.Open(ctx, "big", objstore.Get{})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Body.Close()
	if _, err := io.ReadFull(o.Body, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if n, err := io.Copy(io.Discard, o.Body); !errors.Is(err, context.Canceled) || errors.Is(err, objstore.ErrTransient) {
		t.Errorf("the body ends with %v after %d bytes more", err, n)
	}
}

// atOnce reads one object from several goroutines.
func atOnce(t *testing.T, r objstore.Reader, big []byte) {
	errs := make(chan error, 8)
	sum := sha256.Sum256(big)
	for range cap(errs) {
		go func() {
			o, err := r.Open(t.Context(), "big", objstore.Get{})
			if err != nil {
				errs <- err
				return
			}
			defer o.Body.Close()
			h := sha256.New()
			_, err = io.Copy(h, o.Body)
			if err == nil && !bytes.Equal(h.Sum(nil), sum[:]) {
				err = errors.New("other bytes")
			}
			errs <- err
		}()
	}
	for range cap(errs) {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

// Put stores an object or ends the test.
func Put(t testing.TB, s objstore.Writer, key string, data []byte) objstore.Info {
	t.Helper()
	info, err := s.Put(t.Context(), key, bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	if info.Key != key || info.Size != int64(len(data)) {
		t.Errorf("put gives %+v for %s of %d bytes", info, key, len(data))
	}
	return info
}

// Open opens an object or ends the test.
func Open(t testing.TB, r objstore.Reader, key string, g objstore.Get) *objstore.Object {
	t.Helper()
	o, err := r.Open(t.Context(), key, g)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// All reads and closes an object or ends the test.
func All(t testing.TB, o *objstore.Object) []byte {
	t.Helper()
	data, err := io.ReadAll(o.Body)
	if err = errors.Join(err, o.Body.Close()); err != nil {
		t.Fatal(err)
	}
	return data
}

// want wants an Open to fail, in words that name the key.
func want(t *testing.T, r objstore.Reader, key string, g objstore.Get, why error, kind fault.Kind) {
	t.Helper()
	o, err := r.Open(t.Context(), key, g)
	if err == nil {
		o.Body.Close()
	}
	if !errors.Is(err, why) || fault.KindOf(err) != kind {
		t.Errorf("%s %+v: %v (%v), want %v", key, g, err, fault.KindOf(err), why)
	} else if text := err.Error(); !strings.Contains(text, key) || !strings.Contains(text, r.Place()) {
		t.Errorf("%q names not %s and %s", text, key, r.Place())
	}
}

func unusualKeys() []string {
	return []string{
		"odd/a b", "odd/a+b", "odd/a%20b", "odd/a%2Fb", "odd/100%", "odd/ä€😀", "odd/e\u0301", "odd/a&b=c", "odd/a?b", "odd/a#b", "odd/a:b;c,d",
		"odd/[x]{y}", "odd/'q\"`", "odd/<x>", "odd/$HOME", "odd/back\\slash", "odd/~a", "odd/a*b", "odd/...", "odd/.hidden", "odd/-flag",
		"odd/ leading", "odd/" + strings.Repeat("n", 200), strings.Repeat("deep/", 30) + "x",
	}
}

func badKeys() map[string]string {
	return map[string]string{
		"empty": "", "slash": "/", "leading": "/a", "trailing": "a/", "double": "a//b", "dot": "a/./b", "dots": "../a", "dots in": "a/../../b",
		"nul": "a\x00b", "newline": "a\nb", "escape": "a\x1b[2Jb", "not UTF-8": "a\xffb", "direction": "a\u202eb",
		"long": strings.Repeat("k/", 2500), "long element": strings.Repeat("e", 256), "deep": strings.Repeat("d/", 64) + "x",
	}
}

// noise is the same in each run.
func noise(n int) []byte {
	data := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(data) // it cannot fail
	return data
}

func keysOf(t *testing.T, s objstore.Reader, prefix string) []string {
	t.Helper()
	var keys []string
	if err := s.List(t.Context(), prefix, func(i objstore.Info) error { keys = append(keys, i.Key); return nil }); err != nil {
		t.Fatal(err)
	}
	if !slices.IsSorted(keys) {
		t.Errorf("out of order: %.500q", fmt.Sprint(keys))
	}
	return keys
}
