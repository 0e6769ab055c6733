package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/mirror"
	"github.com/stella-ops/stella/internal/ui"
)

// SchemaMirrorVerify is the schema of what mirror verify prints as JSON.
const SchemaMirrorVerify = "stella.mirror.verify/v1"

const mirrorVerifyLong = `Reads every byte of the releases on this host and checks it again: members
against the signed statement, bundles against their signatures, the links latest
and previous, and the signed history. It writes nothing and opens no socket.
What a key has signed is judged as of the time when it was accepted.

With --remote the newest release is read from the source instead, as a sync
would, every member whatever is here already, and nothing is kept. That needs a
release with a statement; feeds of shape tree cannot be verified there.

Findings are listed and end in exit status 21.`

type mirrorVerifyOptions struct {
	feeds  []string
	export string
	remote bool
}

func newMirrorVerifyCmd(app *App) *cobra.Command {
	var o mirrorVerifyOptions
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Check every byte of what is mirrored, or of a source",
		Long:  long(mirrorVerifyLong, fault.Denied, fault.NotFound, fault.Offline, fault.Transient, fault.Trust, fault.Config),
		Example: `  stella mirror verify
  stella mirror verify --feed advisories --release 20261122T120000Z
  stella mirror verify --remote --output json`,
		Args:              noArgs(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return runMirrorVerify(cmd.Context(), app, o) },
	}
	feedsFlag(app, cmd, &o.feeds)
	f := cmd.Flags()
	f.StringVar(&o.export, "release", "", "check this release alone, by its export `ID`; of one feed")
	f.BoolVar(&o.remote, "remote", false, "check the newest release at the source instead")
	completeExports(app, cmd, "release")
	return cmd
}

// verifyItem is what was found of one feed.
type verifyItem struct {
	mirror.Report
	Remote bool `json:"remote"`
	Good   bool `json:"good"`
}

// verifySummary is the end of a run.
type verifySummary struct {
	Feeds    int   `json:"feeds"`
	Bytes    int64 `json:"bytes"`
	Findings int   `json:"findings"`
	Good     bool  `json:"good"`
}

func runMirrorVerify(ctx context.Context, app *App, o mirrorVerifyOptions) error {
	if o.remote && o.export != "" {
		return fault.Errorf(fault.Input, "--release is for what is on this host; --remote always checks the newest")
	}
	m, err := app.mirrors(o.feeds, trustNeeded)
	if err != nil {
		return err
	}
	defer m.close()
	if o.export != "" && len(m.feeds) > 1 {
		return fault.Errorf(fault.Input, "--release is about one feed; name it with --feed: %s", strings.Join(feedNames(m.config), ", ")).
			Hint("%s", app.typed("--feed="+m.feeds[0].Name))
	}
	if o.remote {
		if err := m.onlySigned(ctx, len(o.feeds) > 0); err != nil {
			return err
		}
	}
	events := app.Streams.Events(SchemaMirrorVerify)
	defer events.Close()
	p := newMirrorReport(app, events)
	if err := p.emit(ui.Started, map[string]bool{"remote": o.remote}, ""); err != nil {
		return err
	}
	engine := m.engine
	engine.Notify = func(e mirror.Event) {
		if e.Type == mirror.Progress {
			p.notify(e)
		}
	}
	s := verifySummary{Feeds: len(m.feeds)}
	errs := make([]error, len(m.feeds))
	for i, f := range m.feeds {
		report, err := verifyFeed(ctx, &engine, f, o)
		p.done(f.Name)
		if err != nil {
			errs[i] = m.explain(f, err)
			continue
		}
		item := verifyItem{*report, o.remote, len(report.Findings) == 0}
		s.Bytes, s.Findings = s.Bytes+report.Bytes, s.Findings+len(report.Findings)
		if err := p.emit(ui.Item, item, item.text()); err != nil {
			return err
		}
		if !item.Good {
			errs[i] = m.explainFindings(f, report)
		}
		if ctx.Err() != nil {
			break
		}
	}
	err = verdictOf(errs)
	s.Good = err == nil
	if shown := p.emit(ui.Summary, s, ""); err == nil {
		err = shown
	}
	return err
}

func verifyFeed(ctx context.Context, engine *mirror.Mirror, f mirror.Feed, o mirrorVerifyOptions) (*mirror.Report, error) {
	if o.remote {
		return engine.VerifyRemote(ctx, f)
	}
	return engine.VerifyDisk(ctx, f.Name, o.export)
}

// onlySigned leaves out feeds of shape tree, of which nothing is signed, and
// refuses them when they were named. It fails when a source cannot be reached
// offline, before anything is done.
func (m *mirrors) onlySigned(ctx context.Context, named bool) error {
	var signed []mirror.Feed
	for _, f := range m.feeds {
		switch {
		case f.Shape != mirror.Tree:
			signed = append(signed, f)
		case named:
			return fault.Errorf(fault.Input, "feed %s has shape tree: nothing at its source is signed", f.Name).
				Hint("check what is on this host: stella mirror verify --feed %s", f.Name)
		default:
			m.app.Streams.Note("note: feed %s is left out; it has shape tree, so nothing at its source is signed", f.Name)
		}
	}
	if m.feeds = signed; len(signed) == 0 {
		return fault.Errorf(fault.Input, "all feeds have shape tree: nothing at their sources is signed")
	}
	return m.offline(ctx, signed)
}

// explainFindings is the error of a report, with the hints of its reasons.
func (m *mirrors) explainFindings(f mirror.Feed, r *mirror.Report) error {
	e := fault.Errorf(fault.Trust, "feed %s: %w", f.Name, r.Err())
	if r.Place == m.engine.Folder(f.Name) {
		return e.Hint("fetch what is damaged anew: stella mirror sync --feed %s --repair", f.Name).
			Hint("an older release that is damaged, and not shown, goes with stella mirror prune")
	}
	first := r.Findings[0]
	for _, hint := range m.hints(f, first.Reason, first.Member, "") {
		e = e.Hint("%s", hint)
	}
	return e
}

// text is the line of one feed, and one for each finding.
func (i verifyItem) text() string {
	var ids []string
	for _, r := range i.Releases {
		ids = append(ids, r.ExportID)
	}
	slices.Sort(ids)
	what := fmt.Sprintf("%s, %s read", count(int64(len(ids)), "release"), size(i.Bytes))
	if len(ids) == 1 {
		what = fmt.Sprintf("release %s, %s read", ids[0], size(i.Bytes))
	}
	if i.Good {
		return fmt.Sprintf("%s: good: %s", i.Feed, what)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s: %s", i.Feed, count(int64(len(i.Findings)), "finding"), what)
	for _, f := range i.Findings {
		fmt.Fprintf(&b, "\n  %s: %s", f.Reason, oneLine(f.Message))
	}
	return b.String()
}
