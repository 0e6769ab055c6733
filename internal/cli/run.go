package cli

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/ui"
)

// Run executes one command line and returns the exit code of the process. What
// went wrong has then been told on standard error.
func Run(ctx context.Context, line []string, app *App) int {
	app.loaded, app.started, app.line = nil, false, line
	app.Streams.Format = app.earlyFormat(line)
	root := NewRoot(app)
	root.SetArgs(line)
	root.SetFlagErrorFunc(app.flagError(line))
	cmd, err := root.ExecuteContextC(ctx)
	err = app.classify(ctx, cmd, err)
	app.Streams.Error(err)
	return fault.KindOf(err).ExitCode()
}

// typed is the command line of this run with one more flag, for hints: what a
// shell takes for the same words.
func (a *App) typed(flag string) string {
	words, at := []string{"stella"}, len(a.line)
	if i := slices.Index(a.line, "--"); i >= 0 {
		at = i
	}
	for _, word := range slices.Insert(slices.Clone(a.line), at, flag) {
		if word == "" || strings.ContainsFunc(word, unsafeInShell) {
			word = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}

func unsafeInShell(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-_./:=,@%+", r)
}

// earlyFormat finds the format before the command line is parsed, so that even
// a usage error is told in it.
func (a *App) earlyFormat(args []string) ui.Format {
	format := ui.Format(a.getenv("STELLA_OUTPUT"))
	for i, arg := range args {
		if arg == "--" {
			break
		}
		if value, ok := strings.CutPrefix(arg, "--output="); ok {
			format = ui.Format(value)
		} else if arg == "--output" && i+1 < len(args) {
			format = ui.Format(args[i+1])
		}
	}
	if format == ui.JSON {
		return ui.JSON
	}
	return ui.Text
}

// classify gives an error its final kind: what cobra says before a command
// begins is a usage error, and what fails because a signal came is that signal.
func (a *App) classify(ctx context.Context, cmd *cobra.Command, err error) error {
	if err == nil {
		return nil
	}
	kind := fault.KindOf(err)
	if !a.started && kind == fault.Unclassified {
		return usageError(cmd, "%s", strings.TrimSpace(err.Error()))
	}
	if ctx.Err() != nil && (kind == fault.Interrupted || errors.Is(err, context.Canceled)) {
		if cause := context.Cause(ctx); cause != nil && fault.KindOf(cause) != kind {
			e := fault.Errorf(fault.KindOf(cause), "%w: %w", cause, err)
			return e
		}
	}
	return err
}

// usageError is of kind Input and names the help of the command.
func usageError(cmd *cobra.Command, format string, args ...any) *fault.Error {
	return fault.Errorf(fault.Input, format, args...).Hint("%s --help", cmd.CommandPath())
}

// group makes a command that only holds others. Called by itself it is a
// usage error, so that a script that lost a word does not look successful.
func group(use, short, long, example string, children ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, Long: long, Example: example,
		SuggestionsMinimumDistance: 2,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			return usageError(cmd, "%s needs a command: %s", cmd.CommandPath(), strings.Join(childNames(cmd), ", "))
		},
	}
	cmd.AddCommand(children...)
	return cmd
}

func unknownCommand(cmd *cobra.Command, word string) error {
	e := fault.Errorf(fault.Input, "unknown command %q for %q", word, cmd.CommandPath())
	for _, name := range cmd.SuggestionsFor(word) {
		e = e.Hint("did you mean: %s %s", cmd.CommandPath(), name)
	}
	return e.Hint("%s --help", cmd.CommandPath())
}

// args makes a positional validator: from least to most arguments, named in
// the message by what.
func args(least, most int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, given []string) error {
		switch {
		case most == 0 && len(given) > 0:
			return usageError(cmd, "%s takes no arguments, found %q", cmd.CommandPath(), given[0])
		case len(given) < least:
			return usageError(cmd, "%s needs %s", cmd.CommandPath(), what)
		case len(given) > most:
			return usageError(cmd, "%s takes only %s, found also %q", cmd.CommandPath(), what, given[most])
		}
		return nil
	}
}

func noArgs() cobra.PositionalArgs { return args(0, 0, "") }

func childNames(cmd *cobra.Command) []string {
	var names []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() && c.Name() != "help" {
			names = append(names, c.Name())
		}
	}
	return names
}

// flagError tells a bad flag. Cobra parses the flags of a group before it
// finds that the word behind the group is no command; that is told first.
func (a *App) flagError(args []string) func(*cobra.Command, error) error {
	return func(cmd *cobra.Command, err error) error {
		if cmd.HasSubCommands() {
			path := strings.Fields(cmd.CommandPath())[1:]
			for i, arg := range args {
				if !strings.HasPrefix(arg, "-") && i >= len(path) && !slices.Contains(path, arg) {
					return unknownCommand(cmd, arg)
				}
				if strings.HasPrefix(arg, "-") && i >= len(path) {
					break
				}
			}
		}
		return usageError(cmd, "%s", err.Error())
	}
}

// complete prepares every command of the tree: usage errors end when its
// function begins, and nothing is printed behind the back of Streams.
func (a *App) complete(cmd *cobra.Command) {
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	if run := cmd.RunE; run != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			a.started = true
			return run(cmd, args)
		}
	}
	for _, c := range cmd.Commands() {
		a.complete(c)
	}
}
