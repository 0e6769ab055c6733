package cli

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/mirror"
	"github.com/stella-ops/stella/internal/release"
	"github.com/stella-ops/stella/internal/ui"
)

// SchemaMirrorStatus is the schema of what mirror status prints as JSON.
const SchemaMirrorStatus = "stella.mirror.status/v1"

const mirrorStatusLong = `Shows for each feed what is served, how old it is, when the source was seen last,
what was refused, and the command to type next. It reads this host alone: it
writes nothing and opens no socket.

The verdict is one of: ok; stale (the release has expired, or is older than the
trust policy allows); held (an operator rolled back); refused (the newest sync
was refused); never-synced; damaged (the record of the feed cannot be read).
The exit status is 0 for all but the last, which is 21.`

func newMirrorStatusCmd(app *App) *cobra.Command {
	var feeds []string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show how each feed stands and what to do next",
		Long:  long(mirrorStatusLong, fault.Trust, fault.Config),
		Example: `  stella mirror status
  stella mirror status --feed advisories --output json`,
		Args:              noArgs(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(*cobra.Command, []string) error { return runMirrorStatus(app, feeds) },
	}
	feedsFlag(app, cmd, &feeds)
	return cmd
}

// mirrorVerdict is how a feed stands in one word.
type mirrorVerdict string

const (
	verdictOK      mirrorVerdict = "ok"
	verdictStale   mirrorVerdict = "stale"
	verdictHeld    mirrorVerdict = "held"
	verdictRefused mirrorVerdict = "refused"
	verdictNever   mirrorVerdict = "never-synced"
	verdictDamaged mirrorVerdict = "damaged"
)

// statusItem is how one feed stands.
type statusItem struct {
	mirror.Status
	Source  string        `json:"source"`
	Shape   mirror.Shape  `json:"shape"`
	Verdict mirrorVerdict `json:"verdict"`
	Why     string        `json:"why,omitempty"`
	Next    []string      `json:"next"` // commands and advice, the first one first
}

func runMirrorStatus(app *App, names []string) error {
	m, err := app.mirrors(names, trustIfAny)
	if err != nil {
		return err
	}
	defer m.close()
	var out struct {
		Now   time.Time    `json:"now"`
		Feeds []statusItem `json:"feeds"`
	}
	out.Now = app.Now().UTC().Truncate(time.Second)
	var errs []error
	for _, f := range m.feeds {
		item, err := m.status(f)
		out.Feeds, errs = append(out.Feeds, item), append(errs, m.explain(f, err))
	}
	err = app.Streams.Render(SchemaMirrorStatus, out, func(p *ui.Page) {
		for _, item := range out.Feeds {
			item.page(p, out.Now)
		}
	})
	if err != nil {
		return err
	}
	return verdictOf(errs)
}

// status judges one feed. What cannot be read is an error, and a verdict too.
func (m *mirrors) status(f mirror.Feed) (statusItem, error) {
	item := statusItem{Source: f.Source.String(), Shape: f.Shape, Next: []string{}}
	if item.Shape == "" {
		item.Shape = mirror.Releases
	}
	st, err := m.engine.Status(f.Name)
	switch {
	case fault.KindOf(err) == fault.NotFound:
		item.Feed, item.Folder, item.Releases = f.Name, m.engine.Folder(f.Name), []string{}
		item.Verdict, item.Next = verdictNever, []string{"stella mirror sync --feed " + f.Name}
		return item, nil
	case err != nil:
		item.Feed, item.Folder, item.Releases = f.Name, m.engine.Folder(f.Name), []string{}
		item.Verdict, item.Why, item.Next = verdictDamaged, err.Error(), []string{"stella mirror verify --feed " + f.Name}
		return item, err
	}
	item.Status = *st
	if item.Releases == nil {
		item.Releases = []string{}
	}
	item.Verdict, item.Why, item.Next = m.judge(f, st)
	return item, nil
}

// held reports whether an older release than the newest accepted one is shown.
func held(st *mirror.Status) bool {
	return st.Held && (st.Newest.ExportID == "" || st.Shown.ExportID != st.Newest.ExportID)
}

func (m *mirrors) judge(f mirror.Feed, st *mirror.Status) (verdict mirrorVerdict, why string, next []string) {
	next = []string{}
	refused := st.Refused != nil && !st.Refused.At.Before(st.Contact.At)
	switch {
	case refused && st.Refused.Reason != release.Stale:
		return verdictRefused, fmt.Sprintf("%s: %s", st.Refused.Reason, st.Refused.Message), m.hints(f, st.Refused.Reason, st.Refused.Member, st.Refused.KeyID)
	case st.Shown.ExportID == "":
		return verdictNever, "", []string{"stella mirror sync --feed " + f.Name}
	case held(st):
		next = append(next, "it stays until a newer release comes")
		if slices.Contains(st.Releases, st.Newest.ExportID) {
			next = []string{fmt.Sprintf("stella mirror rollback --feed %s --to %s --reason TEXT", f.Name, st.Newest.ExportID)}
		}
		return verdictHeld, st.HeldReason, next
	case st.Stale != "":
		return verdictStale, st.Stale, append([]string{"stella mirror sync --feed " + f.Name}, m.hints(f, release.Stale, "", "")...)
	case st.Unfinished:
		return verdictOK, "a run was cut off before it showed what it had accepted", []string{"stella mirror sync --feed " + f.Name}
	}
	return verdictOK, "", next
}

// page shows one feed.
func (i statusItem) page(p *ui.Page, now time.Time) {
	tone := map[mirrorVerdict]ui.Tone{verdictOK: ui.Good, verdictHeld: ui.Warn, verdictNever: ui.Warn}[i.Verdict]
	if tone == ui.Plain {
		tone = ui.Bad
	}
	p.Heading(i.Feed)
	pairs := []ui.Pair{{Key: "verdict", Value: ui.T(tone, "%s", i.Verdict)}}
	add := func(key, value string) {
		if value != "" {
			pairs = append(pairs, ui.Pair{Key: key, Value: ui.C(value)})
		}
	}
	add("why", oneLine(i.Why))
	if i.Shown.ExportID != "" {
		add("shown", described(&i.Shown))
		if !i.Shown.GeneratedAt.IsZero() {
			add("generated", ago(i.Shown.GeneratedAt, now))
		}
		if !i.Shown.ExpiresAt.IsZero() {
			add("expires", atIn(i.Shown.ExpiresAt, now))
		}
		add("accepted", ago(i.AcceptedAt, now))
		if i.Newest.ExportID != i.Shown.ExportID {
			add("newest accepted", i.Newest.ExportID)
		}
		add("previous", i.Previous)
	}
	add("source", i.Source)
	add("source seen", ago(i.Contact.At, now))
	if i.Shape == mirror.Tree {
		add("verified", "nothing: a feed of shape tree is not signed")
	}
	add("folder", i.Folder)
	add("releases", strings.Join(i.Releases, " "))
	if i.Refused != nil {
		add("last refusal", fmt.Sprintf("%s at %s", i.Refused.Reason, clock(i.Refused.At)))
	}
	if text := refusalCounts(i.Refusals); text != "" {
		add("refusals", text)
	}
	p.Pairs(pairs...)
	for _, line := range i.Next {
		p.Line("next: %s", line)
	}
}

func refusalCounts(counts map[release.Reason]int64) string {
	var parts []string
	for _, reason := range release.Reasons() {
		if n := counts[reason]; n > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", reason, n))
		}
	}
	return strings.Join(parts, ", ")
}
