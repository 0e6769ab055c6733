package release_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/release"
)

func seeds(f *testing.F, patterns ...string) {
	f.Helper()
	for _, p := range patterns {
		paths, err := filepath.Glob(p)
		if err != nil || len(paths) == 0 {
			f.Fatalf("%s: %v %v", p, paths, err)
		}
		for _, path := range paths {
			data, err := os.ReadFile(path)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
}

// A statement that is taken has one spelling, and names nothing that a file
// system could read in another way.
func FuzzStatement(f *testing.F) {
	seeds(f, "testdata/release.json", "testdata/bad/*.json")
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := release.ParseStatement(data)
		if err != nil {
			if release.ReasonOf(err) == "" || fault.KindOf(err) != fault.Trust {
				t.Fatalf("an error without a reason: %v", err)
			}
			return
		}
		again, err := release.Encode(s)
		if err != nil || !bytes.Equal(again, data) {
			t.Fatalf("taken, but written again as %q (%v)", again, err)
		}
		for _, m := range s.Members {
			if !filepath.IsLocal(m.Path) || filepath.Clean(m.Path) != m.Path || strings.ContainsAny(m.Path, "\\:\x00 ") {
				t.Fatalf("takes the path %q", m.Path)
			}
		}
	})
}

func FuzzIndex(f *testing.F) {
	seeds(f, "testdata/mirror/index.json")
	f.Fuzz(func(t *testing.T, data []byte) {
		index, err := release.ParseIndex(data)
		if err != nil {
			if release.ReasonOf(err) == "" {
				t.Fatalf("an error without a reason: %v", err)
			}
			return
		}
		for _, d := range index.Domains {
			if release.CheckPath(release.BundlePath(d.ID)) != nil || strings.Contains(d.ID, "/") {
				t.Fatalf("takes the domain %q", d.ID)
			}
		}
	})
}

func FuzzManifest(f *testing.F) {
	seeds(f, "testdata/mirror/*/manifest.json")
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := release.ParseManifest("primary", data)
		if err == nil && (m.DomainID != "primary" || m.Created.IsZero()) {
			t.Fatalf("takes %+v", m)
		}
		if err != nil && release.ReasonOf(err) == "" {
			t.Fatalf("an error without a reason: %v", err)
		}
	})
}

// A policy that is taken trusts somebody, within bounds.
func FuzzPolicy(f *testing.F) {
	seeds(f, "testdata/trust.yaml")
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := release.ParsePolicy("testdata/fuzz.yaml", data)
		if err != nil {
			if fault.KindOf(err) != fault.Config {
				t.Fatalf("kind %v: %v", fault.KindOf(err), err)
			}
			return
		}
		if len(p.Keys) == 0 || p.Threshold < 1 || len(p.Algorithms) == 0 || p.Limits.Statement > release.MaxStatement {
			t.Fatalf("takes %+v", p)
		}
	})
}

// Whatever signatures there are: only the golden ones make the golden
// statement good, and nothing makes other bytes good.
func FuzzSignatures(f *testing.F) {
	policy, err := release.LoadPolicy("testdata/trust.yaml")
	if err != nil {
		f.Fatal(err)
	}
	statement, err := os.ReadFile("testdata/release.json")
	if err != nil {
		f.Fatal(err)
	}
	good, err := os.ReadFile("testdata/release.json.jws")
	if err != nil {
		f.Fatal(err)
	}
	more, err := os.ReadFile("testdata/bad/signature_invalid-other-bytes.json.jws") // good for the statement as it is
	if err != nil {
		f.Fatal(err)
	}
	good = append(good, more...)
	other := bytes.Replace(statement, []byte(`"sequence":7`), []byte(`"sequence":8`), 1)
	seeds(f, "testdata/release.json.jws", "testdata/bad/*.jws")
	f.Fuzz(func(t *testing.T, jws []byte) {
		if _, _, err := policy.Verify(other, jws, "concelier", at); err == nil {
			t.Fatal("other bytes are good")
		}
		_, signatures, err := policy.Verify(statement, jws, "concelier", at)
		if err != nil {
			return
		}
		found := 0
		for _, line := range strings.Fields(string(good)) {
			if bytes.Contains(jws, []byte(line)) {
				found++
			}
		}
		if found < len(signatures) {
			t.Fatalf("%d signatures are good, but only %d are ours", len(signatures), found)
		}
	})
}
