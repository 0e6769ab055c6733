package authority

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"

	"github.com/stella-ops/stella/internal/buildinfo"
	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/obs"
	"github.com/stella-ops/stella/internal/signals"
)

const usage = `usage: stella-authority [--config FILE] [--check | --version]

The OIDC Authority: tokens, key set, key lifecycle.

  --config FILE   configuration, default ` + DefaultConfigPath + `
  --check         read configuration and secrets, say whether they are good, and end
  --version       say which version this is, and end

Environment variables named ` + EnvPrefix + `__KEY override keys of the file.
Exit status: 0 a clean end, 2 wrong usage, 78 bad configuration, 1 anything else.
`

// gcPercent lets the heap grow to five times what lives in it.
const gcPercent = 400

// Main is the command stella-authority: it runs until SIGINT or SIGTERM and
// returns the exit code.
func Main(args, environ []string, stdout, stderr io.Writer) int {
	err := run(args, environ, stdout, stderr)
	if err == nil {
		return 0
	}
	fmt.Fprintf(stderr, "stella-authority: %v\n", err)
	for _, hint := range fault.HintsOf(err) {
		fmt.Fprintf(stderr, "hint: %s\n", hint)
	}
	return fault.KindOf(err).ExitCode()
}

func run(args, environ []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("stella-authority", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	path := flags.String("config", DefaultConfigPath, "")
	checkOnly := flags.Bool("check", false, "")
	version := flags.Bool("version", false, "")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		_, err := io.WriteString(stdout, usage)
		return err
	} else if err != nil || flags.NArg() > 0 {
		if err == nil {
			err = fmt.Errorf("unexpected argument %q", flags.Arg(0))
		}
		return fault.As(fault.Input, fault.Errorf(fault.Input, "%w", err).Hint("stella-authority --help"))
	}
	if *version {
		_, err := fmt.Fprintf(stdout, "stella-authority %s\n", buildinfo.Read().Version)
		return err
	}
	load := func() (*Config, error) { return LoadConfig(*path, environ) }
	cfg, err := load()
	if err != nil {
		return err
	}
	level := new(slog.LevelVar)
	getenv := func(name string) string { return lookup(environ, name) }
	log := obs.NewLogger(stderr, obs.Format(getenv, terminal(stderr)), level).With("replica", cfg.Replica)
	s, err := New(cfg, Deps{Reload: load, Log: log, Level: level})
	if err != nil {
		return err
	}
	if *checkOnly {
		if err := errors.Join(checkCertificate(cfg), checkAudit(cfg)); err != nil {
			return err
		}
		_, err := fmt.Fprintf(stdout, "%s: good\n", *path)
		return err
	}
	if getenv("GOGC") == "" {
		// What lives is small and what is thrown away is much: with the
		// default the collector would run dozens of times a second.
		debug.SetGCPercent(gcPercent)
	}
	ctx, stop := signals.Context(context.Background())
	defer stop()
	return s.Run(ctx)
}

func lookup(environ []string, name string) string {
	for _, line := range environ {
		if v, ok := strings.CutPrefix(line, name+"="); ok {
			return v
		}
	}
	return ""
}

func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
