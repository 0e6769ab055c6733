package mirror_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/release"
)

// spoiled are ways to write a document that it must not be written in. tolerant
// says that index and manifest, of which other tools write more, may be so.
func spoiled(doc string) map[string]string {
	first := doc[:strings.IndexByte(doc, ':')+1] // up to the first value
	inside := func(more string) string { return doc[:1] + more + doc[1:] }
	return map[string]string{
		"empty": "", "white space": " \n", "null": "null", "true": "true", "number": "1", "text": `"x"`, "list": "[" + doc + "]", "empty object": "{}",
		"byte order mark": "\ufeff" + doc, "UTF-16": "\xfe\xff\x00{\x00}", "NUL behind": doc + "\x00", "twice": doc + doc, "garbage behind": doc + "x", "comma behind": strings.TrimSpace(doc) + ",",
		"NUL inside": inside("\x00"), "comment": inside("/**/"), "member without quotes": inside("x:1,"), "single quotes": inside("'x':1,"),
		"member twice": inside(doc[1 : strings.IndexByte(doc, ',')+1]), "member twice, escaped": inside(`"schem\u0061":1,"schem\u0061Version":1,`),
		"bad escape": inside(`"\x":1,`), "half a surrogate": inside(`"x":"\ud800`), "not UTF-8": inside("\"x\":\"\xff\xfe"),
		"deep lists": inside(`"x":` + strings.Repeat("[", 200_000) + strings.Repeat("]", 200_000) + ","), "deep, and open": inside(`"x":` + strings.Repeat(`{"x":`, 200_000)),
		"value is null": first + "null}", "value is a list": first + "[1]}", "value is an object": first + `{"a":1}}`, "value is 1e999": first + "1e999}", "value is 2^63": first + "9223372036854775808}",
		"value of 100,000 digits": first + strings.Repeat("9", 100_000) + "}", "value with a zero before it": first + "01}", "value is negative": first + "-1}", "value is no number": first + "NaN}",
	}
}

// remake puts a release together again after one of its files was changed.
func (w *world) remake(seq int, files map[string][]byte, path string, data []byte) map[string][]byte {
	w.t.Helper()
	plain := with(with(with(files, release.FileStatement, nil), release.FileSignature, nil), path, data)
	statement := w.state(seq, plain, nil)
	return with(with(plain, release.FileStatement, statement), release.FileSignature, w.sign(statement, "k1"))
}

// signRaw signs what is no statement as if it were one.
func (w *world) signRaw(data []byte) []byte {
	w.t.Helper()
	jws, err := w.keys["k1"].SignDetached(map[string]any{"typ": release.Type, "provider": "default"}, data)
	if err != nil {
		w.t.Fatal(err)
	}
	return []byte(jws)
}

// TestBadDocuments: a trusted key has signed it, and still it is refused: with a
// statement and without, and the release before stays.
func TestBadDocuments(t *testing.T) {
	t.Parallel()
	path := map[string]string{"index": release.PathIndex, "manifest": "mirror/primary/manifest.json", "statement": release.FileStatement, "statement, unsigned": release.FileStatement}
	for _, what := range []string{"index", "manifest", "statement", "statement, unsigned", "index without a statement", "manifest without a statement"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			doc, without := strings.CutSuffix(what, " without a statement")
			w := newWorld(t)
			if without {
				w = looseWorld(t)
			}
			one, two := w.files(1, "primary", "community"), w.files(2, "primary", "community")
			if without {
				delete(one, "mirror/primary/constant.json")
				delete(two, "mirror/primary/constant.json")
			} else {
				one, two = w.publish(1), w.publish(2)
			}
			w.put(one)
			w.good(one)
			for name, text := range spoiled(string(two[path[doc]])) {
				data, bad := []byte(text), map[string][]byte(nil)
				want := release.Format
				switch {
				case without:
					bad = with(two, path[doc], data)
				case doc == "statement":
					bad = with(with(two, release.FileStatement, data), release.FileSignature, w.signRaw(data))
				case doc == "statement, unsigned":
					bad, want = with(two, release.FileStatement, data), release.SignatureInvalid
				default:
					bad = w.remake(2, two, path[doc], data)
				}
				w.put(bad)
				_, err := w.sync()
				if release.ReasonOf(err) != want || fault.KindOf(err) != fault.Trust {
					t.Errorf("%s: reason %q: %v", name, release.ReasonOf(err), err)
				}
				printable(t, name, err)
			}
			w.shows(one)
			w.put(two)
			w.good(two)
		})
	}
}

// TestTruncated: a document that ends at any other byte is none.
func TestTruncated(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	files := w.publish(2)
	statement, index, manifest := files[release.FileStatement], files[release.PathIndex], files["mirror/primary/manifest.json"]
	jws := files[release.FileSignature]
	for n := range statement {
		short := statement[:n]
		if _, _, err := w.m.Policy.Verify(short, jws, "concelier", w.at); release.ReasonOf(err) != release.SignatureInvalid {
			t.Errorf("statement of %d bytes: %v", n, err)
		}
		if _, _, err := w.m.Policy.Verify(short, w.signRaw(short), "concelier", w.at); release.ReasonOf(err) != release.Format {
			t.Errorf("statement of %d bytes, signed: %v", n, err)
		}
	}
	for n := range bytes.TrimSpace(jws) {
		if _, _, err := w.m.Policy.Verify(statement, jws[:n], "concelier", w.at); fault.KindOf(err) != fault.Trust {
			t.Errorf("signature of %d bytes: %v", n, err)
		}
	}
	for n := range index {
		if _, err := release.ParseIndex(index[:n]); release.ReasonOf(err) != release.Format {
			t.Errorf("index of %d bytes: %v", n, err)
		}
	}
	for n := range manifest {
		if _, err := release.ParseManifest("primary", manifest[:n]); release.ReasonOf(err) != release.Format {
			t.Errorf("manifest of %d bytes: %v", n, err)
		}
	}
	// The control: with the last byte all of them are.
	_, _, err := w.m.Policy.Verify(statement, jws, "concelier", w.at)
	_, ierr := release.ParseIndex(index)
	_, merr := release.ParseManifest("primary", manifest)
	if err != nil || ierr != nil || merr != nil {
		t.Error(err, ierr, merr)
	}
}

// TestClock: a clock that is wrong, at either end, and one that is set back.
func TestClock(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one := w.publish(1)
	right := w.at
	for name, c := range map[string]struct {
		at  time.Time
		why release.Reason
	}{
		"our clock is behind": {right.Add(-time.Hour), release.Future}, "far behind": {time.Unix(1, 0), release.Future},
		"our clock is ahead": {right.Add(48 * time.Hour), release.Stale}, "far ahead": {right.AddDate(100, 0, 0), release.Stale},
	} {
		w.at = c.at
		if _, err := w.sync(); release.ReasonOf(err) != c.why || fault.KindOf(err) != fault.Trust {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Within the skew it is taken.
	w.at = right.Add(-9*time.Minute - 4*time.Minute)
	w.good(one)
	// The history goes on though the clock was far ahead before, and is set back
	// from entry to entry.
	w.at = right
	w.good(w.publish(2))
	three := w.publish(3)
	w.at = right.Add(-3 * time.Minute)
	if _, err := w.m.Rollback(t.Context(), "concelier", "", "", false); err != nil {
		t.Fatal(err)
	}
	w.at = right.Add(-4 * time.Minute)
	w.good(three)
	r, err := w.m.VerifyDisk(t.Context(), "concelier", "")
	if err != nil || r.Err() != nil || r.Records < 6 {
		t.Errorf("%v %+v", err, r)
	}
	if st, err := w.m.Status("concelier"); err != nil || st.Shown.Sequence != 3 {
		t.Errorf("%v %s", err, fmt.Sprint(st))
	}
}

// TestLoudHeaders: what the header of a signature says is repeated to nobody at
// length, nor as it is.
func TestLoudHeaders(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	statement, long, typ := w.publish(1)[release.FileStatement], strings.Repeat("9", 40_000), `"typ":"`+release.Type+`"`
	for name, header := range map[string]string{
		"alg": `{"alg":"` + long + `"}`, "alg of digits": `{"alg":` + long + `}`, "typ": `{"alg":"ES256","kid":"k1","typ":"` + long + `"}`,
		"kid": `{"alg":"ES256",` + typ + `,"kid":"` + long + `"}`, "kid with an escape": `{"alg":"ES256",` + typ + `,"kid":"\u001b[2J\u202e\n"}`,
		"crit": `{"alg":"ES256","kid":"k1",` + typ + `,"crit":["` + long + `"]}`, "provider": `{"alg":"ES256","kid":"k1",` + typ + `,"provider":"` + long + `"}`,
	} {
		_, _, err := w.m.Policy.Verify(statement, []byte(b64(header)+".."+b64("x")), "concelier", w.at)
		if fault.KindOf(err) != fault.Trust {
			t.Errorf("%s: %v", name, err)
		}
		printable(t, name, err)
	}
}
