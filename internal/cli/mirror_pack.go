package cli

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/mirror"
	"github.com/stella-ops/stella/internal/mirror/pack"
	"github.com/stella-ops/stella/internal/ui"
)

// SchemaMirrorPack is the schema of what mirror pack prints as JSON.
const SchemaMirrorPack = "stella.mirror.pack/v1"

const mirrorPackLong = `Writes the release that is shown, or --release, to a folder as segments of a tar
stream, with pack.json that names their digests: to be carried where no network
leads. Every member is read and checked on the way. What was cut off is
continued by the next run; segments that are there and right are kept.

Segments are numbered; each medium takes some of them, with pack.json,
release.json and release.json.jws. 'stella mirror unpack' on the other side takes
them in any order. It verifies all by the trust policy there: the pack itself
needs no signature. Syncs do not wait for a pack, and a prune spares its release.`

type mirrorPackOptions struct {
	feed, export, to, segment string
	dryRun                    bool
}

func newMirrorPackCmd(app *App) *cobra.Command {
	var o mirrorPackOptions
	cmd := &cobra.Command{
		Use:   "pack",
		Short: "Write a release to a folder, to be carried over an air gap",
		Long:  long(mirrorPackLong, fault.NotFound, fault.Transient, fault.Trust, fault.Order, fault.Locked, fault.Config),
		Example: `  stella mirror pack --to /media/usb/advisories
  stella mirror pack --feed advisories --release 20261122T120000Z --to ./pack --segment-size 700MiB`,
		Args:              noArgs(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return runMirrorPack(cmd.Context(), app, o) },
	}
	feedFlag(app, cmd, &o.feed)
	f := cmd.Flags()
	f.StringVar(&o.export, "release", "", "export `ID` to pack instead of the one that is shown")
	f.StringVar(&o.to, "to", "", "`DIR` for the pack, one for each; made if it is missing (required)")
	f.StringVar(&o.segment, "segment-size", "4GiB", "largest `SIZE` of a segment: bytes, or with KiB, MiB, GiB, TiB; 4GiB means one byte less, the most that FAT32 takes")
	f.BoolVar(&o.dryRun, "dry-run", false, "tell which segments it would have; write nothing")
	completeExports(app, cmd, "release")
	_ = cmd.MarkFlagDirname("to")
	return cmd
}

// parseSize reads a number of bytes with an optional binary unit.
func parseSize(text string) (int64, error) {
	parts := regexp.MustCompile(`^([0-9]{1,15})(B|KiB|MiB|GiB|TiB)?$`).FindStringSubmatch(text)
	if parts == nil {
		return 0, fmt.Errorf("found %.40q; write bytes, or a number with KiB, MiB, GiB or TiB", text)
	}
	n, err := strconv.ParseInt(parts[1], 10, 64)
	if err != nil {
		return 0, err
	}
	shift := map[string]uint{"": 0, "B": 0, "KiB": 10, "MiB": 20, "GiB": 30, "TiB": 40}[parts[2]]
	if n > (1<<62)>>shift {
		return 0, fmt.Errorf("found %.40q, which is too much", text)
	}
	return n << shift, nil
}

func runMirrorPack(ctx context.Context, app *App, o mirrorPackOptions) error {
	if o.to == "" {
		return fault.Errorf(fault.Input, "--to is missing: the folder for the pack")
	}
	segment, err := parseSize(o.segment)
	if err == nil && segment == 4<<30 {
		segment = pack.DefaultSegment
	}
	if err == nil && (segment < pack.MinSegment || segment > pack.MaxSegment) {
		err = fmt.Errorf("found %.40q; allowed: 1MiB to 2TiB", o.segment)
	}
	if err != nil {
		return fault.Errorf(fault.Input, "--segment-size: %w", err)
	}
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
	events := app.Streams.Events(SchemaMirrorPack)
	defer events.Close()
	p := newMirrorReport(app, events)
	if err := p.emit(ui.Started, map[string]any{"feed": f.Name, "dir": o.to, "dry_run": o.dryRun}, ""); err != nil {
		return err
	}
	m.engine.Notify = func(e mirror.Event) {
		if e.Type == mirror.SegmentDone {
			_ = p.emit(ui.Item, map[string]string{"feed": e.Feed, "export_id": e.ExportID, "segment": e.Text}, "")
			return
		}
		p.notify(e)
	}
	done, err := m.engine.Pack(ctx, f.Name, o.export, o.to, segment, o.dryRun)
	p.done(f.Name)
	if err != nil {
		return m.explainLocal(f, err)
	}
	return p.emit(ui.Summary, done, packText(done))
}

// explainLocal is explain for what is wrong on this host or on a medium: the
// hints say what to do here, not what to ask the publisher.
func (m *mirrors) explainLocal(f mirror.Feed, err error) error {
	if refused := refusalIn(err); refused != nil {
		return fault.Errorf(fault.KindOf(err), "feed %s: %s: %w", f.Name, refused.Reason, err)
	}
	return m.explain(f, err)
}

func packText(r *mirror.PackResult) string {
	segments := count(int64(len(r.Segments)), "segment")
	switch {
	case r.DryRun:
		return fmt.Sprintf("%s: nothing was written; %s makes %s, %s, in %s", r.Feed, described(&r.Facts), segments, size(r.Size), r.Dir)
	case r.Unchanged:
		return fmt.Sprintf("%s: unchanged, the pack of %s is in %s already", r.Feed, described(&r.Facts), r.Dir)
	}
	line := fmt.Sprintf("%s: packed %s to %s: %s, %s", r.Feed, described(&r.Facts), r.Dir, segments, size(r.Size))
	if r.Kept > 0 {
		line += fmt.Sprintf("; %d were there", r.Kept)
	}
	return line + "\nnext, on the other side: stella mirror unpack --feed " + r.Feed + " " + strings.TrimSuffix(r.Dir, "/")
}
