package mirror_test

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/mirror"
	"github.com/stella-ops/stella/internal/mirror/store"
	"github.com/stella-ops/stella/internal/release"
)

// looseWorld has a source without statements, and a policy that allows it.
func looseWorld(t *testing.T) *world {
	w := newWorld(t)
	w.m.Policy = w.policy("statement: optional\nmax_age: 24h")
	return w
}

func manifest(domain, created string) []byte {
	return fmt.Appendf(nil, `{"domainId":%q,"created":%q,"schemaVersion":1,"advisories":1}`, domain, created)
}

func TestBundleOnly(t *testing.T) {
	w := looseWorld(t)
	one := w.files(1, "primary", "community")
	delete(one, "mirror/primary/constant.json") // nothing names it
	w.put(one)
	res := w.good(one)
	if res.Layout != store.BundleOnly || res.ExportID != "20260301T010000Z" || res.Outcome != mirror.Updated {
		t.Errorf("%+v", res)
	}
	if res := w.good(one); res.Outcome != mirror.Unchanged {
		t.Errorf("%+v", res)
	}
	two := w.files(2, "primary", "community")
	delete(two, "mirror/primary/constant.json")
	w.put(two)
	if res := w.good(two); res.ExportID != "20260301T020000Z" || res.Before != "20260301T010000Z" {
		t.Errorf("%+v", res)
	}
	if w.slept != 0 {
		t.Errorf("slept %s", w.slept)
	}
}

// TestBundleOnlyRefusals: what is refused although there is no statement.
func TestBundleOnlyRefusals(t *testing.T) {
	for _, a := range []struct {
		name string
		want release.Reason
		do   func(w *world, f map[string][]byte) map[string][]byte
	}{
		{"X01 same-size edit of a bundle", release.SignatureInvalid, func(w *world, f map[string][]byte) map[string][]byte {
			data := append([]byte{}, f[bundlePath]...)
			data[20] ^= 1
			return with(f, bundlePath, data)
		}},
		{"X02 no signature", release.SignatureMissing, func(w *world, f map[string][]byte) map[string][]byte { return with(f, bundlePath+".jws", nil) }},
		{"X03 HS256", release.AlgRefused, func(w *world, f map[string][]byte) map[string][]byte {
			return with(f, bundlePath+".jws", hmacLine(w.pems["k1"], f[bundlePath]))
		}},
		{"X05 attached", release.SignatureInvalid, func(w *world, f map[string][]byte) map[string][]byte {
			jws, err := w.keys["k1"].Sign(nil, f[bundlePath])
			if err != nil {
				w.t.Fatal(err)
			}
			return with(f, bundlePath+".jws", []byte(jws))
		}},
		{"X06 older created", release.Rollback, func(w *world, f map[string][]byte) map[string][]byte {
			return with(with(f, "mirror/primary/manifest.json", manifest("primary", "2026-03-01T00:30:00Z")), "mirror/community/manifest.json", manifest("community", "2026-03-01T00:30:00Z"))
		}},
		{"X07 older than the policy allows", release.Stale, func(w *world, f map[string][]byte) map[string][]byte {
			w.at = w.at.Add(48 * time.Hour)
			return f
		}},
		{"X08 manifest of another bundle", release.MixAndMatch, func(w *world, f map[string][]byte) map[string][]byte {
			return with(f, "mirror/primary/manifest.json", fmt.Appendf(nil, `{"domainId":"primary","created":"2026-03-01T02:00:00Z","schemaVersion":1,"bundle":{"size":3,"sha256":"%064d"}}`, 7))
		}},
		{"X09 other content under the same export", release.Equivocation, func(w *world, f map[string][]byte) map[string][]byte {
			return with(with(f, "mirror/primary/manifest.json", manifest("primary", "2026-03-01T01:00:00Z")), "mirror/community/manifest.json", manifest("community", "2026-03-01T01:00:00Z"))
		}},
		{"X12 no manifest", release.MissingMember, func(w *world, f map[string][]byte) map[string][]byte {
			return with(f, "mirror/community/manifest.json", nil)
		}},
		{"X13 unknown key", release.KeyUnknown, func(w *world, f map[string][]byte) map[string][]byte {
			jws, err := w.keys["stranger"].SignDetached(nil, f[bundlePath])
			if err != nil {
				w.t.Fatal(err)
			}
			return with(f, bundlePath+".jws", []byte(jws))
		}},
		{"X15 emptied", release.Emptied, func(w *world, f map[string][]byte) map[string][]byte { return nil }},
		{"no domains", release.Emptied, func(w *world, f map[string][]byte) map[string][]byte {
			return with(f, release.PathIndex, []byte(`{"schemaVersion":1,"domains":[]}`))
		}},
	} {
		t.Run(a.name, func(t *testing.T) {
			t.Parallel()
			w := looseWorld(t)
			one := w.files(1, "primary", "community")
			delete(one, "mirror/primary/constant.json")
			w.put(one)
			w.good(one)
			two := w.files(2, "primary", "community")
			delete(two, "mirror/primary/constant.json")
			at := w.at
			w.put(a.do(w, two))
			_, err := w.sync()
			if release.ReasonOf(err) != a.want || fault.KindOf(err) != fault.Trust {
				t.Fatalf("reason %q: %v", release.ReasonOf(err), err)
			}
			w.shows(one)
			w.at = at
			w.put(two)
			w.good(two)
		})
	}
}

// TestBundleOnlyWeakness shows each attack that docs/formats/release.md says
// works on a feed that has no statements, and that a statement ends it.
func TestBundleOnlyWeakness(t *testing.T) {
	mix := func(f, old map[string][]byte, paths ...string) map[string][]byte {
		out := maps.Clone(f)
		for _, p := range paths {
			out[p] = old[p]
		}
		return out
	}
	for _, a := range []struct {
		name string
		want release.Reason // with a statement
		do   func(w *world, one, two map[string][]byte) map[string][]byte
	}{
		{"an old bundle under a new manifest", release.MixAndMatch, func(w *world, one, two map[string][]byte) map[string][]byte {
			return mix(two, one, bundlePath, bundlePath+".jws")
		}},
		{"freeze: created is renewed", release.SizeMismatch, func(w *world, one, two map[string][]byte) map[string][]byte {
			w.at = w.at.Add(48 * time.Hour)
			now := w.at.Format(time.RFC3339)
			return mix(two, map[string][]byte{
				"mirror/primary/manifest.json":   append(manifest("primary", now), ' '),
				"mirror/community/manifest.json": append(manifest("community", now), ' '),
			}, "mirror/primary/manifest.json", "mirror/community/manifest.json")
		}},
		{"a domain left out", release.SizeMismatch, func(w *world, one, two map[string][]byte) map[string][]byte {
			return with(two, release.PathIndex, []byte(`{"schemaVersion":1,"domains":[{"id":"primary"}]}`))
		}},
		{"a domain of another time", release.MixAndMatch, func(w *world, one, two map[string][]byte) map[string][]byte {
			return mix(two, one, "mirror/community/manifest.json", "mirror/community/bundle.json", "mirror/community/bundle.json.jws")
		}},
	} {
		t.Run(a.name, func(t *testing.T) {
			w := looseWorld(t)
			one, two := w.files(1, "primary", "community"), w.files(2, "primary", "community")
			w.put(one)
			if _, err := w.sync(); err != nil {
				t.Fatal(err)
			}
			w.put(a.do(w, one, two))
			if res, err := w.sync(); err != nil || res.Outcome != mirror.Updated {
				t.Errorf("the page says that this works: %+v, %v", res, err)
			}
			// The same with a statement.
			w = newWorld(t)
			first := w.publish(1)
			w.good(first)
			bad := a.do(w, first, w.publish(2))
			w.put(bad)
			at := w.at
			w.at = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
			if _, err := w.sync(); release.ReasonOf(err) != a.want || fault.KindOf(err) != fault.Trust {
				t.Errorf("with a statement: reason %q, want %q: %v", release.ReasonOf(err), a.want, err)
			}
			w.at = at
		})
	}
}

// TestDowngrade: a feed that had statements cannot lose them again, also when
// the policy would take releases without.
func TestDowngrade(t *testing.T) {
	w := looseWorld(t)
	w.good(w.publish(1))
	w.put(w.files(2, "primary", "community"))
	if _, err := w.sync(); release.ReasonOf(err) != release.StatementMissing {
		t.Error(err)
	}
	// Control: the other way round a feed may gain them.
	w = looseWorld(t)
	w.put(w.files(1, "primary", "community"))
	if _, err := w.sync(); err != nil {
		t.Fatal(err)
	}
	w.good(w.publish(2))
}
