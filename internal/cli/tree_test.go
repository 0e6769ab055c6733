package cli

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/stella-ops/stella/internal/buildinfo"
	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/ui"
)

// tree builds the command tree for inspection.
func tree(t *testing.T) *cobra.Command {
	t.Helper()
	s, _, _ := ui.Buffers("")
	app := &App{Streams: s, Build: buildinfo.Info{Version: "v1.2.3", Go: "go1.x", Platform: "linux/amd64"}}
	return NewRoot(app)
}

// all calls visit for every command, hidden ones too.
func all(cmd *cobra.Command, visit func(*cobra.Command)) {
	visit(cmd)
	for _, c := range cmd.Commands() {
		all(c, visit)
	}
}

// TestHelpIsComplete: every command says what it does, shows an example that
// begins with its own name, and ends in its exit codes.
func TestHelpIsComplete(t *testing.T) {
	status := regexp.MustCompile(`^(  \d+ +\S.*\n?)+$`)
	seen := map[string]bool{}
	all(tree(t), func(c *cobra.Command) {
		path := c.CommandPath()
		if seen[path] {
			t.Errorf("%s exists twice", path)
		}
		seen[path] = true
		if c.Short == "" || strings.HasSuffix(c.Short, ".") || len(c.Short) > 80 {
			t.Errorf("%s: Short is %q", path, c.Short)
		}
		text, codes, ok := strings.Cut(c.Long, "\n\nEXIT STATUS\n")
		if !ok || text == "" || !status.MatchString(codes) {
			t.Errorf("%s: Long does not end in EXIT STATUS: %q", path, c.Long)
		}
		for line := range strings.SplitSeq(c.Long, "\n") {
			if len(line) > 120 {
				t.Errorf("%s: a line of Long has %d columns", path, len(line))
			}
		}
		if c.HasParent() && !strings.Contains(c.Example, path) {
			t.Errorf("%s: the example does not show it: %q", path, c.Example)
		}
		if c.RunE == nil || c.Run != nil {
			t.Errorf("%s: it must have RunE and no Run", path)
		}
	})
	if len(seen) < 10 {
		t.Errorf("only %d commands were seen", len(seen))
	}
}

// TestFlags: every flag is explained, no shorthand or name means two things,
// and no flag takes a secret as its value.
func TestFlags(t *testing.T) {
	all(tree(t), func(c *cobra.Command) {
		c.InitDefaultHelpFlag()
		short := map[string]string{}
		names := map[string]bool{}
		check := func(f *pflag.Flag) {
			if f.Usage == "" || strings.HasSuffix(f.Usage, ".") {
				t.Errorf("%s --%s: usage is %q", c.CommandPath(), f.Name, f.Usage)
			}
			if f.Name != strings.ToLower(f.Name) || strings.Contains(f.Name, "_") {
				t.Errorf("%s --%s: the name is not in kebab case", c.CommandPath(), f.Name)
			}
			if other := short[f.Shorthand]; f.Shorthand != "" && other != "" && other != f.Name {
				t.Errorf("%s -%s is --%s and --%s", c.CommandPath(), f.Shorthand, other, f.Name)
			}
			if secret := regexp.MustCompile(`(^|-)(password|secret|token|private-key)$`); secret.MatchString(f.Name) && !strings.Contains(f.Usage, "reference") {
				t.Errorf("%s --%s: a secret may only come by reference, and the usage must say so", c.CommandPath(), f.Name)
			}
			short[f.Shorthand] = f.Name
		}
		c.LocalFlags().VisitAll(func(f *pflag.Flag) { check(f); names[f.Name] = true })
		c.InheritedFlags().VisitAll(func(f *pflag.Flag) {
			check(f)
			if c.LocalNonPersistentFlags().Lookup(f.Name) != nil {
				t.Errorf("%s --%s hides a persistent flag", c.CommandPath(), f.Name)
			}
		})
	})
}

// TestHelpRuns: --help of every command works and goes to standard output.
func TestHelpRuns(t *testing.T) {
	all(tree(t), func(c *cobra.Command) {
		args := append(strings.Fields(c.CommandPath())[1:], "--help")
		code, out, errs := run(t, "", args...)
		if code != 0 || errs != "" || !strings.Contains(out, "EXIT STATUS") || !strings.Contains(out, "Usage:") {
			t.Errorf("%s: exit %d, %s%s", args, code, out, errs)
		}
	})
}

// TestCompletes: asking for completions behind any command fails nowhere and
// prints nothing but candidates.
func TestCompletes(t *testing.T) {
	all(tree(t), func(c *cobra.Command) {
		args := append(append([]string{"__complete"}, strings.Fields(c.CommandPath())[1:]...), "")
		code, out, _ := run(t, "", args...)
		if code != 0 || !strings.Contains(out, "\n:") && !strings.HasPrefix(out, ":") {
			t.Errorf("%q: exit %d, %q", args, code, out)
		}
		for _, child := range childNames(c) {
			if !c.Hidden && !strings.Contains(out, child+"\t") {
				t.Errorf("%q does not offer %s", args, child)
			}
		}
	})
}

// TestMisuseEverywhere: an unknown flag is exit code 2 for every command, in
// text and in JSON, and nothing is printed as a result.
func TestMisuseEverywhere(t *testing.T) {
	all(tree(t), func(c *cobra.Command) {
		args := append(strings.Fields(c.CommandPath())[1:], "--no-such-flag")
		for _, format := range []string{"text", "json"} {
			code, out, errs := run(t, "", append(args, "--output", format)...)
			if code != 2 || out != "" || !strings.Contains(errs, "no-such-flag") || !strings.Contains(errs, "--help") {
				t.Errorf("%s %s: exit %d, %q, %q", args, format, code, out, errs)
			}
		}
	})
}

// TestManPages: every page renders, by the same bytes each time.
func TestManPages(t *testing.T) {
	first, err := manPages(tree(t))
	if err != nil {
		t.Fatal(err)
	}
	second, err := manPages(tree(t))
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range first {
		if string(p.data) != string(second[i].data) || !strings.Contains(string(p.data), ".SH") {
			t.Errorf("%s: %d bytes, then %d", p.name, len(p.data), len(second[i].data))
		}
		if strings.HasSuffix(p.name, ".1") && !strings.Contains(string(p.data), "EXIT STATUS") {
			t.Errorf("%s has no EXIT STATUS", p.name)
		}
	}
	if !slices.ContainsFunc(first, func(d document) bool { return d.name == "stella.1" }) {
		t.Error("stella.1 is missing")
	}
}

// TestDocsAreInStep: docs/ holds what the program generates.
func TestDocsAreInStep(t *testing.T) {
	root := tree(t)
	for _, d := range []document{{"cli.md", cliDoc(root)}, {"config-stella.md", configDoc()}, {"exit-codes.md", exitDoc()}} {
		have, err := os.ReadFile(filepath.Join("../../docs", d.name))
		if err != nil || string(have) != string(d.data) {
			t.Errorf("docs/%s is out of step (%v); run: go run ./cmd/stella gen docs docs", d.name, err)
		}
	}
}

// TestExitCodesAreDocumented: the document has a row for every kind.
func TestExitCodesAreDocumented(t *testing.T) {
	text := string(exitDoc())
	for _, row := range fault.Table() {
		if !strings.Contains(text, "`"+row.Name+"`") || !strings.Contains(text, row.Meaning) {
			t.Errorf("%s is missing", row.Name)
		}
	}
}
