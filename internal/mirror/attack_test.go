package mirror_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/mirror"
	"github.com/stella-ops/stella/internal/release"
)

// attack is one thing that a hostile source may do with a release. The control
// is the same release without it, which the mirror takes.
type attack struct {
	name string
	want release.Reason
	// do makes what the source holds. honest is the next release, whole.
	do func(w *world, honest map[string][]byte) map[string][]byte
	// first: also refused by a mirror that has never synced.
	first bool
}

// with changes one file of a release.
func with(files map[string][]byte, path string, data []byte) map[string][]byte {
	out := maps.Clone(files)
	if data == nil {
		delete(out, path)
	} else {
		out[path] = data
	}
	return out
}

// resigned makes a release whose statement says what edit makes of it.
func resigned(w *world, files map[string][]byte, kid string, edit func(*release.Statement)) map[string][]byte {
	w.t.Helper()
	plain := maps.Clone(files)
	delete(plain, release.FileStatement)
	delete(plain, release.FileSignature)
	statement := w.state(2, plain, edit)
	return with(with(files, release.FileStatement, statement), release.FileSignature, w.sign(statement, kid))
}

const bundlePath = "mirror/primary/bundle.json"

func attacks() []attack {
	flip := func(path string) func(*world, map[string][]byte) map[string][]byte {
		return func(_ *world, f map[string][]byte) map[string][]byte {
			data := slices.Clone(f[path])
			data[len(data)/2] ^= 1
			return with(f, path, data)
		}
	}
	drop := func(path string) func(*world, map[string][]byte) map[string][]byte {
		return func(_ *world, f map[string][]byte) map[string][]byte { return with(f, path, nil) }
	}
	return []attack{
		{name: "X01 same-size edit of a bundle", want: release.DigestMismatch, first: true, do: flip(bundlePath)},
		{name: "X01 same-size edit of the index", want: release.DigestMismatch, first: true, do: flip(release.PathIndex)},
		{name: "X01 same-size edit of the statement", want: release.SignatureInvalid, first: true, do: flip(release.FileStatement)},
		{name: "X02 statement without signature", want: release.SignatureMissing, first: true, do: drop(release.FileSignature)},
		{name: "X02 bundle without signature", want: release.MissingMember, first: true, do: drop(bundlePath + ".jws")},
		{name: "stripping: no statement", want: release.StatementMissing, first: true, do: drop(release.FileStatement)},
		{name: "X03 alg none", want: release.AlgRefused, first: true, do: func(w *world, f map[string][]byte) map[string][]byte {
			return with(f, release.FileSignature, []byte(b64(`{"alg":"none","typ":"`+release.Type+`","b64":false,"crit":["b64"]}`)+".."+b64("x")+"\n"))
		}},
		{name: "X03 HS256 with the public key", want: release.AlgRefused, first: true, do: func(w *world, f map[string][]byte) map[string][]byte {
			return with(f, release.FileSignature, hmacLine(w.pems["k1"], f[release.FileStatement]))
		}},
		{name: "X04 b64 false without crit", want: release.SignatureInvalid, first: true, do: func(w *world, f map[string][]byte) map[string][]byte {
			head, sig, _ := strings.Cut(string(f[release.FileSignature]), "..")
			return with(f, release.FileSignature, []byte(b64(strings.Replace(unb64(head), `"crit":["b64"]`, `"x":1`, 1))+".."+sig))
		}},
		{name: "X05 payload inside", want: release.SignatureInvalid, first: true, do: func(w *world, f map[string][]byte) map[string][]byte {
			return with(f, release.FileSignature, []byte(strings.Replace(string(f[release.FileSignature]), "..", "."+b64("{}")+".", 1)))
		}},
		{name: "X06 rollback to an older valid export", want: release.Rollback, do: func(w *world, f map[string][]byte) map[string][]byte {
			return resigned(w, f, "k1", func(s *release.Statement) {
				s.Sequence, s.ExportID, s.GeneratedAt = 0+1, "20260101T000000Z", s.GeneratedAt.Add(-time.Hour)
				s.Sequence = 1
				w.m.Policy = w.policy("feeds: [{name: concelier, minimum_sequence: 2}]")
			})
		}},
		{name: "rollback of the time alone", want: release.Rollback, do: func(w *world, f map[string][]byte) map[string][]byte {
			return resigned(w, f, "k1", func(s *release.Statement) { s.GeneratedAt = s.GeneratedAt.Add(-time.Hour) })
		}},
		{name: "X07 freeze: expired", want: release.Stale, first: true, do: func(w *world, f map[string][]byte) map[string][]byte {
			return resigned(w, f, "k1", func(s *release.Statement) {
				s.GeneratedAt = s.GeneratedAt.Add(-time.Minute / 2)
				s.ExpiresAt = w.at.Add(-6 * time.Minute)
				s.GeneratedAt = w.at.Add(-8 * time.Minute)
			})
		}},
		{name: "made in the future", want: release.Future, first: true, do: func(w *world, f map[string][]byte) map[string][]byte {
			return resigned(w, f, "k1", func(s *release.Statement) { s.GeneratedAt = w.at.Add(time.Hour) })
		}},
		{name: "fast-forward", want: release.FastForward, do: func(w *world, f map[string][]byte) map[string][]byte {
			return resigned(w, f, "k1", func(s *release.Statement) { s.Sequence = 1 << 40 })
		}},
		{name: "fast-forward to the end", want: release.FastForward, first: true, do: func(w *world, f map[string][]byte) map[string][]byte {
			return resigned(w, f, "k1", func(s *release.Statement) { s.Sequence = 1 << 53 })
		}},
		{name: "X08 mix-and-match: bundle of the release before", want: release.MixAndMatch, do: func(w *world, f map[string][]byte) map[string][]byte {
			old := w.files(1, "primary", "community")
			return with(f, bundlePath, old[bundlePath])
		}},
		{name: "X08 mix-and-match: old bundle and its signature", want: release.DigestMismatch, first: true, do: func(w *world, f map[string][]byte) map[string][]byte {
			old := w.files(5, "primary")
			return with(with(f, bundlePath, old[bundlePath]), bundlePath+".jws", old[bundlePath+".jws"])
		}},
		{name: "X08 the signature of another statement", want: release.SignatureInvalid, first: true, do: func(w *world, f map[string][]byte) map[string][]byte {
			plain := w.files(1, "primary", "community")
			return with(f, release.FileSignature, w.sign(w.state(1, plain, nil), "k1"))
		}},
		{name: "X09 equivocation: same sequence", want: release.Equivocation, do: func(w *world, f map[string][]byte) map[string][]byte {
			return resigned(w, f, "k1", func(s *release.Statement) { s.Sequence = 1; s.GeneratedAt = s.GeneratedAt.Add(time.Second) })
		}},
		{name: "X09 equivocation: same export", want: release.Equivocation, do: func(w *world, f map[string][]byte) map[string][]byte {
			return resigned(w, f, "k1", func(s *release.Statement) { s.ExportID = "20260301T010000Z" })
		}},
		{name: "X10 truncated member", want: release.SizeMismatch, first: true, do: func(_ *world, f map[string][]byte) map[string][]byte {
			return with(f, bundlePath, f[bundlePath][:10])
		}},
		{name: "X10 longer member", want: release.SizeMismatch, first: true, do: func(_ *world, f map[string][]byte) map[string][]byte {
			return with(f, bundlePath, append(slices.Clone(f[bundlePath]), ' '))
		}},
		{name: "X10 a member over the cap", want: release.TooLarge, first: true, do: func(w *world, f map[string][]byte) map[string][]byte {
			return resigned(w, f, "k1", func(s *release.Statement) { s.Members[0].Size = 9 << 30 })
		}},
		{name: "X10 a statement over the cap", want: release.TooLarge, first: true, do: func(w *world, f map[string][]byte) map[string][]byte {
			w.m.Policy = w.policy("limits: {statement: 4096}")
			return with(f, release.FileStatement, append(slices.Clone(f[release.FileStatement]), strings.Repeat(" ", 5000)...))
		}},
		{name: "X12 member missing at the source", want: release.MissingMember, first: true, do: drop("mirror/community/manifest.json")},
		{name: "X12 a domain that the index does not name", want: release.ExtraMember, first: true, do: func(w *world, f map[string][]byte) map[string][]byte {
			for path, data := range w.files(2, "extra") {
				if path != release.PathIndex {
					f = with(f, path, data)
				}
			}
			return resigned(w, f, "k1", nil)
		}},
		{name: "X12 a domain of the index without files", want: release.MissingMember, first: true, do: func(w *world, f map[string][]byte) map[string][]byte {
			return resigned(w, with(f, release.PathIndex, w.files(2, "primary", "community", "third")[release.PathIndex]), "k1", nil)
		}},
		{name: "X13 unknown key", want: release.KeyUnknown, first: true, do: func(w *world, f map[string][]byte) map[string][]byte {
			return resigned(w, f, "stranger", nil)
		}},
		{name: "X13 expired key", want: release.KeyExpired, first: true, do: func(w *world, f map[string][]byte) map[string][]byte {
			return resigned(w, f, "old", nil)
		}},
		{name: "X13 stranger under a known kid", want: release.SignatureInvalid, first: true, do: func(w *world, f map[string][]byte) map[string][]byte {
			s, err := jwsAs(w.keys["stranger"], "k1", f[release.FileStatement])
			if err != nil {
				w.t.Fatal(err)
			}
			return with(f, release.FileSignature, []byte(s))
		}},
		{name: "below the threshold", want: release.Threshold, first: true, do: func(w *world, f map[string][]byte) map[string][]byte {
			w.m.Policy = w.policy("threshold: 2")
			return f
		}},
		{name: "below the threshold: one key twice", want: release.Threshold, first: true, do: func(w *world, f map[string][]byte) map[string][]byte {
			w.m.Policy = w.policy("threshold: 2")
			return with(f, release.FileSignature, append(w.sign(f[release.FileStatement], "k1"), w.sign(f[release.FileStatement], "k1")...))
		}},
		{name: "a release of another feed", want: release.WrongFeed, first: true, do: func(w *world, f map[string][]byte) map[string][]byte {
			return resigned(w, f, "k1", func(s *release.Statement) { s.Feed = "excititor" })
		}},
		{name: "arbitrary install: bundle and signature of a stranger", want: release.KeyUnknown, first: true, do: func(w *world, f map[string][]byte) map[string][]byte {
			jws, err := w.keys["stranger"].SignDetached(nil, f[bundlePath])
			if err != nil {
				w.t.Fatal(err)
			}
			return resigned(w, with(f, bundlePath+".jws", []byte(jws)), "k1", nil)
		}},
		{name: "a statement's signature as a bundle's", want: release.SignatureInvalid, first: true, do: func(w *world, f map[string][]byte) map[string][]byte {
			other := w.state(3, w.files(3, "primary"), nil)
			f = with(with(f, bundlePath, other), bundlePath+".jws", w.sign(other, "k1"))
			return resigned(w, f, "k1", nil)
		}},
		{name: "manifest of another domain", want: release.MixAndMatch, first: true, do: func(w *world, f map[string][]byte) map[string][]byte {
			return resigned(w, with(f, "mirror/primary/manifest.json", f["mirror/community/manifest.json"]), "k1", nil)
		}},
		{name: "X15 the source empties", want: release.Emptied, do: func(*world, map[string][]byte) map[string][]byte { return nil }},
	}
}

// TestAttacks: each attack is refused with its own reason, also by a mirror
// that never synced; the last good release stays; the control is taken.
func TestAttacks(t *testing.T) { eachAttack(t, newWorld) }

func eachAttack(t *testing.T, make func(*testing.T) *world) {
	for _, a := range attacks() {
		t.Run(a.name, func(t *testing.T) { t.Parallel(); a.run(t, make(t), false) })
		if a.first {
			t.Run(a.name+" (first sync)", func(t *testing.T) { t.Parallel(); a.run(t, make(t), true) })
		}
	}
}

func (a attack) run(t *testing.T, w *world, fresh bool) {
	var before map[string][]byte
	if !fresh {
		before = w.publish(1)
		w.good(before)
	}
	honest := w.publish(2)
	policy := w.m.Policy
	w.put(a.do(w, honest))
	_, err := w.sync()
	if release.ReasonOf(err) != a.want || fault.KindOf(err) != fault.Trust {
		t.Fatalf("reason %q, kind %v: %v", release.ReasonOf(err), fault.KindOf(err), err)
	}
	w.m.Policy = policy
	st, serr := w.m.Status("concelier")
	if serr != nil || st.Refusals[a.want] != 1 || st.Refused == nil || st.Refused.Reason != a.want {
		t.Errorf("status: %v %+v", serr, st)
	}
	if fresh {
		if st.Shown.ExportID != "" {
			t.Errorf("something is shown: %+v", st.Shown)
		}
	} else {
		w.shows(before)
	}
	w.put(honest)
	if res := w.good(honest); res.Outcome != mirror.Updated {
		t.Errorf("control: %+v", res)
	}
}

// TestRefusedOnce: the same release refused again is not recorded again, and
// costs no second look; another one is.
func TestRefusedOnce(t *testing.T) {
	w := newWorld(t)
	w.good(w.publish(1))
	bad := attacks()[0].do(w, w.publish(2))
	w.put(bad)
	for range 3 {
		if _, err := w.sync(); release.ReasonOf(err) != release.DigestMismatch {
			t.Fatal(err)
		}
	}
	st, err := w.m.Status("concelier")
	if err != nil || st.Refusals[release.DigestMismatch] != 1 {
		t.Errorf("%v %+v", err, st)
	}
	if w.slept != w.m.Settle {
		t.Errorf("slept %s, want one settling of %s", w.slept, w.m.Settle)
	}
}
