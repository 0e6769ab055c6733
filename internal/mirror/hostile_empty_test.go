package mirror_test

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/mirror"
	"github.com/stella-ops/stella/internal/release"
)

// layouts are the three kinds of feeds, each with its first release shown.
func layouts() map[string]func(*testing.T, *world) (one, two map[string][]byte) {
	plain := func(w *world, seq int) map[string][]byte {
		files := w.files(seq, "primary", "community")
		delete(files, "mirror/primary/constant.json")
		return files
	}
	return map[string]func(*testing.T, *world) (one, two map[string][]byte){
		"release": func(_ *testing.T, w *world) (one, two map[string][]byte) {
			return w.publish(1), w.publish(2)
		},
		"bundle-only": func(_ *testing.T, w *world) (one, two map[string][]byte) {
			w.m.Policy = w.policy("statement: optional")
			return plain(w, 1), plain(w, 2)
		},
		"tree": func(_ *testing.T, w *world) (one, two map[string][]byte) {
			w.feed.Shape = mirror.Tree
			return plain(w, 1), plain(w, 2)
		},
	}
}

// eachLayout runs do for each layout and kind of source; one is shown then.
func eachLayout(t *testing.T, do func(t *testing.T, w *world, one, two map[string][]byte)) {
	for layout, begin := range layouts() {
		for _, kind := range []sourceKind{"", inBucket} {
			t.Run(layout+" "+string(kind), func(t *testing.T) {
				t.Parallel()
				w := worldOn(t, kind)
				one, two := begin(t, w)
				w.put(one)
				w.good(one)
				w.at = w.at.Add(time.Second)
				do(t, w, one, two)
			})
		}
	}
}

// TestEmptied: a source that suddenly has nothing takes nothing away, is
// refused once, and is listened to again when it has something.
func TestEmptied(t *testing.T) {
	t.Parallel()
	eachLayout(t, func(t *testing.T, w *world, one, two map[string][]byte) {
		w.put(nil)
		for range 3 {
			if _, err := w.sync(); release.ReasonOf(err) != release.Emptied || fault.KindOf(err) != fault.Trust {
				t.Errorf("%v", err)
			}
			w.shows(one)
		}
		st, err := w.m.Status("concelier")
		if err != nil || st.Refusals[release.Emptied] != 1 || w.slept != w.m.Settle {
			t.Errorf("%v %v, slept %s", err, st.Refusals, w.slept)
		}
		w.put(one)
		if res := w.good(one); res.Outcome != mirror.Unchanged && w.feed.Shape != mirror.Tree {
			t.Errorf("%+v", res)
		}
		w.at = w.at.Add(time.Second)
		w.put(two)
		if res := w.good(two); res.Outcome != mirror.Updated {
			t.Errorf("%+v", res)
		}
	})
}

// TestDeletedFirst: a publisher who takes everything away and puts the next
// release there is no attacker.
func TestDeletedFirst(t *testing.T) {
	t.Parallel()
	eachLayout(t, func(t *testing.T, w *world, one, two map[string][]byte) {
		keys := slices.SortedFunc(maps.Keys(two), func(a, b string) int {
			switch release.FileStatement {
			case a:
				return 1
			case b:
				return -1
			}
			return byName(a, b)
		})
		w.put(nil)
		w.m.Sleep = func(context.Context, time.Duration) error { // it waits for the next settling, then writes on
			for n := min(3, len(keys)); n > 0; n-- {
				w.putOne(keys[0], two[keys[0]])
				keys = keys[1:]
			}
			return nil
		}
		_, err := w.sync()
		if kind := fault.KindOf(err); kind != fault.None && kind != fault.Transient {
			t.Errorf("%v", err)
		}
		if st, err := w.m.Status("concelier"); err != nil || len(st.Refusals) != 0 {
			t.Errorf("%v %v", err, st.Refusals)
		}
		w.put(two)
		w.at = w.at.Add(time.Second)
		w.good(two)
	})
}

// TestSameSizeEdit: one changed byte is noticed in each layout. What is signed
// is refused; a tree takes it, since nobody has said what it must be.
func TestSameSizeEdit(t *testing.T) {
	t.Parallel()
	eachLayout(t, func(t *testing.T, w *world, one, two map[string][]byte) {
		data := slices.Clone(one[bundlePath])
		data[len(data)/2] ^= 1
		edited := with(one, bundlePath, data)
		w.put(edited)
		res, err := w.sync()
		switch {
		case w.feed.Shape == mirror.Tree:
			if err != nil || res.Outcome != mirror.Updated || res.Fetched == 0 {
				t.Errorf("%+v %v", res, err)
			}
			w.shows(edited)
		case one[release.FileStatement] != nil:
			// The statement is the one that is shown: nothing of it is fetched again.
			if err != nil || res.Outcome != mirror.Unchanged {
				t.Errorf("%+v %v", res, err)
			}
			w.shows(one)
			data := slices.Clone(two[bundlePath])
			data[len(data)/2] ^= 1
			w.put(with(two, bundlePath, data))
			if _, err := w.sync(); release.ReasonOf(err) != release.DigestMismatch {
				t.Error(err)
			}
			w.shows(one)
		default:
			if release.ReasonOf(err) != release.SignatureInvalid || fault.KindOf(err) != fault.Trust {
				t.Errorf("%+v %v", res, err)
			}
			w.shows(one)
		}
		w.at = w.at.Add(time.Second)
		w.put(two)
		w.good(two)
	})
}

// TestTreeClock: a tree is newer than the one before whatever this host's clock
// says, and two within a second are two.
func TestTreeClock(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.feed.Shape = mirror.Tree
	for i, step := range []time.Duration{0, 0, -time.Hour, -365 * 24 * time.Hour, 24 * time.Hour} {
		w.at = w.at.Add(step)
		files := map[string][]byte{"a.json": {byte('0' + i)}}
		w.put(files)
		if res := w.good(files); res.Outcome != mirror.Updated {
			t.Errorf("%d: %+v", i, res)
		}
	}
	if st, err := w.m.Status("concelier"); err != nil || len(st.Releases) != 5 || len(st.Refusals) != 0 {
		t.Errorf("%v %+v", err, st)
	}
}

// TestTreeLimits: a listing that goes on and on is given up at the limit of the
// policy, and so is a file or a sum that is too large.
func TestTreeLimits(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		rule string
		why  release.Reason
	}{"control": {"limits: {members: 3, member: 10, release: 25}", ""}, "members": {"limits: {members: 2}", release.TooLarge},
		"member": {"limits: {member: 9}", release.TooLarge}, "release": {"limits: {release: 24}", release.TooLarge}} {
		w := newWorld(t)
		w.feed.Shape = mirror.Tree
		w.m.Policy = w.policy(c.rule)
		w.put(map[string][]byte{"a": []byte("0123456789"), "b": []byte("0123456789"), "c": []byte("01234")})
		if _, err := w.sync(); release.ReasonOf(err) != c.why || (err == nil) != (c.why == "") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestLostRelease: what this host lost of the release that it shows comes back,
// though the source has nothing new.
func TestLostRelease(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one := w.publish(1)
	w.good(one)
	if err := os.RemoveAll(filepath.Join(w.m.Folder("concelier"), "releases", "20260301T010000Z")); err != nil {
		t.Fatal(err)
	}
	if res := w.good(one); res.Outcome == mirror.Unchanged {
		t.Errorf("%+v", res)
	}
	if res := w.good(one); res.Outcome != mirror.Unchanged {
		t.Errorf("%+v", res)
	}
}

// TestBundleIsNotRead: asking whether a release without a statement changed
// reads no bundle, however large the new one is.
func TestBundleIsNotRead(t *testing.T) {
	t.Parallel()
	w, o := newOrigin(t, onWeb)
	w.m.Policy = w.policy("statement: optional")
	one := w.files(1, "primary")
	delete(one, "mirror/primary/constant.json")
	w.put(one)
	w.good(one)
	o.bad(nil)
	if res := w.good(one); res.Outcome != mirror.Unchanged {
		t.Errorf("%+v", res)
	}
	if got := o.requests(bundlePath); len(got) != 1 || got[0].sent > 1 {
		t.Errorf("%+v", got)
	}
}
