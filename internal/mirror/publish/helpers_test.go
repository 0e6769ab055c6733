package publish

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/objstore"
	"github.com/stella-ops/stella/internal/objstore/mem"
	"github.com/stella-ops/stella/internal/release"
	"github.com/stella-ops/stella/internal/testenv/exports"
)

// world is a publisher with an exporter and its keys.
type world struct {
	t      testing.TB
	at     time.Time
	key    *exports.Key // of the exporter and of the publisher
	second *exports.Key
	policy *release.Policy // believes both
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, at: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	w.key, w.second = w.newKey(jose.ES256, "k1"), w.newKey(jose.EdDSA, "k2")
	w.policy = w.policyOf("", w.key, w.second)
	return w
}

func (w *world) newKey(alg jose.Alg, id string) *exports.Key {
	w.t.Helper()
	k, err := exports.NewKey(alg, id)
	if err != nil {
		w.t.Fatal(err)
	}
	return k
}

func (w *world) policyOf(more string, keys ...*exports.Key) *release.Policy {
	w.t.Helper()
	text, err := exports.Policy(keys...)
	if err != nil {
		w.t.Fatal(err)
	}
	p, err := release.ParsePolicy("policy.yaml", append(text, more...))
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// export writes a small export.
func (w *world) export(seed uint64, change ...func(*exports.Options)) string {
	w.t.Helper()
	o := exports.Options{Advisories: 3, Seed: seed, Key: w.key, Extra: []exports.Files{{Count: 2, Bytes: 100}, {Count: 1, Bytes: 0}}}
	for _, c := range change {
		c(&o)
	}
	dir := filepath.Join(w.t.TempDir(), "export")
	if err := exports.Write(w.t.Context(), dir, o); err != nil {
		w.t.Fatal(err)
	}
	return dir
}

func unsigned(o *exports.Options) { o.Key = nil }

// options are those of a usual publication.
func (w *world) options(id string) Options {
	return Options{
		Feed: "concelier", ExportID: id, Signers: []Signer{{Signer: w.key.Signer}}, Parallel: 1,
		Now: func() time.Time { return w.at },
	}
}

func (w *world) publish(from string, to Destination, o Options) *Result {
	w.t.Helper()
	r, err := Publish(w.t.Context(), from, to, o)
	if err != nil {
		w.t.Fatalf("publishing: %v %q", err, fault.HintsOf(err))
	}
	return r
}

func get(t testing.TB, r objstore.Reader, key string) []byte {
	t.Helper()
	o, err := r.Open(context.Background(), key, objstore.Get{})
	if err != nil {
		return nil
	}
	defer o.Body.Close()
	data, err := io.ReadAll(o.Body)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// mustShow reads a store as a mirror does: the pair below a folder, then the
// members below the export it names, or below also.
func (w *world) mustShow(r objstore.Reader, pointer string, also ...string) *release.Statement {
	w.t.Helper()
	data, jws := get(w.t, r, pointer+"/"+release.FileStatement), get(w.t, r, pointer+"/"+release.FileSignature)
	st, _, err := w.policy.Verify(data, jws, "concelier", w.at)
	if err != nil {
		w.t.Fatalf("what is shown at %s: %v", pointer, err)
	}
	for _, folder := range append(also, st.ExportID) {
		w.whole(r, folder, st)
	}
	return st
}

func (w *world) whole(r objstore.Reader, folder string, st *release.Statement) {
	w.t.Helper()
	for _, m := range st.Members {
		got := get(w.t, r, folder+"/"+m.Path)
		sum := sha256.Sum256(got)
		if int64(len(got)) != m.Size || hex.EncodeToString(sum[:]) != m.SHA256 {
			w.t.Fatalf("%s/%s has %d bytes and another digest, want %d", folder, m.Path, len(got), m.Size)
		}
		if _, ok := release.BundleOf(m.Path); !ok {
			continue
		}
		b, err := w.policy.OpenBundle(m.Path, get(w.t, r, folder+"/"+m.Path+release.SuffixJWS), "concelier", w.at)
		if err != nil {
			w.t.Fatal(err)
		}
		_, _ = b.Write(got)
		if err := b.Verify(); err != nil {
			w.t.Fatal(err)
		}
	}
}

func keys(t testing.TB, r objstore.Reader, prefix string) []string {
	t.Helper()
	list, err := listBelow(context.Background(), r, prefix)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func put(t testing.TB, s objstore.Writer, key string, data []byte) {
	t.Helper()
	if _, err := s.Put(context.Background(), key, bytes.NewReader(data), int64(len(data))); err != nil {
		t.Fatal(err)
	}
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// clone copies a store without its hook.
func clone(t testing.TB, s *mem.Store) *mem.Store {
	t.Helper()
	c := mem.New("clone")
	for _, key := range keys(t, s, "") {
		put(t, c, key, get(t, s, key))
	}
	return c
}
