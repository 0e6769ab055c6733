package revocation_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stella-ops/stella/internal/revocation"
	"github.com/stella-ops/stella/internal/testenv"
)

// shell is a directory with the files of a bundle, for tools that are not ours.
type shell struct {
	t   *testing.T
	dir string
	jws string
}

func newShell(t *testing.T) (*shell, []byte) {
	t.Helper()
	for name, pkg := range map[string]string{"openssl": "openssl", "jq": "jq", "basenc": "coreutils", "awk": "mawk"} {
		testenv.Need(t, name, pkg)
	}
	signer := newSigner(t, "k1")
	data := encode(t, bundle(2, token("a"), subject("ü", at(3)), key("k0")))
	jws, err := revocation.Sign(data, signer, "")
	if err != nil {
		t.Fatal(err)
	}
	jwk, err := signer.Key().MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	s := &shell{t, t.TempDir(), jws}
	s.write("jwks.json", `{"keys":[`+string(jwk)+`]}`)
	s.put(data)
	return s, data
}

func (s *shell) write(name, text string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// put writes a bundle and its digest, with the signature of the first one.
func (s *shell) put(data []byte) {
	s.t.Helper()
	s.write(revocation.FileBundle, string(data))
	s.write(revocation.FileSignature, s.jws)
	s.write(revocation.FileDigest, strings.TrimPrefix(revocation.Digest(data), "sha256:"))
}

func (s *shell) run(args ...string) (out string, code int) {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), "sh", args...)
	cmd.Dir = s.dir
	text, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.t.Fatal(err)
	}
	return string(text), cmd.ProcessState.ExitCode()
}

func absolute(t *testing.T, parts ...string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join(parts...))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// The script for people without our tools agrees with us.
func TestScript(t *testing.T) {
	s, data := newShell(t)
	script, valid := absolute(t, "testdata", "verify.sh"), absolute(t, "testdata", "valid")
	if out, code := s.run(script, ".", "jwks.json", "state"); code != 0 {
		t.Errorf("ours: %d %s", code, out)
	}
	if out, code := s.run(script, valid, filepath.Join(valid, "jwks.json")); code != 0 {
		t.Errorf("Python's: %d %s", code, out)
	}
	s.write("state", "3\n")
	if out, code := s.run(script, ".", "jwks.json", "state"); code != 21 || !strings.Contains(out, "older") {
		t.Errorf("older: %d %s", code, out)
	}
	if out, code := s.run(script, ".", filepath.Join(valid, "jwks.json")); code != 21 || !strings.Contains(out, "no key") {
		t.Errorf("other keys: %d %s", code, out)
	}
	s.put(bytes.Replace(data, []byte(`"id": "a"`), []byte(`"id": "b"`), 1))
	if out, code := s.run(script, ".", "jwks.json"); code != 21 || !strings.Contains(out, "signature") {
		t.Errorf("changed: %d %s", code, out)
	}
	s.put(append(data, '\n'))
	if out, code := s.run(script, ".", "jwks.json"); code != 21 || !strings.Contains(out, "canonical") {
		t.Errorf("not canonical: %d %s", code, out)
	}
}

// block returns the indented commands below a heading of the documentation.
func block(t *testing.T, heading string) string {
	t.Helper()
	doc, err := os.ReadFile(filepath.Join("..", "..", "docs", "formats", "revocation-bundle.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(doc), "\n## "+heading+"\n")
	if !ok {
		t.Fatalf("no section %q", heading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	var lines []string
	for line := range strings.Lines(section) {
		if command, ok := strings.CutPrefix(line, "    "); ok {
			lines = append(lines, command)
		}
	}
	if len(lines) < 3 {
		t.Fatalf("section %q has no commands", heading)
	}
	return strings.Join(lines, "")
}

// What the documentation shows works as it is written there.
func TestDocumentation(t *testing.T) {
	s, data := newShell(t)
	list, err := (&revocation.Document{Sequence: 2, Bundle: data, Signature: s.jws}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	s.write("list.json", string(list))
	for _, name := range []string{revocation.FileBundle, revocation.FileSignature, revocation.FileDigest} {
		s.write(name, "not yet")
	}
	fetch := block(t, "Files")
	_, unpack, ok := strings.Cut(fetch, "\n") // the first line is the request
	if !ok || !strings.HasPrefix(fetch, "curl ") {
		t.Fatalf("%s", fetch)
	}
	if out, code := s.run("-euc", unpack); code != 0 {
		t.Fatalf("%d %s", code, out)
	}
	verify := block(t, "Verify")
	if out, code := s.run("-euc", verify); code != 0 || !strings.Contains(out, "Verified OK") || !strings.Contains(out, `"alg": "ES256"`) {
		t.Fatalf("%d %s", code, out)
	}
	s.put(bytes.Replace(data, []byte(`"id": "a"`), []byte(`"id": "b"`), 1))
	if out, code := s.run("-euc", verify); code == 0 || strings.Contains(out, "Verified OK") {
		t.Errorf("changed: %d %s", code, out)
	}
	s.put(data)
	if out, code := s.run("-euc", verify); code != 0 {
		t.Errorf("control: %d %s", code, out)
	}
}
