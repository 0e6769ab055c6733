package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/mirror"
	"github.com/stella-ops/stella/internal/release"
	"github.com/stella-ops/stella/internal/ui"
)

// SchemaMirrorUnpack is the schema of what mirror unpack prints as JSON.
const SchemaMirrorUnpack = "stella.mirror.unpack/v1"

const mirrorUnpackLong = `Brings a feed up to date from the folders of a pack. It judges the release as a
sync does, by the trust policy of this host, and opens no socket: what is older
than what was accepted is refused (21), as is every byte that was not signed.

When segments are missing, what is here is verified, taken and kept, and the
command ends with 23 and names the segments that are needed; the media that were
attached are not needed again. A segment that is a bad copy is told apart from a
release that is not to be believed: copy it again.`

type mirrorUnpackOptions struct {
	feed   string
	dryRun bool
}

func newMirrorUnpackCmd(app *App) *cobra.Command {
	var o mirrorUnpackOptions
	cmd := &cobra.Command{
		Use:   "unpack DIR...",
		Short: "Take in a release that was carried here",
		Long: long(mirrorUnpackLong, fault.NotFound, fault.Transient, fault.Trust, fault.Order, fault.Partial, fault.Locked,
			fault.Config),
		Example: `  stella mirror unpack /media/usb/advisories
  stella mirror unpack --feed advisories /media/usb1 /media/usb2 --dry-run`,
		Args:              args(1, 1000, "one or more folders of one pack"),
		ValidArgsFunction: completeDirs,
		RunE:              func(cmd *cobra.Command, args []string) error { return runMirrorUnpack(cmd.Context(), app, args, o) },
	}
	feedFlag(app, cmd, &o.feed)
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "tell what would be taken in; write nothing")
	return cmd
}

// unpackSummary is the end of a run.
type unpackSummary struct {
	*mirror.UnpackResult
	Refusal *release.Refusal `json:"refused,omitempty"`
}

func runMirrorUnpack(ctx context.Context, app *App, dirs []string, o mirrorUnpackOptions) error {
	names, err := app.one(o.feed)
	if err != nil {
		return err
	}
	m, err := app.mirrors(names, trustNeeded)
	if err != nil {
		return err
	}
	defer m.close()
	f := m.feeds[0]
	if f.Shape == mirror.Tree {
		return fault.Errorf(fault.Input, "feed %s has shape tree; only signed releases are packed", f.Name)
	}
	events := app.Streams.Events(SchemaMirrorUnpack)
	defer events.Close()
	p := newMirrorReport(app, events)
	if err := p.emit(ui.Started, map[string]any{"feed": f.Name, "dirs": dirs, "dry_run": o.dryRun}, ""); err != nil {
		return err
	}
	m.engine.Notify = p.notify
	began := app.Now()
	done, err := m.engine.Unpack(ctx, f.Name, dirs, o.dryRun)
	p.done(f.Name)
	err = m.explain(f, err)
	s := unpackSummary{done, refusalIn(err)}
	if err != nil && done.Outcome != mirror.Staged {
		done.Outcome = outcomeFailed
		if s.Refusal != nil {
			done.Outcome = outcomeRefused
		}
	}
	if !o.dryRun {
		if _, unwritten := m.writeMetrics([]error{err}, began); unwritten != nil {
			app.Streams.Warn("%v", unwritten)
		}
	}
	if shown := p.emit(ui.Summary, s, unpackText(done, err)); err == nil {
		err = shown
	}
	return err
}

func unpackText(r *mirror.UnpackResult, err error) string {
	if err != nil {
		return "" // the error says it all
	}
	item := syncItem{Result: r.Result}
	text := item.text()
	if r.Here < r.Segments {
		text += fmt.Sprintf("\n  %d of %d segments were enough", r.Here, r.Segments)
	}
	return text
}
