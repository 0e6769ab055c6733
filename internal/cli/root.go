package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/ui"
)

const rootLong = `stella turns the runbooks of a security platform into verbs that are safe to
type at 3 a.m., safe to put in a timer, and work with no network.

Results go to standard output, as text or with --output json as objects that
begin with their schema; everything else goes to standard error. Secrets are
never given as flag values: only as references file:PATH, fd:N, cred:NAME,
env:NAME or stdin.`

// NewRoot builds the command tree.
func NewRoot(app *App) *cobra.Command {
	app.bind = map[string]*pflag.Flag{}
	root := &cobra.Command{
		Use:   "stella",
		Short: "Operate a security platform: keys, tokens and what depends on them",
		Long:  long(rootLong, fault.Config),
		Example: `  stella config validate
  stella version --output json`,
		Args:                       cobra.ArbitraryArgs,
		Version:                    app.Build.Version,
		SuggestionsMinimumDistance: 2,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			return cmd.Help()
		},
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return app.begin(cmd) },
	}
	root.SetIn(app.Streams.In)
	root.SetOut(app.Streams.Out)
	root.SetErr(app.Streams.Err)
	root.SetVersionTemplate(app.versionLine() + "\n")
	root.CompletionOptions.DisableDefaultCmd = true
	f := root.PersistentFlags()
	f.StringVar(&app.flags.config, "config", "", "configuration `FILE` instead of $STELLA_CONFIG and the usual places")
	f.StringVar(&app.flags.output, "output", string(ui.Text), "print results as `FORMAT`: text or json")
	f.BoolVarP(&app.flags.quiet, "quiet", "q", false, "no progress and no notes: results and errors only")
	f.CountVarP(&app.flags.verbose, "verbose", "v", "tell more on standard error; twice for every detail")
	f.BoolVar(&app.flags.noColor, "no-color", false, "no colour, as NO_COLOR does")
	f.BoolVar(&app.flags.offline, "offline", false, "open no socket; what needs one ends with exit code 5")
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp))

	root.AddCommand(newAuthCmd(app), newMirrorCmd(app), newConfigCmd(app), newVersionCmd(app), newCompletionCmd(app), newGenCmd(app))
	root.SetHelpCommand(newHelpCmd())
	root.InitDefaultHelpCmd()
	app.complete(root)
	return root
}

// begin runs before every command, after its flags are parsed.
func (a *App) begin(cmd *cobra.Command) error {
	f := cmd.Flags()
	a.Bind("output", f.Lookup("output"))
	a.Bind("offline", f.Lookup("offline"))
	if out := f.Lookup("output"); out.Changed {
		a.Streams.Format = ui.Format(a.flags.output)
		if a.Streams.Format != ui.Text && a.Streams.Format != ui.JSON {
			found := a.flags.output
			a.Streams.Format = ui.Text
			return usageError(cmd, "flag --output: found %q; allowed values: text, json", found)
		}
	}
	return a.prepare()
}

func newHelpCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "help [COMMAND...]",
		Short:   "Show the help of a command",
		Long:    long("Shows the help of the named command, as COMMAND --help does."),
		Example: "  stella help config show",
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if at, rest, err := cmd.Root().Find(args); err == nil && len(rest) == 0 {
				return childNames(at), cobra.ShellCompDirectiveNoFileComp
			}
			return nil, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			at, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return fault.Errorf(fault.Input, "no help on %q", strings.Join(args, " ")).Hint("stella --help")
			}
			at.InitDefaultHelpFlag()
			return at.Help()
		},
	}
}

// long returns a Long help text that ends in the EXIT STATUS section: the
// codes that every command has, and those of the given kinds.
func long(text string, kinds ...fault.Kind) string {
	wanted := map[fault.Kind]bool{fault.None: true, fault.Unclassified: true, fault.Input: true, fault.Interrupted: true, fault.Terminated: true}
	for _, k := range kinds {
		wanted[k] = true
	}
	var b strings.Builder
	b.WriteString(strings.TrimSpace(text))
	b.WriteString("\n\nEXIT STATUS\n")
	for _, row := range fault.Table() {
		if wanted[row.Kind] {
			fmt.Fprintf(&b, "  %-4d %s\n", row.Code, row.Meaning)
		}
	}
	return strings.TrimRight(b.String(), "\n")
}
