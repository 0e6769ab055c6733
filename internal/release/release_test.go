package release_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/release"
)

var at = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// small is a statement that is in order.
func small() *release.Statement {
	s := &release.Statement{
		Feed: "concelier", ExportID: "20260301T110000Z", Sequence: 7, GeneratedAt: at.Add(-time.Hour), ExpiresAt: at.Add(24 * time.Hour),
	}
	for i, p := range []string{"mirror/primary/manifest.json", "mirror/primary/bundle.json.jws", "mirror/primary/bundle.json", "mirror/index.json", "mirror/primary/data/a.json"} {
		s.Members = append(s.Members, release.Member{Path: p, Size: int64(i), SHA256: fmt.Sprintf("%064x", i)})
	}
	return s
}

func encode(t *testing.T, s *release.Statement) []byte {
	t.Helper()
	data, err := release.Encode(s)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestStatement(t *testing.T) {
	data := encode(t, small())
	s, err := release.ParseStatement(data)
	if err != nil {
		t.Fatal(err)
	}
	if again := encode(t, s); !bytes.Equal(again, data) {
		t.Errorf("%s", again)
	}
	if m, ok := s.Find("mirror/primary/bundle.json"); !ok || m.Size != 2 || s.Bytes() != 10 {
		t.Errorf("%+v %v %d", m, ok, s.Bytes())
	}
	if _, ok := s.Find("mirror/primary/bundle"); ok {
		t.Error("found what is not there")
	}
}

// TestStatementRefusals: each changes one thing of a statement that is taken.
func TestStatementRefusals(t *testing.T) {
	good := string(encode(t, small()))
	for _, r := range []struct {
		name, old, new string
		want           release.Reason
	}{
		{"other schema", "release/v1", "release/v2", release.Format},
		{"unknown member", `"feed":`, `"extra":1,"feed":`, release.Format},
		{"member twice", `"feed":"concelier",`, `"feed":"concelier","feed":"concelier",`, release.Format},
		{"other order", `"feed":"concelier","exportId":"20260301T110000Z",`, `"exportId":"20260301T110000Z","feed":"concelier",`, release.Format},
		{"white space", `{"schema"`, `{ "schema"`, release.Format},
		{"no newline at the end", "]}\n", "]}", release.Format},
		{"data behind", "]}\n", "]}\n{}", release.Format},
		{"byte order mark", `{"schema"`, "\ufeff{\"schema\"", release.Format},
		{"escaped letter", "concelier", `c\u006fncelier`, release.Format},
		{"feed in capitals", `"feed":"concelier"`, `"feed":"Concelier"`, release.Format},
		{"export that climbs", "20260301T110000Z", "..", release.HostileName},
		{"export latest", "20260301T110000Z", "latest", release.HostileName},
		{"export with a slash", "20260301T110000Z", "a/b", release.HostileName},
		{"sequence 0", `"sequence":7`, `"sequence":0`, release.Format},
		{"sequence as text", `"sequence":7`, `"sequence":"7"`, release.Format},
		{"sequence of 2^53+1", `"sequence":7`, `"sequence":9007199254740993`, release.Format},
		{"fraction of a second", "T11:00:00Z", "T11:00:00.5Z", release.Format},
		{"zone", `"generatedAt":"2026-03-01T11:00:00Z"`, `"generatedAt":"2026-03-01T12:00:00+01:00"`, release.Format},
		{"expires first", `"expiresAt":"2026-03-02`, `"expiresAt":"2026-02-02`, release.Format},
		{"negative size", `"size":2`, `"size":-2`, release.TooLarge},
		{"huge size", `"size":2`, `"size":1099511627777`, release.TooLarge},
		{"digest in capitals", fmt.Sprintf("%064x", 2), fmt.Sprintf("%063xA", 0), release.Format},
		{"short digest", fmt.Sprintf("%064x", 2), "2", release.Format},
		{"path that climbs", "data/a.json", "../a.json", release.HostileName},
		{"absolute path", "mirror/primary/data/a.json", "/etc/passwd", release.HostileName},
		{"device", "data/a.json", "data/nul.json", release.HostileName},
		{"backslash", "data/a.json", `data\\a.json`, release.HostileName},
		{"NUL", "data/a.json", `data/a\u0000`, release.HostileName},
		{"hidden", "data/a.json", "data/.a.json", release.HostileName},
		{"option", "data/a.json", "data/-rf", release.HostileName},
		{"5000 characters", "data/a.json", "data/" + strings.Repeat("a", 5000), release.HostileName},
		{"17 levels", "data/a.json", "data/" + strings.Repeat("a/", 17) + "b", release.HostileName},
		{"case clash", "primary/data/a.json", "primary/Bundle.json", release.HostileName},
		{"file and folder", "primary/data/a.json", "primary/manifest.json/x", release.HostileName},
		{"outside mirror", "mirror/primary/data/a.json", "other/a.json", release.ExtraMember},
		{"not of a domain", "mirror/primary/data/a.json", "mirror/a.json", release.ExtraMember},
		{"no signature of a bundle", "bundle.json.jws", "bundle.json.sig", release.MissingMember},
		{"no index", "mirror/index.json", "mirror/primary/i.json", release.MissingMember},
	} {
		t.Run(r.name, func(t *testing.T) {
			bad := strings.Replace(good, r.old, r.new, 1)
			if bad == good {
				t.Fatal("nothing was changed")
			}
			bad = sorted(bad, r.name)
			_, err := release.ParseStatement([]byte(bad))
			if release.ReasonOf(err) != r.want || fault.KindOf(err) != fault.Trust {
				t.Errorf("reason %q: %v", release.ReasonOf(err), err)
			}
		})
	}
}

// sorted puts the members of an edited statement in order again, so that the
// order is not what refuses it.
func sorted(s, name string) string {
	head, rest, ok := strings.Cut(s, "\"members\":[\n")
	body, tail, ok2 := strings.Cut(rest, "\n]}")
	if !ok || !ok2 || strings.Contains(name, "data behind") {
		return s
	}
	lines := strings.Split(body, ",\n")
	slices.SortFunc(lines, func(a, b string) int { return strings.Compare(memberPath(a), memberPath(b)) })
	return head + "\"members\":[\n" + strings.Join(lines, ",\n") + "\n]}" + tail
}

func memberPath(line string) string {
	p, _, _ := strings.Cut(strings.TrimPrefix(line, `{"path":"`), `"`)
	return p
}

func TestStatementBounds(t *testing.T) {
	if _, err := release.ParseStatement(make([]byte, release.MaxStatement+1)); release.ReasonOf(err) != release.TooLarge {
		t.Error(err)
	}
	s := small()
	s.Members[2], s.Members[3] = s.Members[3], s.Members[2]
	data := encode(t, s) // Encode sorts
	if !bytes.Equal(data, encode(t, small())) {
		t.Error("order of members changes the bytes")
	}
	swapped := strings.Replace(string(data), "bundle.json\"", "zundle.json\"", 1)
	if _, err := release.ParseStatement([]byte(swapped)); release.ReasonOf(err) != release.Format && release.ReasonOf(err) != release.MissingMember {
		t.Error(err)
	}
}

func TestIndexAndManifest(t *testing.T) {
	for name, r := range map[string]struct {
		doc  string
		want release.Reason
	}{
		"minimal":          {`{"schemaVersion":1,"domains":[{"id":"primary","displayName":"Primary"}]}`, ""},
		"additive":         {`{"schemaVersion":1,"exportId":"x1","more":{},"domains":[{"id":"primary","more":[1]}]}`, ""},
		"other version":    {`{"schemaVersion":2,"domains":[{"id":"primary"}]}`, release.Format},
		"no domain":        {`{"schemaVersion":1,"domains":[]}`, release.Emptied},
		"domain twice":     {`{"schemaVersion":1,"domains":[{"id":"a"},{"id":"A"}]}`, release.HostileName},
		"domain climbs":    {`{"schemaVersion":1,"domains":[{"id":".."}]}`, release.HostileName},
		"domain is a path": {`{"schemaVersion":1,"domains":[{"id":"a/b"}]}`, release.HostileName},
		"hostile export":   {`{"schemaVersion":1,"exportId":"../x","domains":[{"id":"a"}]}`, release.HostileName},
		"member twice":     {`{"schemaVersion":1,"domains":[{"id":"a"}],"domains":[{"id":"b"}]}`, release.Format},
		"name in capitals": {`{"schemaVersion":1,"domains":[{"id":"a"}],"DOMAINS":[{"id":"b"}]}`, release.Format},
		"id in capitals":   {`{"schemaVersion":1,"domains":[{"id":"a","ID":"b"}]}`, release.Format},
		"an array":         {`[]`, release.Format},
		"nothing":          {``, release.Format},
		"too large":        {`{"a":"` + strings.Repeat("x", release.MaxIndex) + `"}`, release.TooLarge},
	} {
		if _, err := release.ParseIndex([]byte(r.doc)); release.ReasonOf(err) != r.want || r.want == "" && err != nil {
			t.Errorf("index, %s: %v", name, err)
		}
	}
	digest := strings.Repeat("a", 64)
	for name, r := range map[string]struct {
		doc  string
		want release.Reason
	}{
		"minimal":          {`{"domainId":"primary","created":"2026-03-01T00:00:00Z","schemaVersion":1,"advisories":0}`, ""},
		"with bundle":      {`{"domainId":"primary","created":"2026-03-01T00:00:00+02:00","schemaVersion":1,"bundle":{"size":1,"sha256":"` + digest + `","path":"x"}}`, ""},
		"other domain":     {`{"domainId":"community","created":"2026-03-01T00:00:00Z","schemaVersion":1}`, release.MixAndMatch},
		"no time":          {`{"domainId":"primary","created":"yesterday","schemaVersion":1}`, release.Format},
		"digest missing":   {`{"domainId":"primary","created":"2026-03-01T00:00:00Z","schemaVersion":1,"bundle":{"size":1}}`, release.Format},
		"size missing":     {`{"domainId":"primary","created":"2026-03-01T00:00:00Z","schemaVersion":1,"bundle":{"sha256":"` + digest + `"}}`, release.Format},
		"bundle is a text": {`{"domainId":"primary","created":"2026-03-01T00:00:00Z","schemaVersion":1,"bundle":"x"}`, release.Format},
	} {
		if _, err := release.ParseManifest("primary", []byte(r.doc)); release.ReasonOf(err) != r.want || r.want == "" && err != nil {
			t.Errorf("manifest, %s: %v", name, err)
		}
	}
}

// TestGolden: what other programs test against does not change.
func TestGolden(t *testing.T) {
	policy, err := release.LoadPolicy("testdata/trust.yaml")
	if err != nil {
		t.Fatal(err)
	}
	statement, err := os.ReadFile("testdata/release.json")
	if err != nil {
		t.Fatal(err)
	}
	jws, err := os.ReadFile("testdata/release.json.jws")
	if err != nil {
		t.Fatal(err)
	}
	s, signatures, err := policy.Verify(statement, jws, "concelier", at)
	if err != nil || len(signatures) != 2 {
		t.Fatalf("%v %+v", err, signatures)
	}
	for _, m := range s.Members {
		data, err := os.ReadFile(filepath.Join("testdata", m.Path))
		if err != nil || int64(len(data)) != m.Size || release.Digest(data) != "sha256:"+m.SHA256 {
			t.Errorf("%s: %v", m.Path, err)
		}
		if domain, ok := release.BundleOf(m.Path); ok {
			sig, err := os.ReadFile(filepath.Join("testdata", m.Path+".jws"))
			if err != nil {
				t.Fatal(err)
			}
			b, err := policy.OpenBundle(m.Path, sig, "concelier", at)
			if err != nil {
				t.Fatal(domain, err)
			}
			if _, err := b.Write(data); err != nil {
				t.Fatal(err)
			}
			if err := b.Verify(); err != nil {
				t.Error(domain, err)
			}
		}
	}
	// Each bad file is refused for the reason that its name begins with.
	bad, err := filepath.Glob("testdata/bad/*.json")
	if err != nil || len(bad) < 8 {
		t.Fatal(bad, err)
	}
	for _, path := range bad {
		statement, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		jws, err := os.ReadFile(path + ".jws")
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		_, _, err = policy.Verify(statement, jws, "concelier", at)
		want, _, _ := strings.Cut(strings.TrimSuffix(filepath.Base(path), ".json"), "-")
		if string(release.ReasonOf(err)) != want {
			t.Errorf("%s: %v", path, err)
		}
	}
}
