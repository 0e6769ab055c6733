package publish

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/jose/detached"
	"github.com/stella-ops/stella/internal/objstore"
	"github.com/stella-ops/stella/internal/objstore/mem"
	"github.com/stella-ops/stella/internal/release"
	"github.com/stella-ops/stella/internal/testenv/exports"
)

func TestPublish(t *testing.T) {
	w := newWorld(t)
	places := map[string]Destination{"bucket": Bucket(mem.New("m")), "directory": w.directory(t.TempDir())}
	for name, to := range places {
		t.Run(name, func(t *testing.T) {
			o := w.options("")
			events := map[EventType]Event{}
			o.Notify = func(e Event) { events[e.Type] = e }
			o.Signers = append(o.Signers, Signer{Signer: w.second.Signer})
			from := w.export(1)
			first := w.publish(from, to, o)
			want := Result{Facts: first.Facts, Outcome: Published, Place: to.Place(), Signatures: first.Signatures, Uploaded: first.Members, Sent: first.Bytes}
			if first.ExportID != "20260301T120000Z" || first.Sequence != 1 || len(first.Signatures) != 2 || first.Outcome != want.Outcome || first.Uploaded != want.Uploaded || first.Sent != want.Sent || first.Before != "" {
				t.Errorf("the first is %+v", first)
			}
			if !first.ExpiresAt.Equal(w.at.Add(DefaultLifetime)) || first.Members != 10 {
				t.Errorf("the first is %+v", first.Facts)
			}
			for _, e := range []EventType{Hashed, Signed, Uploaded, Shown} {
				if events[e].Type == "" || events[e].Total != first.Bytes {
					t.Errorf("event %s: %+v", e, events[e])
				}
			}
			if _, err := Publish(t.Context(), from, to, o); fault.KindOf(err) != fault.Order || !strings.Contains(err.Error(), "taken") {
				t.Errorf("within the same second: %v", err)
			}
			o.ExportID = "e2"
			second := w.publish(w.export(2), to, o)
			if second.Sequence != 2 || second.Before != first.ExportID {
				t.Errorf("the second is %+v", second)
			}
			if st := w.shown(to); st.ExportID != "e2" {
				t.Errorf("shown is %s", st.ExportID)
			}
			o.ExportID = first.ExportID
			if _, err := Publish(t.Context(), w.export(1), to, o); fault.KindOf(err) != fault.Order {
				t.Errorf("back to the first: %v", err)
			}
			if st := w.shown(to); st.ExportID != "e2" {
				t.Errorf("shown is %s", st.ExportID)
			}
		})
	}
}

func (w *world) shown(to Destination) *release.Statement {
	w.t.Helper()
	if d, ok := to.(*Dir); ok {
		return w.read(d.path)
	}
	return w.mustShow(to.(*bucket).Store, "latest")
}

// TestAgain: the same folder under the same id changes nothing, whenever it
// comes; another one is refused.
func TestAgain(t *testing.T) {
	w := newWorld(t)
	s := mem.New("m")
	for _, to := range []Destination{Bucket(s), w.directory(t.TempDir())} {
		w.at = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
		from, o := w.export(1, unsigned), w.options("e1")
		o.SignBundles = true
		first := w.publish(from, to, o)
		w.at = w.at.Add(time.Hour)
		again := w.publish(from, to, o)
		if again.Outcome != Unchanged || again.Digest != first.Digest || again.Bundles != 0 || again.Uploaded != 0 || first.Bundles != 2 {
			t.Errorf("%s: again: %+v", to.Place(), again)
		}
		o.Signers = append(o.Signers, Signer{Signer: w.second.Signer})
		more := w.publish(from, to, o)
		if more.Outcome != Finished || len(more.Signatures) != 2 || more.Digest != first.Digest {
			t.Errorf("%s: with one more key: %+v", to.Place(), more)
		}
		w.shown(to)
		if _, err := Publish(t.Context(), w.export(2), to, o); fault.KindOf(err) != fault.Order {
			t.Errorf("%s: other files: %v", to.Place(), err)
		}
		w.at = w.at.Add(DefaultLifetime)
		if _, err := Publish(t.Context(), from, to, o); fault.KindOf(err) != fault.Order || !strings.Contains(err.Error(), "expired") {
			t.Errorf("%s: after its end: %v", to.Place(), err)
		}
	}
}

// TestRefusedFolders: nothing of a folder that no reader would take is written.
func TestRefusedFolders(t *testing.T) {
	w := newWorld(t)
	edit := func(name string, change func(string) string) func(string) {
		return func(dir string) {
			path := filepath.Join(dir, name)
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			write(t, path, change(string(data)))
		}
	}
	text := func(name, s string) func(string) {
		return func(dir string) { write(t, filepath.Join(dir, name), s) }
	}
	remove := func(name string) func(string) {
		return func(dir string) {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range []struct {
		name   string
		change func(dir string)
		reason release.Reason // "" for another kind of error
		about  string
	}{
		{"control", func(string) {}, "", ""},
		{"control, old statement", text("release.json", "old"), "", ""},
		{"outside", text("notes.txt", "x"), release.ExtraMember, "notes.txt"},
		{"beside domains", text("mirror/notes.txt", "x"), release.ExtraMember, "mirror/notes.txt"},
		{"of no domain", text("mirror/other/x", "x"), release.MissingMember, "other"},
		{"hostile name", text("mirror/primary/a b", "x"), release.HostileName, "a b"},
		{"hidden", text("mirror/primary/.x", "x"), release.HostileName, ".x"},
		{"case clash", text("mirror/primary/BUNDLE.json", "x"), release.HostileName, "BUNDLE.json"},
		{"no index", remove("mirror/index.json"), release.MissingMember, "index.json"},
		{"no manifest", remove("mirror/community/manifest.json"), release.MissingMember, "community/manifest.json"},
		{"no bundle", remove("mirror/community/bundle.json"), release.MissingMember, "community/bundle.json"},
		{"no signature", remove("mirror/community/bundle.json.jws"), release.MissingMember, "community/bundle.json.jws"},
		{"signature is text", text("mirror/primary/bundle.json.jws", "MEUCIQ=="), release.SignatureInvalid, "bundle.json.jws"},
		{"signature with payload", text("mirror/primary/bundle.json.jws", "eyJhbGciOiJFUzI1NiJ9.e30.AAAA"), release.SignatureInvalid, "bundle.json.jws"},
		{"index is no JSON", text("mirror/index.json", "{"), release.Format, "index"},
		{"index of another export", edit("mirror/index.json", func(s string) string { return strings.Replace(s, "{", `{"exportId":"e0",`, 1) }), release.MixAndMatch, "e0"},
		{"manifest of another domain", edit("mirror/primary/manifest.json", func(s string) string { return strings.Replace(s, `"primary"`, `"other"`, 1) }), release.MixAndMatch, "other"},
		{"manifest of another bundle", edit("mirror/primary/bundle.json", func(s string) string { return s + "\n" }), release.MixAndMatch, "primary/manifest.json"},
		{"link", func(dir string) {
			if err := os.Symlink("bundle.json", filepath.Join(dir, "mirror/primary/copy.json")); err != nil {
				t.Fatal(err)
			}
		}, "", "copy.json"},
		{"linked folder", func(dir string) {
			if err := os.Symlink("/etc", filepath.Join(dir, "mirror/primary/etc")); err != nil {
				t.Fatal(err)
			}
		}, "", "primary/etc"},
		{"FIFO", func(dir string) {
			if err := syscall.Mkfifo(filepath.Join(dir, "mirror/primary/pipe"), 0o644); err != nil {
				t.Fatal(err)
			}
		}, "", "pipe"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, s := w.export(1), mem.New("m")
			c.change(dir)
			_, err := Publish(t.Context(), dir, Bucket(s), w.options("e1"))
			if strings.HasPrefix(c.name, "control") {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if err == nil || release.ReasonOf(err) != c.reason || !strings.Contains(err.Error(), c.about) {
				t.Errorf("reason %q: %v", release.ReasonOf(err), err)
			}
			if kind := fault.KindOf(err); c.reason != "" && kind != fault.Input || c.reason == "" && !errors.Is(err, objstore.ErrIrregular) {
				t.Errorf("kind %s: %v", kind, err)
			}
			if has := keys(t, s, ""); len(has) > 0 {
				t.Errorf("written: %q", has)
			}
		})
	}
}

// TestPolicyOfTheMirrors refuses what they would.
func TestPolicyOfTheMirrors(t *testing.T) {
	w := newWorld(t)
	stranger := w.newKey(jose.EdDSA, "stranger")
	for _, c := range []struct {
		name   string
		policy *release.Policy
		change func(*Options)
		key    *exports.Key
		reason release.Reason
	}{
		{"control", w.policy, func(*Options) {}, w.key, ""},
		{"two keys", w.policyOf("threshold: 2\n", w.key, w.second), func(*Options) {}, w.key, release.Threshold},
		{"two keys, both", w.policyOf("threshold: 2\n", w.key, w.second), func(o *Options) { o.Signers = append(o.Signers, Signer{Signer: w.second.Signer}) }, w.key, ""},
		{"key of the statement", w.policy, func(o *Options) { o.Signers = []Signer{{Signer: stranger.Signer}} }, w.key, release.KeyUnknown},
		{"key of the bundles", w.policy, func(*Options) {}, stranger, release.KeyUnknown},
		{"leap", w.policyOf("max_step: 10\n", w.key), func(o *Options) { o.Sequence = 100 }, w.key, release.FastForward},
		{"floor", w.policyOf("feeds: [{name: concelier, minimum_sequence: 50}]\n", w.key), func(*Options) {}, w.key, release.Rollback},
		{"provider", w.policy, func(o *Options) { o.Signers[0].Provider = "other" }, w.key, release.KeyUnknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := mem.New("m")
			w.publish(w.export(1), Bucket(s), w.options("e1"))
			before := clone(t, s)
			o := w.options("e2")
			o.Policy = c.policy
			c.change(&o)
			_, err := Publish(t.Context(), w.export(2, func(e *exports.Options) { e.Key = c.key }), Bucket(s), o)
			if release.ReasonOf(err) != c.reason || (err == nil) != (c.reason == "") {
				t.Fatalf("reason %q: %v", release.ReasonOf(err), err)
			}
			if err != nil && !slices.Equal(keys(t, s, ""), keys(t, before, "")) {
				t.Error("something was written")
			}
		})
	}
}

// TestForgedBundle: with a policy a bundle is verified while it is hashed.
func TestForgedBundle(t *testing.T) {
	w := newWorld(t)
	dir := w.export(1, func(e *exports.Options) { e.Minimal = true })
	o := w.options("e1")
	o.Policy = w.policy
	w.publish(dir, Bucket(mem.New("m")), o)
	write(t, filepath.Join(dir, "mirror/primary/bundle.json"), `{"advisories":[ ]}`)
	if _, err := Publish(t.Context(), dir, Bucket(mem.New("m")), o); release.ReasonOf(err) != release.SignatureInvalid || fault.KindOf(err) != fault.Input {
		t.Errorf("reason %q: %v", release.ReasonOf(err), err)
	}
}

// TestSignBundles: a signature that is there is kept, and one of an unchanged
// bundle is used again.
func TestSignBundles(t *testing.T) {
	w := newWorld(t)
	s := mem.New("m")
	dir := w.export(1, func(e *exports.Options) {
		e.KeyOf = func(domain string) *exports.Key {
			if domain == "primary" {
				return w.second
			}
			return nil
		}
	})
	theirs, err := os.ReadFile(filepath.Join(dir, "mirror/primary/bundle.json.jws"))
	if err != nil {
		t.Fatal(err)
	}
	o := w.options("e1")
	o.SignBundles = true
	if r := w.publish(dir, Bucket(s), o); r.Bundles != 1 {
		t.Errorf("%d signatures", r.Bundles)
	}
	if got := get(t, s, "e1/mirror/primary/bundle.json.jws"); !bytes.Equal(got, theirs) {
		t.Error("a signature was replaced")
	}
	o.ExportID = "e2"
	if r := w.publish(dir, Bucket(s), o); r.Bundles != 0 {
		t.Errorf("%d signatures of unchanged bundles", r.Bundles)
	}
	o.ExportID, o.Signers, o.Policy = "e3", []Signer{{Signer: w.second.Signer}}, w.policy
	if r := w.publish(dir, Bucket(s), o); r.Bundles != 1 {
		t.Errorf("%d signatures after the key was changed", r.Bundles)
	}
	w.mustShow(s, "latest")
	if _, err := os.Stat(filepath.Join(dir, "mirror/community/bundle.json.jws")); err == nil {
		t.Error("the folder was written to")
	}
}

// TestChangedMeanwhile: a file that is not any more what was signed.
func TestChangedMeanwhile(t *testing.T) {
	w := newWorld(t)
	for _, to := range []Destination{Bucket(mem.New("m")), w.directory(t.TempDir())} {
		w.publish(w.export(1), to, w.options("e1"))
		dir := w.export(2)
		o := w.options("e2")
		o.Notify = func(e Event) {
			if e.Type == Signed {
				path := filepath.Join(dir, "mirror/primary/bundle.json")
				info, err := os.Stat(path)
				if err != nil {
					t.Fatal(err)
				}
				write(t, path, strings.Repeat("x", int(info.Size())))
			}
		}
		_, err := Publish(t.Context(), dir, to, o)
		if fault.KindOf(err) != fault.Transient || !errors.Is(err, objstore.ErrChanged) || !strings.Contains(err.Error(), "primary/bundle.json") {
			t.Errorf("%s: %v", to.Place(), err)
		}
		if st := w.shown(to); st.ExportID != "e1" {
			t.Errorf("shown is %s", st.ExportID)
		}
	}
	// Where no entity tag tells, the digest does.
	f, err := openFolder(w.export(3))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m := &file{Member: release.Member{Path: release.PathIndex}, from: f}
	if err := m.read(t.Context(), release.MaxIndex); err != nil {
		t.Fatal(err)
	}
	for _, good := range []bool{true, false} {
		if !good {
			m.SHA256 = strings.Repeat("0", 64)
		}
		s := mem.New("m")
		err := send(t.Context(), s, "k", m)
		if (err == nil) != good || !good && (!errors.Is(err, objstore.ErrChanged) || len(keys(t, s, "")) > 0) {
			t.Errorf("good %v: %v", good, err)
		}
	}
}

// TestDetachedForms: bundles come with both forms of detached signature.
func TestDetachedForms(t *testing.T) {
	w := newWorld(t)
	dir := w.export(1)
	for domain, unencoded := range map[string]bool{"primary": true, "community": false} {
		jws, err := os.ReadFile(filepath.Join(dir, "mirror", domain, "bundle.json.jws"))
		if err != nil {
			t.Fatal(err)
		}
		v, err := detached.Open(string(jws), func(jose.Header) (jose.Key, error) { return w.key.Signer.Key(), nil },
			jose.Rules{Algs: []jose.Alg{jose.ES256}, Critical: []string{"b64"}, MaxBytes: 1 << 16})
		if err != nil {
			t.Fatal(err)
		}
		if v.Header().B64 == unencoded {
			t.Errorf("%s: b64 is %v", domain, v.Header().B64)
		}
		v.Close()
	}
	w.publish(dir, Bucket(mem.New("m")), w.options("e1"))
}

// TestDryRun writes nothing, whatever the place.
func TestDryRun(t *testing.T) {
	w := newWorld(t)
	s, dir := mem.New("m"), t.TempDir()
	for _, to := range []Destination{Bucket(s), w.directory(dir)} {
		o := w.options("e1")
		o.DryRun = true
		if r := w.publish(w.export(1), to, o); r.Members != 10 || r.Uploaded != 0 || !r.DryRun || r.Sequence != 1 {
			t.Errorf("%+v", r)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries)+len(keys(t, s, "")) > 0 {
		t.Errorf("%v, %v", entries, err)
	}
}

// TestCancelled: a context that is over stops every write.
func TestCancelled(t *testing.T) {
	w := newWorld(t)
	for _, to := range []Destination{Bucket(mem.New("m")), w.directory(t.TempDir())} {
		w.publish(w.export(1), to, w.options("e1"))
		for _, when := range []EventType{Hashed, Signed, Uploaded} {
			ctx, cancel := context.WithCancel(t.Context())
			o := w.options("e2")
			o.Notify = func(e Event) {
				if e.Type == when {
					cancel()
				}
			}
			_, err := Publish(ctx, w.export(2), to, o)
			if fault.KindOf(err) != fault.Interrupted {
				t.Errorf("%s at %s: %v", to.Place(), when, err)
			}
			if st := w.shown(to); st.ExportID != "e1" {
				t.Errorf("%s at %s: shown is %s", to.Place(), when, st.ExportID)
			}
		}
	}
}
