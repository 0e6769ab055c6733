package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/mirror"
	"github.com/stella-ops/stella/internal/ui"
)

// SchemaMirrorRollback is the schema of what mirror rollback prints as JSON.
const SchemaMirrorRollback = "stella.mirror.rollback/v1"

const mirrorRollbackLong = `Shows an older release that is still on this host: the one before, or with --to
any other, which needs a reason. The switch is that of a sync, and recorded with
your name.

The feed is then held: syncs go on looking, but show only what is newer than the
newest release that was accepted. To end that by hand, show the newest one again
with --to. Nothing is fetched, and no socket is opened.`

type mirrorRollbackOptions struct {
	feed, to, reason string
	dryRun           bool
}

func newMirrorRollbackCmd(app *App) *cobra.Command {
	var o mirrorRollbackOptions
	cmd := &cobra.Command{
		Use:   "rollback",
		Short: "Show an older release that is still here",
		Long:  long(mirrorRollbackLong, fault.NotFound, fault.Trust, fault.Order, fault.Locked, fault.Config),
		Example: `  stella mirror rollback
  stella mirror rollback --feed advisories --to 20261121T120000Z --reason 'scanner cannot read the new one'
  stella mirror rollback --feed advisories --dry-run`,
		Args:              noArgs(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return runMirrorRollback(cmd.Context(), app, o) },
	}
	feedFlag(app, cmd, &o.feed)
	f := cmd.Flags()
	f.StringVar(&o.to, "to", "", "export `ID` to show instead of the one before; needs --reason")
	f.StringVar(&o.reason, "reason", "", "why, for the record")
	f.BoolVar(&o.dryRun, "dry-run", false, "tell what would be shown; change nothing")
	completeExports(app, cmd, "to")
	return cmd
}

// rollbackResult is stella.mirror.rollback/v1.
type rollbackResult struct {
	mirror.Result
	Newest string   `json:"newest,omitempty"` // that was accepted
	Held   bool     `json:"held"`
	Reason string   `json:"reason,omitempty"`
	Next   []string `json:"next"`
}

func runMirrorRollback(ctx context.Context, app *App, o mirrorRollbackOptions) error {
	if len(o.reason) > 1000 {
		return fault.Errorf(fault.Input, "--reason has %d bytes; at most 1000 are recorded", len(o.reason))
	}
	names, err := app.one(o.feed)
	if err != nil {
		return err
	}
	m, err := app.mirrors(names, trustIfAny)
	if err != nil {
		return err
	}
	defer m.close()
	f := m.feeds[0]
	done, err := m.engine.Rollback(ctx, f.Name, o.to, o.reason, o.dryRun)
	if err != nil {
		return m.explain(f, err)
	}
	r := rollbackResult{Result: *done, Reason: o.reason, Next: []string{}}
	r.Source = f.Source.String()
	st, err := m.engine.Status(f.Name)
	if err != nil {
		return m.explain(f, err)
	}
	r.Newest = st.Newest.ExportID
	if r.Held = r.ExportID != r.Newest; r.Held && !o.dryRun {
		_, _, r.Next = m.judge(f, st)
	}
	return app.Streams.Render(SchemaMirrorRollback, r, func(p *ui.Page) {
		if o.dryRun {
			p.Line("%s: nothing was changed; %s would be shown instead of %s", r.Feed, described(&r.Facts), orNothing(r.Before))
			return
		}
		p.Line("%s: shows %s; %s was shown before", r.Feed, described(&r.Facts), orNothing(r.Before))
		if r.Held {
			p.Line("It is held until something newer than %s comes.", r.Newest)
		}
		for _, line := range r.Next {
			p.Line("next: %s", line)
		}
	})
}
