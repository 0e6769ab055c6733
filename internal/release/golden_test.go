package release_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/jose/detached"
	"github.com/stella-ops/stella/internal/release"
	"github.com/stella-ops/stella/internal/testenv/exports"
)

var update = flag.Bool("update", false, "write testdata anew")

// TestUpdate makes the golden files. Their keys are derived from numbers, so
// everybody can sign with them: they are for tests.
func TestUpdate(t *testing.T) {
	if !*update {
		t.Skip("only with -update: the golden files stay as they are")
	}
	keys := map[string]*exports.Key{}
	policy := "# For tests: the private keys are known to everybody.\nschema_version: 1\nthreshold: 1\nkeys:\n"
	for i, k := range []struct {
		id, more string
		alg      jose.Alg
	}{
		{"golden-es256", "", jose.ES256}, {"golden-eddsa", "", jose.EdDSA},
		{"golden-expired", "    not_after: 2026-01-01T00:00:00Z\n", jose.ES256},
		{"golden-revoked", "    revoked_at: 2026-02-01T00:00:00Z\n", jose.ES256},
		{"golden-bundles", "    uses: [bundle]\n", jose.ES256},
		{"golden-stranger", "", jose.ES256},
	} {
		key, err := exports.DerivedKey(k.alg, k.id, uint64(i+1))
		if err != nil {
			t.Fatal(err)
		}
		keys[k.id] = key
		public, err := key.PublicPEM()
		if err != nil {
			t.Fatal(err)
		}
		write(t, k.id+".pem", []byte(public))
		if k.id != "golden-stranger" {
			policy += fmt.Sprintf("  - id: %s\n    file: %s.pem\n%s", k.id, k.id, k.more)
		}
	}
	write(t, "trust.yaml", []byte(policy))
	s := members(t, keys)
	data := encode(t, s)
	write(t, release.FileStatement, data)
	write(t, release.FileSignature, release.Join(line(t, keys["golden-es256"], data), line(t, keys["golden-eddsa"], data)))
	badFiles(t, keys, s, data)
}

func members(t *testing.T, keys map[string]*exports.Key) *release.Statement {
	t.Helper()
	s := small()
	s.Members = nil
	add := func(path string, data []byte) {
		write(t, path, data)
		sum := sha256.Sum256(data)
		s.Members = append(s.Members, release.Member{Path: path, Size: int64(len(data)), SHA256: hex.EncodeToString(sum[:])})
	}
	add(release.PathIndex, []byte(`{"schemaVersion":1,"domains":[{"id":"primary","displayName":"Primary"},{"id":"community","displayName":"Community"}]}`))
	for i, d := range []string{"primary", "community"} {
		bundle := fmt.Appendf(nil, `{"advisories":[{"id":"CVE-2026-%04d"}]}`, i+1)
		add(release.BundlePath(d), bundle)
		add(release.ManifestPath(d), fmt.Appendf(nil, `{"domainId":%q,"created":"2026-03-01T11:00:00Z","schemaVersion":1,"advisories":1}`, d))
		jws, err := detached.Sign(t.Context(), keys["golden-es256"].Signer, map[string]any{"provider": "default"}, bytes.NewReader(bundle), []detached.Encoding{detached.Unencoded, detached.Base64URL}[i])
		if err != nil {
			t.Fatal(err)
		}
		add(release.BundlePath(d)+release.SuffixJWS, []byte(jws))
	}
	return s
}

func badFiles(t *testing.T, keys map[string]*exports.Key, s *release.Statement, data []byte) {
	t.Helper()
	bad := func(name string, statement, jws []byte) {
		write(t, "bad/"+name+".json", statement)
		if jws != nil {
			write(t, "bad/"+name+".json.jws", jws)
		}
	}
	good := line(t, keys["golden-es256"], data)
	bad("signature_missing-no-file", data, nil)
	bad("signature_missing-empty", data, []byte("\n"))
	bad("signature_invalid-other-bytes", bytes.Replace(data, []byte(`"sequence":7`), []byte(`"sequence":8`), 1), good)
	bad("key_unknown-stranger", data, line(t, keys["golden-stranger"], data))
	bad("key_unknown-not-for-statements", data, line(t, keys["golden-bundles"], data))
	bad("key_expired-last-year", data, line(t, keys["golden-expired"], data))
	bad("key_revoked-in-february", data, line(t, keys["golden-revoked"], data))
	bad("alg_refused-none", data, []byte("eyJhbGciOiJub25lIiwia2lkIjoiZ29sZGVuLWVzMjU2IiwiYjY0IjpmYWxzZSwiY3JpdCI6WyJiNjQiXX0..eA\n"))
	bad("signature_invalid-attached", data, []byte(strings.Replace(string(good), "..", ".e30.", 1)))
	other := *s
	other.Feed = "excititor"
	statement := encode(t, &other)
	bad("wrong_feed-excititor", statement, line(t, keys["golden-es256"], statement))
	// Signed bytes that are no statement in canonical form.
	loose := bytes.Replace(data, []byte(`{"schema"`), []byte(`{ "schema"`), 1)
	jws, err := keys["golden-es256"].Signer.SignDetached(map[string]any{"typ": release.Type, "provider": "default"}, loose)
	if err != nil {
		t.Fatal(err)
	}
	bad("format-white-space", loose, []byte(jws+"\n"))
	climbs := bytes.Replace(data, []byte("mirror/primary/manifest.json"), []byte("mirror/primary/../../etc/xx"), 1)
	if jws, err = keys["golden-es256"].Signer.SignDetached(map[string]any{"typ": release.Type, "provider": "default"}, climbs); err != nil {
		t.Fatal(err)
	}
	bad("hostile_name-climbs", climbs, []byte(jws+"\n"))
}

func line(t *testing.T, k *exports.Key, statement []byte) []byte {
	t.Helper()
	l, err := release.Sign(t.Context(), statement, "default", k.Signer)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func write(t *testing.T, name string, data []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestPolicyRefusals: each policy has one mistake, and the message names it.
func TestPolicyRefusals(t *testing.T) {
	pub, err := os.ReadFile("testdata/golden-es256.pem")
	if err != nil {
		t.Fatal(err)
	}
	key := "keys:\n  - id: k\n    pem: |\n      " + strings.ReplaceAll(strings.TrimSpace(string(pub)), "\n", "\n      ") + "\n"
	if _, err := release.ParsePolicy("p.yaml", []byte("schema_version: 1\n"+key)); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"schema_version: 2\n" + key:              "schema_version",
		"threshold: 0\n" + key:                   "threshold",
		"threshold: 17\n" + key:                  "threshold",
		"algorithms: [none]\n" + key:             "none",
		"algorithms: [HS256]\n" + key:            "HS256",
		"algorithms: []\n" + key:                 "algorithms",
		"statement: maybe\n" + key:               "statement",
		"max_age: -1h\n" + key:                   "max_age",
		"max_step: 0\n" + key:                    "max_step",
		"limits: {members: 500001}\n" + key:      "limits",
		"limits: {statement: 67108865}\n" + key:  "limits",
		"limits: {rate_window: 10ms}\n" + key:    "rate_window",
		"feeds: [{name: UP}]\n" + key:            "feeds[0]",
		"unknown: 1\n" + key:                     "unknown",
		"schema_version: 1\n":                    "keys is empty",
		"keys: [{id: k}]\n":                      "exactly one of file and pem",
		"keys: [{pem: x}]\n":                     "no id",
		"keys: [{id: k, pem: x}]\n":              "PEM",
		"keys: [{id: k, file: not-there.pem}]\n": "not-there.pem",
		"keys: [{id: k, file: testdata}]\n":      "regular file",
		key + strings.TrimPrefix(key, "keys:\n"): "twice",
		key + "    uses: [everything]\n":         "uses",
		key + "    not_before: 2026-02-01T00:00:00Z\n    not_after: 2026-01-01T00:00:00Z\n": "not_after",
		key + "    not_after: soon\n": "not_after",
	} {
		if _, err := release.ParsePolicy("p.yaml", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %v", text, err)
		}
	}
}

// TestPins: what may follow the release that was accepted last.
func TestPins(t *testing.T) {
	p, err := release.LoadPolicy("testdata/trust.yaml")
	if err != nil {
		t.Fatal(err)
	}
	s := small()
	_, signatures, err := p.Verify(read(t, release.FileStatement), read(t, release.FileSignature), "concelier", at)
	if err != nil {
		t.Fatal(err)
	}
	pin := release.Pin{ExportID: "before", Sequence: 6, GeneratedAt: s.GeneratedAt.Add(-time.Hour), Digest: "sha256:x", Signers: []string{signatures[0].Thumbprint}}
	for _, r := range []struct {
		name string
		edit func(*release.Pin)
		want release.Reason
		same bool
	}{
		{"newer", func(*release.Pin) {}, "", false},
		{"nothing before", func(p *release.Pin) { *p = release.Pin{} }, "", false},
		{"itself", func(p *release.Pin) { p.Digest = "sha256:itself"; p.Sequence = 7 }, "", true},
		{"older", func(p *release.Pin) { p.Sequence = 8 }, release.Rollback, false},
		{"older in time", func(p *release.Pin) { p.GeneratedAt = s.GeneratedAt.Add(time.Second) }, release.Rollback, false},
		{"same sequence", func(p *release.Pin) { p.Sequence = 7 }, release.Equivocation, false},
		{"same export", func(p *release.Pin) { p.ExportID = s.ExportID }, release.Equivocation, false},
		{"older, but by nobody who is trusted", func(p *release.Pin) { p.Sequence = 1 << 50; p.Signers = []string{"stranger"} }, "", false},
		{"older, not signed", func(p *release.Pin) { p.Sequence = 8; p.Signers = nil }, release.Rollback, false},
	} {
		now := pin
		r.edit(&now)
		same, err := p.CheckPin(s, "sha256:itself", now)
		if release.ReasonOf(err) != r.want || same != r.same {
			t.Errorf("%s: same %v, %v", r.name, same, err)
		}
	}
	far := *s
	far.Sequence = pin.Sequence + p.MaxStep + 1
	if _, err := p.CheckPin(&far, "sha256:far", pin); release.ReasonOf(err) != release.FastForward {
		t.Error(err)
	}
	far.Sequence--
	if _, err := p.CheckPin(&far, "sha256:far", pin); err != nil {
		t.Error(err)
	}
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}
