package cli

import (
	"github.com/spf13/cobra"

	"github.com/stella-ops/stella/internal/cli/config"
	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/release"
	"github.com/stella-ops/stella/internal/ui"
)

// The schemas of the JSON that the commands under config print.
const (
	SchemaConfigShow     = "stella.config.show/v1"
	SchemaConfigValidate = "stella.config.validate/v1"
)

const configLong = `Values come from flags, then STELLA_ variables, then one YAML file, then the
defaults. The file is --config, else $STELLA_CONFIG, else
$XDG_CONFIG_HOME/stella/stella.yaml (or ~/.config), else /etc/stella/stella.yaml.
A key or a STELLA_ variable that nothing reads is an error.`

func newConfigCmd(app *App) *cobra.Command {
	return group("config", "Show and check the configuration", long(configLong, fault.Config),
		"  stella config validate", newConfigShowCmd(app), newConfigValidateCmd(app))
}

func newConfigShowCmd(app *App) *cobra.Command {
	var origin bool
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Print every value as the commands see it",
		Long: long("Prints every key with the value that counts. Secrets are references and shown\nas such; nothing is opened. "+
			"JSON output always tells where each value comes from.", fault.Config),
		Example: `  stella config show
  stella config show --origin`,
		Args:              noArgs(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(*cobra.Command, []string) error {
			c, err := app.Config()
			if err != nil {
				return err
			}
			return app.showConfig(c, origin)
		},
	}
	cmd.Flags().BoolVar(&origin, "origin", false, "tell where each value comes from")
	return cmd
}

func (a *App) showConfig(c *config.Config, origin bool) error {
	file, err := config.File(a.source())
	if err != nil {
		return err
	}
	result := struct {
		File   string         `json:"file"` // "" when there is none
		Values []config.Value `json:"values"`
	}{file, c.Values()}
	return a.Streams.Render(SchemaConfigShow, result, func(p *ui.Page) {
		header := []string{"key", "value"}
		if origin {
			header = append(header, "origin")
		}
		rows := make([][]ui.Cell, len(result.Values))
		for i, v := range result.Values {
			rows[i] = []ui.Cell{ui.C(v.Key), ui.C(v.Value), ui.T(ui.Faint, "%s", v.Origin)}
		}
		p.Table(header, rows)
	})
}

func newConfigValidateCmd(app *App) *cobra.Command {
	return &cobra.Command{
		Use:   "validate [FILE]",
		Short: "Check the configuration without using it",
		Long: long("Checks FILE, or the file that commands would read, together with the environment.\n"+
			"Nothing is opened or contacted: references to secrets are checked for their form.\n"+
			"What is right but will not do as it stands, such as a file that is missing, is a\nwarning and no failure.", fault.Config),
		Example: `  stella config validate
  stella config validate ./stella.yaml`,
		Args: args(0, 1, "a file"),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return []string{"yaml", "yml"}, cobra.ShellCompDirectiveFilterFileExt
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				if cmd.Flags().Changed("config") {
					return usageError(cmd, "FILE and --config exclude each other")
				}
				app.flags.config = args[0]
			}
			c, err := app.Config()
			if err != nil {
				return err
			}
			file, err := config.File(app.source())
			if err != nil {
				return err
			}
			if c.Mirror.TrustPolicy != "" {
				if _, err := release.LoadPolicy(c.Mirror.TrustPolicy); err != nil {
					return err
				}
			}
			findings := c.Findings()
			for _, w := range findings {
				app.Streams.Warn("%s", w)
			}
			result := struct {
				File     string   `json:"file"` // "" when there is none
				Valid    bool     `json:"valid"`
				Warnings []string `json:"warnings"`
			}{file, true, append(append([]string{}, c.Warnings()...), findings...)}
			return app.Streams.Render(SchemaConfigValidate, result, func(p *ui.Page) {
				if file == "" {
					p.Line("valid: no configuration file; environment and defaults")
					return
				}
				p.Line("valid: %s", file)
			})
		},
	}
}
