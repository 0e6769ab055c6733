package deploy_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stella-ops/stella/internal/cli"
	"github.com/stella-ops/stella/internal/cli/config"
	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/release"
	"github.com/stella-ops/stella/internal/testenv/exports"
)

const runbook = "../docs/runbooks/mirror.md"

// flaw parses a command line as the program would and says what is wrong with
// it, "" for nothing. It runs nothing.
func flaw(args []string) string {
	root := cli.NewRoot(cli.NewApp(nil, func(string) string { return "" }))
	cmd, rest, err := root.Find(args)
	switch {
	case err != nil:
		return err.Error()
	case cmd.HasSubCommands():
		return cmd.CommandPath() + " is no command but a group"
	}
	if err := cmd.ParseFlags(rest); err != nil {
		return err.Error()
	}
	if err := cmd.ValidateArgs(cmd.Flags().Args()); err != nil {
		return err.Error()
	}
	return ""
}

func TestFlaw(t *testing.T) {
	for line, good := range map[string]bool{
		"mirror sync": true, "--config x mirror sync --dry-run": true, "mirror rollback --to A --reason B": true,
		"mirror": false, "mirror sink": false, "mirror sync --dry": false, "mirror sync x": false, "mirror rollback --to": false,
	} {
		if why := flaw(strings.Fields(line)); (why == "") != good {
			t.Errorf("%s: %q", line, why)
		}
	}
}

// TestCommands: what units and the runbook call exists, with these flags.
func TestCommands(t *testing.T) {
	seen := 0
	check := func(where, line string) {
		seen++
		if why := flaw(strings.Fields(line)); why != "" {
			t.Errorf("%s: stella %s: %s", where, line, why)
		}
	}
	for _, path := range glob(t, "systemd/*.service", 4) {
		program, args, _ := strings.Cut(readUnit(t, path).one(t, "Service.ExecStart"), " ")
		if program == "/usr/bin/stella" {
			check(path, args)
		}
	}
	text := strings.Join(lines(t, runbook), "\n")
	text = strings.ReplaceAll(text, "\\\n", " ")
	// In blocks, behind "$", "next:" or variables, stella or the function sm; in
	// the text between backquotes.
	for _, m := range regexp.MustCompile("(?m)(?:^ {4,}(?:\\$ |next: )?(?:env (?:\\S+=\\S+ +)+)?|`)(stella|sm) ([a-z-][^`\n|#;(]*)").FindAllStringSubmatch(text, -1) {
		line := strings.TrimSpace(m[2])
		if m[1] == "sm" {
			line = "mirror " + line
		}
		check(runbook, line)
	}
	if seen < 15 {
		t.Errorf("only %d commands found", seen)
	}
}

// block finds the indented block of the runbook whose first line is first.
func block(t *testing.T, first string) string {
	t.Helper()
	var out []string
	indent := -1
	for _, line := range lines(t, runbook) {
		text := strings.TrimLeft(line, " ")
		switch depth := len(line) - len(text); {
		case indent < 0 && depth >= 4 && text == first:
			indent = depth
			out = append(out, text)
		case indent >= 0 && text != "" && depth >= indent:
			out = append(out, line[indent:])
		case indent >= 0:
			return strings.Join(out, "\n") + "\n"
		}
	}
	t.Fatalf("the runbook has no block that begins with %q", first)
	return ""
}

// trusting writes a public key where a policy looks for it.
func trusting(t *testing.T, path string) {
	t.Helper()
	key, err := exports.NewKey(jose.ES256, "k")
	if err != nil {
		t.Fatal(err)
	}
	pub, err := key.PublicPEM()
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, pub)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestRunbookConfiguration: the samples are accepted, together with what the
// unit sets, and mean the folder that the unit may write to.
func TestRunbookConfiguration(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "stella.yaml")
	write(t, file, block(t, "mirror:"))
	u := readUnit(t, "systemd/stella-mirror-sync.service")
	var environ []string
	for name, value := range u.environment() {
		environ = append(environ, name+"="+value)
	}
	c, err := config.Load(config.Source{Path: file, Environ: environ})
	if err != nil {
		t.Fatal(err)
	}
	root := "/var/lib/" + u.one(t, "Service.StateDirectory")
	if c.Mirror.Root != root || len(c.Mirror.Feeds) != 2 || filepath.Dir(c.Mirror.MetricsFile) != root {
		t.Errorf("root %q, metrics %q, %d feeds; the unit may write to %s", c.Mirror.Root, c.Mirror.MetricsFile, len(c.Mirror.Feeds), root)
	}
	if c.Mirror.S3.AccessKeyID != "cred:mirror-s3-access-key-id" || c.Mirror.S3.SecretAccessKey != "cred:mirror-s3-secret-access-key" {
		t.Errorf("keys %q %q", c.Mirror.S3.AccessKeyID, c.Mirror.S3.SecretAccessKey)
	}
	if filepath.Base(c.Mirror.TrustPolicy) != "mirror-trust.yaml" {
		t.Errorf("trust policy %q", c.Mirror.TrustPolicy)
	}
	trusting(t, filepath.Join(dir, "mirror-2026.pem"))
	p, err := release.ParsePolicy(filepath.Join(dir, "mirror-trust.yaml"), []byte(block(t, "schema_version: 1")))
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Keys) != 1 || p.Statement != release.Required {
		t.Errorf("%d keys, statement %s", len(p.Keys), p.Statement)
	}
	if _, err := config.Load(config.Source{Path: file, Environ: append(environ, "STELLA_MIRROR_SERVICE_HOST=10.0.0.1")}); err == nil {
		t.Error("control: a variable that nothing reads is accepted")
	}
}
