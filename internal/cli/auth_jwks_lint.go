package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/jwkscheck"
	"github.com/stella-ops/stella/internal/ui"
)

// SchemaAuthJWKSLint is the schema of what auth jwks lint prints as JSON.
const SchemaAuthJWKSLint = "stella.auth.jwks.lint/v1"

type authJWKSLintOptions struct {
	against  string
	strict   bool
	maxKeys  int
	maxCache time.Duration
}

func (o *authJWKSLintOptions) addFlags(f *pflag.FlagSet) {
	f.StringVar(&o.against, "against", "", "an earlier state of the set: a file that \"jwks show --output json\" wrote, a bare set, or a `URL`")
	f.BoolVar(&o.strict, "strict", false, "fail on warnings as well")
	f.IntVar(&o.maxKeys, "max-keys", jwkscheck.DefaultMaxKeys, "warn about a set with more keys")
	f.DurationVar(&o.maxCache, "max-cache", jwkscheck.DefaultMaxCache, "the longest max-age that is right")
}

func newAuthJWKSLintCmd(app *App) *cobra.Command {
	var opts authJWKSLintOptions
	cmd := &cobra.Command{
		Use:   "lint [URL|FILE|-]",
		Short: "Find what is wrong with a key set",
		Long: long(`Judge a key set from its raw bytes: names that collide or change their key,
private members that leaked, keys that are weak, damaged or ambiguous, and
headers that keep verifiers from seeing a change. Without an argument it is the
set of the configured Authority. Each finding has a stable id, says where it is,
and what to do.

With --against, the set is also compared with an earlier state of itself: a kid
must never name a second key, and an ETag must change with the content.`, fault.NotFound, fault.Offline, fault.Transient, fault.ChecksFailed, fault.Trust, fault.Config),
		Example: `  stella auth jwks lint
  stella auth jwks lint --strict --against jwks-before.json
  stella auth jwks lint - --output json < jwks.json`,
		Args: args(0, 1, "one URL, FILE or -"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runAuthJWKSLint(cmd.Context(), app, opts, args)
		},
	}
	opts.addFlags(cmd.Flags())
	return cmd
}

// lintResult is stella.auth.jwks.lint/v1.
type lintResult struct {
	URL      string              `json:"url"`
	Keys     int                 `json:"keys"`
	Errors   int                 `json:"errors"`
	Warnings int                 `json:"warnings"`
	Checks   []string            `json:"checks"` // ids of the checks that ran
	Findings []jwkscheck.Finding `json:"findings"`
}

func runAuthJWKSLint(ctx context.Context, app *App, opts authJWKSLintOptions, args []string) error {
	if opts.maxKeys < 1 || opts.maxCache <= 0 {
		return fault.Errorf(fault.Input, "--max-keys and --max-cache must be positive")
	}
	src, err := openJWKS(ctx, app, args)
	if err != nil {
		return err
	}
	defer src.close()
	limits := jwkscheck.LintOptions{MaxKeys: opts.maxKeys, MaxCache: opts.maxCache}
	if opts.against != "" {
		if opts.against == "-" && src.location == "-" {
			return fault.Errorf(fault.Input, "the set and its earlier state cannot both come from standard input")
		}
		if limits.Earlier, err = src.load(ctx, opts.against); err != nil {
			return err
		}
	}
	d, err := src.load(ctx, src.location)
	if err != nil {
		return err
	}
	g, err := src.getter(src.location)
	if err != nil {
		return err
	}
	jwkscheck.Probe(ctx, g, d)
	src.close()
	report := jwkscheck.Lint(d, limits)
	r := lintResult{
		URL: report.Source, Keys: report.Keys, Errors: report.Count(jwkscheck.Error), Warnings: report.Count(jwkscheck.Warning),
		Checks: report.Checks, Findings: report.Findings,
	}
	if err := app.Streams.Render(SchemaAuthJWKSLint, r, r.text); err != nil {
		return err
	}
	if r.Errors > 0 || opts.strict && r.Warnings > 0 {
		return fault.Errorf(fault.ChecksFailed, "%s: %s, %s", r.URL, count(int64(r.Errors), "error"), count(int64(r.Warnings), "warning"))
	}
	return nil
}

func (r lintResult) text(p *ui.Page) {
	for i, f := range r.Findings {
		if i > 0 {
			p.Line("")
		}
		p.Line("%s %s: %s", f.Severity, f.ID, f.What)
		p.Pairs(ui.Pair{Key: "  where", Value: ui.C(f.Where)}, ui.Pair{Key: "  remedy", Value: ui.C(f.Remedy)})
	}
	if len(r.Findings) > 0 {
		p.Line("")
	}
	p.Line("%s, %s: %s, %s", count(int64(r.Keys), "key"), count(int64(len(r.Checks)), "check"), count(int64(r.Errors), "error"), count(int64(r.Warnings), "warning"))
}
