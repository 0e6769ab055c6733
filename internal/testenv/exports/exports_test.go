package exports

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/release"
)

func key(t testing.TB, alg jose.Alg, id string) *Key {
	t.Helper()
	k, err := NewKey(alg, id)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func make1(t testing.TB, o Options) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "export")
	if err := Write(t.Context(), dir, o); err != nil {
		t.Fatal(err)
	}
	return dir
}

// statement makes one of what lies in a folder, as a publisher does.
func statement(t testing.TB, dir string) *release.Statement {
	t.Helper()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	st := &release.Statement{Feed: "concelier", ExportID: "e1", Sequence: 1, GeneratedAt: now, ExpiresAt: now.Add(time.Hour)}
	err := fs.WalkDir(os.DirFS(dir), ".", func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := os.ReadFile(filepath.Join(dir, p))
		sum := sha256.Sum256(data)
		st.Members = append(st.Members, release.Member{Path: p, Size: int64(len(data)), SHA256: hex.EncodeToString(sum[:])})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := release.Encode(st)
	if err != nil {
		t.Fatal(err)
	}
	if st, err = release.ParseStatement(encoded); err != nil {
		t.Fatal(err)
	}
	return st
}

// TestIsARelease holds exports of all forms to what readers demand.
func TestIsARelease(t *testing.T) {
	es, ed := key(t, jose.ES256, "es"), key(t, jose.EdDSA, "ed")
	ed.Provider = "upstream"
	text, err := Policy(es, ed)
	if err != nil {
		t.Fatal(err)
	}
	policy, err := release.ParsePolicy("policy.yaml", text)
	if err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]Options{
		"default": {}, "excititor": {Feed: Excititor}, "minimal": {Minimal: true}, "minimal excititor": {Minimal: true, Feed: Excititor},
		"empty": {Advisories: -1}, "many domains": {Domains: []string{"a", "b", "c"}, Advisories: 2}, "with id": {ExportID: "e1"},
		"extra": {Extra: []Files{{3, 1000}, {1, 0}, {2, 1}}}, "sized": {BundleBytes: 300_000},
	} {
		t.Run(name, func(t *testing.T) {
			o.KeyOf = func(domain string) *Key {
				if domain == "primary" || domain == "a" {
					return ed
				}
				return es
			}
			dir := make1(t, o)
			st := statement(t, dir)
			read := func(p string) []byte {
				data, err := os.ReadFile(filepath.Join(dir, p))
				if err != nil {
					t.Fatal(err)
				}
				return data
			}
			index, err := release.ParseIndex(read(release.PathIndex))
			if err != nil {
				t.Fatal(err)
			}
			if err := st.CheckIndex(index); err != nil {
				t.Error(err)
			}
			forms := map[bool]int{}
			for _, d := range index.Domains {
				m, err := release.ParseManifest(d.ID, read(release.ManifestPath(d.ID)))
				if err != nil {
					t.Fatal(err)
				}
				has, _ := st.Find(release.BundlePath(d.ID))
				if (m.Bundle == nil) != o.Minimal || m.Bundle != nil && *m.Bundle != has {
					t.Errorf("the manifest says %v, the bundle is %v", m.Bundle, has)
				}
				bundle := read(release.BundlePath(d.ID))
				b, err := policy.OpenBundle(has.Path, read(has.Path+release.SuffixJWS), o.Feed, time.Now())
				if err != nil {
					t.Fatal(err)
				}
				forms[b.Header().B64]++
				_, _ = b.Write(bundle)
				if err := b.Verify(); err != nil {
					t.Error(err)
				}
				if !json.Valid(bundle) {
					t.Error("the bundle is no JSON")
				}
				if over := has.Size - o.BundleBytes; o.BundleBytes > 0 && (over < 0 || over > 10_000) {
					t.Errorf("the bundle has %d bytes", has.Size)
				}
			}
			if forms[true] == 0 || forms[false] == 0 {
				t.Errorf("forms of signatures: %v", forms)
			}
		})
	}
}

func TestMinimalIsUpstreams(t *testing.T) {
	dir := make1(t, Options{Minimal: true, Domains: []string{"primary"}})
	for name, want := range map[string]string{
		release.PathIndex:               `{"schemaVersion":1,"domains":[{"id":"primary","displayName":"Primary"}]}`,
		release.ManifestPath("primary"): `{"domainId":"primary","created":"2025-11-23T00:00:00Z","schemaVersion":1,"advisories":0}`,
		release.BundlePath("primary"):   `{"advisories":[]}`,
	} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
			t.Errorf("%s is %s, %v", name, got, err)
		}
	}
}

func TestSameSeedSameBytes(t *testing.T) {
	k, err := DerivedKey(jose.EdDSA, "k", 7)
	if err != nil {
		t.Fatal(err)
	}
	for _, feed := range []string{Concelier, Excititor} {
		o := Options{Feed: feed, Seed: 5, Advisories: 20, Key: k, Extra: []Files{{2, 50}}}
		a, b := statement(t, make1(t, o)), statement(t, make1(t, o))
		if !release.Equal(a, b) {
			t.Errorf("%s: the same options give other bytes", feed)
		}
		o.Seed++
		same := 0
		for i, m := range statement(t, make1(t, o)).Members {
			if a.Members[i] == m {
				same++
			}
		}
		if same > 0 {
			t.Errorf("%s: another seed leaves %d members alone", feed, same)
		}
	}
	for _, alg := range []jose.Alg{jose.ES256, jose.EdDSA} {
		a, err1 := DerivedKey(alg, "k", 1)
		b, err2 := DerivedKey(alg, "k", 1)
		c, err3 := DerivedKey(alg, "k", 2)
		if err := errors.Join(err1, err2, err3); err != nil {
			t.Fatal(err)
		}
		pa, _ := a.PublicPEM()
		pb, _ := b.PublicPEM()
		pc, _ := c.PublicPEM()
		if pa != pb || pa == pc {
			t.Errorf("%s: derived keys: %v %v", alg, pa == pb, pa == pc)
		}
	}
}

// TestVex reads what Excititor exports, format by format.
func TestVex(t *testing.T) {
	dir := make1(t, Options{Feed: Excititor, Advisories: 12})
	base := filepath.Join(dir, "mirror/community")
	var index struct {
		Exports []vexExport `json:"exports"`
	}
	data, err := os.ReadFile(filepath.Join(base, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &index); err != nil || len(index.Exports) != 4 {
		t.Fatalf("%d exports, %v", len(index.Exports), err)
	}
	for _, x := range index.Exports {
		data, err := os.ReadFile(filepath.Join(base, x.Path))
		if err != nil {
			t.Fatal(err)
		}
		if release.Digest(data) != x.Digest || int64(len(data)) != x.Size {
			t.Errorf("%s: digest or size of the index are wrong", x.Key)
		}
		var doc struct {
			Claims     []claim          `json:"claims"`
			Statements []map[string]any `json:"statements"`
			Flaws      []map[string]any `json:"vulnerabilities"`
		}
		n := 0
		if x.Format == "jsonl" {
			for s := bufio.NewScanner(bytes.NewReader(data)); s.Scan(); n++ {
				if !json.Valid(s.Bytes()) {
					t.Errorf("line %d is no JSON", n)
				}
			}
		} else if err := json.Unmarshal(data, &doc); err != nil {
			t.Errorf("%s: %v", x.Key, err)
		}
		if n += len(doc.Claims) + len(doc.Statements) + len(doc.Flaws); n != 12 {
			t.Errorf("%s has %d records", x.Key, n)
		}
	}
}

func TestMany(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "many")
	if err := Many(t.Context(), dir, Options{Key: key(t, jose.EdDSA, "k"), Advisories: 1}, Files{1500, 7}, Files{2, 100_000}); err != nil {
		t.Fatal(err)
	}
	st := statement(t, dir)
	digests := map[string]bool{}
	for _, m := range st.Members {
		digests[m.SHA256] = true
	}
	if len(st.Members) != 4+1502 || len(digests) != len(st.Members) || st.Bytes() < 200_000+1500*7 {
		t.Errorf("%d members, %d different ones, %d bytes", len(st.Members), len(digests), st.Bytes())
	}
	if err := Many(t.Context(), dir, Options{}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over another export: %v", err)
	}
}

// TestMemory writes 48 MiB without holding a fraction of it.
func TestMemory(t *testing.T) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	peak := uint64(0)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			runtime.ReadMemStats(&after)
			peak = max(peak, after.HeapAlloc)
			runtime.Gosched()
		}
	}()
	dir := make1(t, Options{Domains: []string{"primary"}, BundleBytes: 32 << 20, Extra: []Files{{1, 16 << 20}}, Key: key(t, jose.ES256, "k")})
	cancel()
	<-done
	if info, err := os.Stat(filepath.Join(dir, release.BundlePath("primary"))); err != nil || info.Size() < 32<<20 {
		t.Errorf("%v", err)
	}
	t.Logf("heap: %d bytes before, %d at most", before.HeapAlloc, peak)
	if peak > before.HeapAlloc+16<<20 {
		t.Errorf("heap of %d bytes, %d before", peak, before.HeapAlloc)
	}
}

func TestKeyFiles(t *testing.T) {
	dir := t.TempDir()
	k := key(t, jose.ES256, "k1")
	private, public, err := k.WriteFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(private); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the private key has mode %v, %v", info.Mode(), err)
	}
	policy := "schema_version: 1\nkeys:\n  - {id: k1, file: " + filepath.Base(public) + "}\n"
	if _, err := release.ParsePolicy(filepath.Join(dir, "policy.yaml"), []byte(policy)); err != nil {
		t.Error(err)
	}
	if _, _, err := k.WriteFiles(dir); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over another key: %v", err)
	}
	for name, o := range map[string]Options{"feed": {Feed: "other"}} {
		if err := Write(t.Context(), t.TempDir(), o); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := NewKey(jose.RS256, "k"); err == nil {
		t.Error("an RSA key was made")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Write(ctx, t.TempDir(), Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("a context that is over: %v", err)
	}
}
