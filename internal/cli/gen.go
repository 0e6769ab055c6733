package cli

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stella-ops/stella/internal/durable"
	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/ui"
)

// SchemaGen is the schema of the JSON that the commands under gen print.
const SchemaGen = "stella.gen/v1"

// maxDocBytes bounds a generated file when it is compared.
const maxDocBytes = 8 << 20

// document is one generated file.
type document struct {
	name string
	data []byte
}

func newGenCmd(app *App) *cobra.Command {
	cmd := group("gen", "Generate manuals from the program itself",
		long("Writes manual pages and reference documents. Their text depends on the program\nalone, so that a check can tell when they are out of step.", fault.ChecksFailed),
		"  stella gen docs --check docs", newGenManCmd(app), newGenDocsCmd(app))
	cmd.Hidden = true
	return cmd
}

func newGenManCmd(app *App) *cobra.Command {
	return &cobra.Command{
		Use:               "man DIR",
		Short:             "Write the manual pages into DIR",
		Long:              long("Writes stella.1, one page for each command, and stella.yaml.5 into DIR, which is\nmade if it is missing."),
		Example:           "  stella gen man ./man",
		Args:              args(1, 1, "a directory"),
		ValidArgsFunction: completeDirs,
		RunE: func(cmd *cobra.Command, args []string) error {
			docs, err := manPages(cmd.Root())
			if err != nil {
				return err
			}
			return app.writeDocs(args[0], docs)
		},
	}
}

func newGenDocsCmd(app *App) *cobra.Command {
	var check bool
	cmd := &cobra.Command{
		Use:   "docs DIR",
		Short: "Write the reference documents into DIR",
		Long: long("Writes exit-codes.md, cli.md and config-stella.md into DIR, which is made if it is\n"+
			"missing. With --check nothing is written; a file that is missing or different\nends in exit code 20.", fault.ChecksFailed),
		Example: `  stella gen docs docs
  stella gen docs --check docs`,
		Args:              args(1, 1, "a directory"),
		ValidArgsFunction: completeDirs,
		RunE: func(cmd *cobra.Command, args []string) error {
			docs := []document{
				{"cli.md", cliDoc(cmd.Root())}, {"config-stella.md", configDoc()}, {"exit-codes.md", exitDoc()},
			}
			if check {
				return app.checkDocs(args[0], docs)
			}
			return app.writeDocs(args[0], docs)
		},
	}
	cmd.Flags().BoolVar(&check, "check", false, "only compare; exit code 20 when a file is out of step")
	return cmd
}

func completeDirs(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveFilterDirs
}

// genResult is what the commands under gen report.
type genResult struct {
	Dir   string   `json:"dir"`
	Files []string `json:"files"`
	Stale []string `json:"stale"` // only with --check
}

func (a *App) writeDocs(dir string, docs []document) error {
	// Mode 0755: these are manuals, for everybody to read.
	d, err := durable.Create(dir, 0o755)
	if errors.Is(err, fs.ErrNotExist) {
		return fault.Errorf(fault.Input, "%q cannot be made: its parent is missing", dir)
	} else if err != nil {
		return err
	}
	defer d.Close()
	result := genResult{Dir: dir, Files: []string{}, Stale: []string{}}
	for _, doc := range docs {
		if err := d.Write(doc.name, doc.data, 0o644); err != nil {
			return err
		}
		result.Files = append(result.Files, doc.name)
	}
	return a.Streams.Render(SchemaGen, result, func(p *ui.Page) {
		for _, name := range result.Files {
			p.Line("wrote %s", filepath.Join(dir, name))
		}
	})
}

func (a *App) checkDocs(dir string, docs []document) error {
	result := genResult{Dir: dir, Files: []string{}, Stale: []string{}}
	for _, doc := range docs {
		have, err := os.ReadFile(filepath.Join(dir, doc.name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		result.Files = append(result.Files, doc.name)
		if err != nil || len(have) > maxDocBytes || !bytes.Equal(have, doc.data) {
			result.Stale = append(result.Stale, doc.name)
		}
	}
	slices.Sort(result.Stale)
	err := a.Streams.Render(SchemaGen, result, func(p *ui.Page) {
		for _, name := range result.Files {
			if slices.Contains(result.Stale, name) {
				p.Line("stale %s", filepath.Join(dir, name))
			} else {
				p.Line("current %s", filepath.Join(dir, name))
			}
		}
	})
	if err != nil || len(result.Stale) == 0 {
		return err
	}
	return fault.Errorf(fault.ChecksFailed, "out of step in %s: %s", dir, strings.Join(result.Stale, ", ")).
		Hint("stella gen docs %s", dir)
}
