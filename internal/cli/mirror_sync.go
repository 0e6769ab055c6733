package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/mirror"
	"github.com/stella-ops/stella/internal/mirror/store"
	"github.com/stella-ops/stella/internal/release"
	"github.com/stella-ops/stella/internal/ui"
)

// SchemaMirrorSync is the schema of what mirror sync prints as JSON.
const SchemaMirrorSync = "stella.mirror.sync/v1"

const mirrorSyncLong = `Brings every feed up to date: looks whether there is a new release, fetches what
is missing of it, verifies every byte, and shows it by one switch of the link
'latest'. Nothing new costs a handful of requests. This is what a timer runs.

A release that does not verify is refused with its reason (21), and recorded
once; what was served before stays. A source that is being rewritten while it is
read is read again, and if that does not end the command ends with 10; a
mismatch counts as an attack only when it stays the same for mirror.settle.

The feeds are synced side by side, so that one that is slow or down holds up no
other. If several fail, a refusal decides the exit status, else the first. A
feed that an operator rolled back is held until something newer than the newest
accepted release comes. What was damaged on this disk (stella mirror verify tells)
is fetched anew with --repair. After each run the metrics file is written, if
mirror.metrics_file names one; if that fails, the command ends with 23.`

type mirrorSyncOptions struct {
	feeds    []string
	dryRun   bool
	detailed bool
	repair   bool
}

func newMirrorSyncCmd(app *App) *cobra.Command {
	var o mirrorSyncOptions
	cmd := &cobra.Command{
		Use:   "sync",
		Short: "Bring feeds up to date; this is what a timer runs",
		Long: long(mirrorSyncLong, fault.Denied, fault.NotFound, fault.Offline, fault.Transient, fault.Trust, fault.Partial, fault.Locked,
			fault.NothingToDo, fault.Config),
		Example: `  stella mirror sync
  stella mirror sync --feed advisories --dry-run
  stella mirror sync --detailed-exit --output json
  stella mirror sync --feed advisories --repair`,
		Args:              noArgs(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return runMirrorSync(cmd.Context(), app, o) },
	}
	feedsFlag(app, cmd, &o.feeds)
	f := cmd.Flags()
	f.BoolVar(&o.dryRun, "dry-run", false, "tell what would be fetched; fetch no member and write nothing")
	f.BoolVar(&o.repair, "repair", false, "read every member that is here already, and fetch anew what is damaged")
	f.BoolVar(&o.detailed, "detailed-exit", false, "end with exit code 25 when no feed had anything to do")
	return cmd
}

// syncItem is what came of one feed.
type syncItem struct {
	mirror.Result
	Newest  string           `json:"newest,omitempty"` // held: what may not be gone below
	Refusal *release.Refusal `json:"refused,omitempty"`
	Error   *ui.ErrorDetail  `json:"error,omitempty"`
}

// What a feed comes to beside the outcomes of the engine.
const (
	outcomeRefused mirror.Outcome = "refused"
	outcomeFailed  mirror.Outcome = "failed"
)

// syncSummary is the end of a run.
type syncSummary struct {
	DryRun  bool                   `json:"dry_run,omitempty"`
	Feeds   int                    `json:"feeds"`
	Counts  map[mirror.Outcome]int `json:"outcomes"`
	Bytes   int64                  `json:"fetched_bytes"`
	Seconds float64                `json:"took_s"`
	Metrics string                 `json:"metrics_file,omitempty"` // that was written
}

func runMirrorSync(ctx context.Context, app *App, o mirrorSyncOptions) error {
	if o.repair && o.dryRun {
		return fault.Errorf(fault.Input, "--repair and --dry-run exclude each other").Hint("to look without repairing: stella mirror verify")
	}
	m, err := app.mirrors(o.feeds, trustNeeded)
	if err != nil {
		return err
	}
	defer m.close()
	events := app.Streams.Events(SchemaMirrorSync)
	defer events.Close()
	p := newMirrorReport(app, events)
	s := syncSummary{DryRun: o.dryRun, Feeds: len(m.feeds), Counts: map[mirror.Outcome]int{}}
	started := struct {
		Feeds  []string `json:"feeds"`
		DryRun bool     `json:"dry_run,omitempty"`
	}{DryRun: o.dryRun}
	for _, f := range m.feeds {
		started.Feeds = append(started.Feeds, f.Name)
	}
	if err := p.emit(ui.Started, started, ""); err != nil {
		return err
	}
	began := app.Now()
	ends := make(chan *syncItem, len(m.feeds))
	errs := m.each(ctx, func(ctx context.Context, engine *mirror.Mirror, f mirror.Feed) error {
		item, err := m.sync(ctx, engine, f, o)
		p.done(f.Name)
		ends <- item
		if shown := p.emit(ui.Item, item, item.text()); err == nil {
			err = shown
		}
		return err
	}, p.notify)
	close(ends)
	for item := range ends {
		s.Counts[item.Outcome]++
		s.Bytes += item.Received
	}
	s.Seconds = app.Now().Sub(began).Seconds()
	err = verdictOf(errs)
	if !o.dryRun {
		var unwritten error
		if s.Metrics, unwritten = m.writeMetrics(errs, began); unwritten != nil && err == nil {
			err = unwritten
		} else if unwritten != nil {
			app.Streams.Warn("%v", unwritten)
		}
	}
	if shown := p.emit(ui.Summary, s, ""); err == nil {
		err = shown
	}
	if err == nil && o.detailed && s.Counts[mirror.Unchanged]+s.Counts[mirror.Held] == s.Feeds {
		err = fault.Errorf(fault.NothingToDo, "no feed had anything to do")
	}
	return err
}

// sync brings one feed up to date.
func (m *mirrors) sync(ctx context.Context, engine *mirror.Mirror, f mirror.Feed, o mirrorSyncOptions) (*syncItem, error) {
	item := &syncItem{}
	err := m.places.reachable(ctx, f.Source)
	if err == nil {
		var r *mirror.Result
		if o.repair {
			r, err = engine.Repair(ctx, f)
		} else {
			r, err = engine.Sync(ctx, f, o.dryRun)
		}
		if r != nil {
			item.Result = *r
		}
	}
	item.Feed, item.Source, item.DryRun = f.Name, f.Source.String(), o.dryRun
	if err == nil && item.Outcome == mirror.Held {
		if st, err := engine.Status(f.Name); err == nil {
			item.Newest = st.Newest.ExportID
		}
	}
	err = m.explain(f, err)
	if err == nil {
		return item, nil
	}
	kind := fault.KindOf(err)
	item.Outcome = outcomeFailed
	if item.Refusal = refusalIn(err); item.Refusal != nil {
		item.Outcome = outcomeRefused
	}
	item.Error = &ui.ErrorDetail{Code: kind.String(), ExitCode: kind.ExitCode(), Message: err.Error(), Hints: fault.HintsOf(err)}
	item.Before = m.served(f)
	return item, err
}

// served is what latest leads to, whatever else is broken.
func (m *mirrors) served(f mirror.Feed) string {
	s, err := store.Open(m.engine.Folder(f.Name))
	if err != nil {
		return ""
	}
	defer s.Close()
	id, _ := s.Latest()
	return id
}

// text is the line of one feed.
func (i *syncItem) text() string {
	still := "; nothing is served yet"
	if i.Before != "" {
		still = "; " + i.Before + " is served as before"
	}
	switch i.Outcome {
	case mirror.Unchanged:
		return fmt.Sprintf("%s: unchanged, %s", i.Feed, described(&i.Facts))
	case mirror.Held:
		line := fmt.Sprintf("%s: held at %s; newest accepted is %s", i.Feed, i.ExportID, i.Newest)
		return line + fmt.Sprintf("\n  it stays until a newer release comes, or: stella mirror rollback --feed %s --to %s --reason TEXT", i.Feed, i.Newest)
	case mirror.Repaired:
		return fmt.Sprintf("%s: repaired %s; fetched %s anew", i.Feed, described(&i.Facts), count(int64(i.Fetched), "member"))
	case mirror.Finished:
		return fmt.Sprintf("%s: shows %s, which an earlier run had accepted", i.Feed, described(&i.Facts))
	case mirror.Updated:
		if i.DryRun {
			return fmt.Sprintf("%s: would update to %s%s, fetching %s, %s", i.Feed, described(&i.Facts), after(i.Before), count(int64(i.Fetched), "member"), size(i.Received))
		}
		return fmt.Sprintf("%s: updated to %s%s; fetched %s, %s in %s", i.Feed, described(&i.Facts), after(i.Before),
			count(int64(i.Fetched), "member"), size(i.Received), span(time.Duration(i.Seconds*float64(time.Second))))
	case outcomeRefused:
		return fmt.Sprintf("%s: refused (%s)%s", i.Feed, i.Refusal.Reason, still)
	}
	return fmt.Sprintf("%s: failed (%s)%s", i.Feed, i.Error.Code, still)
}

// described names a release with what a person wants to know of it.
func described(f *store.Facts) string {
	text := f.ExportID
	if f.Sequence > 0 {
		text += fmt.Sprintf(" (sequence %d)", f.Sequence)
	}
	if f.Members > 0 {
		text += fmt.Sprintf(", %s, %s", count(int64(f.Members), "member"), size(f.Bytes))
	}
	if f.Layout != "" && f.Layout != store.Signed {
		text += ", " + string(f.Layout)
	}
	return text
}

// after names the release before.
func after(export string) string {
	if export == "" {
		return ", the first release"
	}
	return ", after " + export
}

func orNothing(export string) string {
	if export == "" {
		return "nothing"
	}
	return export
}
