package pack

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/objstore/mem"
	"github.com/stella-ops/stella/internal/release"
)

// sample is a release with its members in memory.
type sample struct {
	st    *release.Statement
	raw   []byte
	files map[string][]byte
	store *mem.Store
}

// deep is a name that USTAR cannot hold.
var deep = "mirror/a/" + strings.Repeat("n", 150) + "/" + strings.Repeat("m", 180) + ".json"

// newSample makes a release of the four documents of one domain and of files
// with the given sizes.
func newSample(t testing.TB, sizes ...int) *sample {
	t.Helper()
	rnd := rand.New(rand.NewPCG(1, 2))
	s := &sample{files: map[string][]byte{
		"mirror/index.json":        []byte(`{"schemaVersion":1}`),
		"mirror/a/manifest.json":   []byte(`{}`),
		"mirror/a/bundle.json":     []byte(`{"advisories":[]}`),
		"mirror/a/bundle.json.jws": []byte("a..b"),
		deep:                       []byte("deep"),
		"mirror/a/empty":           {},
	}, store: mem.New("mem://release")}
	for i, n := range sizes {
		b := make([]byte, n)
		for j := range b {
			b[j] = byte(rnd.Uint32())
		}
		s.files[fmt.Sprintf("mirror/a/f%04d", i)] = b
	}
	st := &release.Statement{
		Feed: "concelier", ExportID: "20260301T010000Z", Sequence: 1,
		GeneratedAt: time.Date(2026, 3, 1, 1, 0, 0, 0, time.UTC), ExpiresAt: time.Date(2026, 4, 1, 1, 0, 0, 0, time.UTC),
	}
	for path, data := range s.files {
		sum := sha256.Sum256(data)
		st.Members = append(st.Members, release.Member{Path: path, Size: int64(len(data)), SHA256: hex.EncodeToString(sum[:])})
		s.put(t, path, data)
	}
	slices.SortFunc(st.Members, func(a, b release.Member) int { return strings.Compare(a.Path, b.Path) })
	var err error
	if s.raw, err = release.Encode(st); err != nil {
		t.Fatal(err)
	}
	if s.st, err = release.ParseStatement(s.raw); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *sample) put(t testing.TB, path string, data []byte) {
	t.Helper()
	if _, err := s.store.Put(t.Context(), path, bytes.NewReader(data), int64(len(data))); err != nil {
		t.Fatal(err)
	}
}

func (s *sample) job(dir string) Job {
	return Job{Release: s.st, Statement: s.raw, Signatures: []byte("line\n"), From: s.store, Dir: dir, SegmentSize: MinSegment}
}

// write packs into a new folder.
func (s *sample) write(t testing.TB) (string, *Written) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "stick")
	w, err := Write(t.Context(), s.job(dir), false)
	if err != nil {
		t.Fatal(err)
	}
	return dir, w
}

// snapshot reads all files of a folder.
func snapshot(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		out[e.Name()] = string(data)
	}
	return out
}

func segment(dir string, i int) string { return filepath.Join(dir, Name(i)) }
