package cli

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/stella-ops/stella/internal/cli/config"
	"github.com/stella-ops/stella/internal/secret"
)

// manDate is the date in the head of every page. It is fixed, so that the same
// program always writes the same pages.
func manDate() time.Time { return time.Date(2026, time.November, 1, 0, 0, 0, 0, time.UTC) }

// manPages renders one page a command, and stella.yaml(5).
func manPages(root *cobra.Command) ([]document, error) {
	pages := []document{{"stella.yaml.5", configPage()}}
	var failed error
	walk(root, func(cmd *cobra.Command) {
		var b bytes.Buffer
		cmd.DisableAutoGenTag = true
		date := manDate()
		header := &doc.GenManHeader{Section: "1", Source: "stella", Manual: "stella manual", Date: &date}
		if err := doc.GenMan(cmd, header, &b); err != nil && failed == nil {
			failed = fmt.Errorf("making the manual page of %q: %w", cmd.CommandPath(), err)
		}
		name := strings.ReplaceAll(cmd.CommandPath(), " ", "-") + ".1"
		pages = append(pages, document{name, b.Bytes()})
	})
	return pages, failed
}

// walk calls visit for cmd and all below it that are shown to people, in the
// order of their names.
func walk(cmd *cobra.Command, visit func(*cobra.Command)) {
	visit(cmd)
	for _, c := range cmd.Commands() {
		if !c.IsAvailableCommand() && !c.HasAvailableSubCommands() || c.Hidden {
			continue
		}
		walk(c, visit)
	}
}

// configPage renders stella.yaml(5).
func configPage() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, ".nh\n.TH \"STELLA.YAML\" \"5\" \"%s\" \"stella\" \"stella manual\"\n", manDate().Format("Jan 2006"))
	b.WriteString(".SH NAME\nstella.yaml \\- configuration of stella\n.SH DESCRIPTION\n")
	for line := range strings.SplitSeq(configLong, "\n") {
		b.WriteString(roff(line) + "\n")
	}
	b.WriteString(".PP\n" + roff("A secret reference is "+secret.Schemes+". A duration is hh:mm:ss, d.hh:mm:ss or text such as 90s.") + "\n.SH KEYS\n")
	for _, k := range config.Keys() {
		fmt.Fprintf(&b, ".TP\n\\fB%s\\fP (%s)\n%s.\n", roff(k.Key), roff(k.Type), roff(k.Doc))
		if k.Default != "" {
			b.WriteString(roff("Default: "+k.Default+".") + "\n")
		}
		if k.FileOnly {
			b.WriteString("Cannot be set by the environment.\n")
		} else {
			b.WriteString(roff("Variable: "+k.Env+".") + "\n")
		}
	}
	b.WriteString(".SH SEE ALSO\n.BR stella (1)\n")
	return []byte(b.String())
}

// roff escapes text for a manual page.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text)
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		text = `\&` + text
	}
	return text
}
