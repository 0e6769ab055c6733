package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/stella-ops/stella/internal/ui"
)

// SchemaVersion is the schema of the JSON that version prints.
const SchemaVersion = "stella.version/v1"

func newVersionCmd(app *App) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Tell which build this is",
		Long:  long("Tells version, commit, Go release and platform of this program. It reads no\nconfiguration, so it answers also when that is broken."),
		Example: `  stella version
  stella version --output json`,
		Args:              noArgs(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(*cobra.Command, []string) error {
			return app.Streams.Render(SchemaVersion, app.Build, func(p *ui.Page) { p.Line("%s", app.versionLine()) })
		},
	}
}

func (a *App) versionLine() string {
	b := a.Build
	line := "stella " + b.Version
	if b.Commit != "" {
		line += fmt.Sprintf(" (%.12s", b.Commit)
		if b.Modified {
			line += ", modified"
		}
		line += ")"
	}
	return line + " " + b.Go + " " + b.Platform
}
