package cli

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/mirror/store"
	"github.com/stella-ops/stella/internal/ui"
)

// SchemaMirrorPrune is the schema of what mirror prune prints as JSON.
const SchemaMirrorPrune = "stella.mirror.prune/v1"

const mirrorPruneLong = `Removes releases beyond the newest --keep ones that were placed longer ago than
--grace, and members that no release has any more. What latest and previous lead
to always stays, and so does the history.

The grace time must be longer than what is served may be cached, or a reader
loses members of the release that it is reading.`

type mirrorPruneOptions struct {
	feeds  []string
	keep   int
	grace  time.Duration
	dryRun bool
}

func newMirrorPruneCmd(app *App) *cobra.Command {
	var o mirrorPruneOptions
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Remove old releases and what only they had",
		Long:  long(mirrorPruneLong, fault.NotFound, fault.Trust, fault.Locked, fault.Config),
		Example: `  stella mirror prune
  stella mirror prune --feed advisories --keep 3 --grace 24h --dry-run`,
		Args:              noArgs(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := app.Config()
			if err != nil {
				return err
			}
			if !cmd.Flags().Changed("keep") {
				o.keep = c.Mirror.Keep
			}
			if !cmd.Flags().Changed("grace") {
				o.grace = c.Mirror.PruneGrace.Std()
			}
			return runMirrorPrune(cmd.Context(), app, o)
		},
	}
	feedsFlag(app, cmd, &o.feeds)
	f := cmd.Flags()
	f.IntVar(&o.keep, "keep", 0, "keep the newest `N` releases instead of mirror.keep")
	f.DurationVar(&o.grace, "grace", 0, "spare what was placed within `DURATION` instead of mirror.prune_grace")
	f.BoolVar(&o.dryRun, "dry-run", false, "tell what would be removed; remove nothing")
	return cmd
}

// pruneItem is what was removed of one feed.
type pruneItem struct {
	Feed string `json:"feed"`
	store.PruneResult
}

// pruneResult is stella.mirror.prune/v1.
type pruneResult struct {
	DryRun bool        `json:"dry_run,omitempty"`
	Keep   int         `json:"keep"`
	Grace  float64     `json:"grace_s"`
	Feeds  []pruneItem `json:"feeds"` // without those that were never synced
}

func runMirrorPrune(ctx context.Context, app *App, o mirrorPruneOptions) error {
	if o.keep < 1 || o.grace < 0 {
		return fault.Errorf(fault.Input, "--keep is 1 or more, --grace is not negative; found %d and %s", o.keep, o.grace)
	}
	m, err := app.mirrors(o.feeds, trustNone)
	if err != nil {
		return err
	}
	defer m.close()
	r := pruneResult{DryRun: o.dryRun, Keep: o.keep, Grace: o.grace.Seconds(), Feeds: []pruneItem{}}
	var errs []error
	for _, f := range m.feeds {
		done, err := m.engine.Prune(ctx, f.Name, o.keep, o.grace, o.dryRun)
		if fault.KindOf(err) == fault.NotFound && len(o.feeds) == 0 && len(m.feeds) > 1 {
			continue // never synced: nothing to remove
		}
		if errs = append(errs, m.explain(f, err)); err == nil {
			r.Feeds = append(r.Feeds, pruneItem{f.Name, *done})
		}
	}
	err = app.Streams.Render(SchemaMirrorPrune, r, func(p *ui.Page) {
		for _, i := range r.Feeds {
			p.Line("%s", i.text(o.dryRun))
		}
	})
	if failed := verdictOf(errs); failed != nil {
		return failed
	}
	return err
}

func (i pruneItem) text(dry bool) string {
	if len(i.Releases) == 0 && i.Objects == 0 {
		return i.Feed + ": nothing to remove; " + count(int64(len(i.Kept)), "release") + " kept"
	}
	verb := "removed "
	if dry {
		verb = "would remove "
	}
	what := count(int64(len(i.Releases)), "release")
	if len(i.Releases) > 0 {
		what += " (" + strings.Join(i.Releases, " ") + ")"
	}
	return i.Feed + ": " + verb + what + " and " + count(int64(i.Objects), "member") + ", " + size(i.Bytes) + "; " +
		count(int64(len(i.Kept)), "release") + " kept"
}
