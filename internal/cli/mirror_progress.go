package cli

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stella-ops/stella/internal/mirror"
	"github.com/stella-ops/stella/internal/ui"
)

// jsonEvery is the time between two progress events of one feed, unless
// STELLA_PROGRESS_INTERVAL says otherwise.
const jsonEvery = 5 * time.Second

// quiet is how long a step goes on before people are told: most are over
// before that, and a timer's journal stays clean.
const quiet = time.Second

// mirrorProgress is a progress event.
type mirrorProgress struct {
	Feed     string `json:"feed"`
	Step     string `json:"step,omitempty"`
	ExportID string `json:"export_id,omitempty"`
	Members  int    `json:"members_done"`
	Of       int    `json:"members"` // 0: not counted
	Bytes    int64  `json:"bytes_done"`
	Total    int64  `json:"bytes"` // 0: not known
	Rate     int64  `json:"bytes_per_s"`
	Left     int64  `json:"left_s"` // -1: not known
}

// mirrorWarning is a warning event.
type mirrorWarning struct {
	Feed    string `json:"feed"`
	Message string `json:"message"`
}

// mirrorReport shows what several feeds do at once. It is safe for concurrent use.
type mirrorReport struct {
	app    *App
	events *ui.Events

	mu    sync.Mutex
	order []string
	feeds map[string]*feedProgress
}

type feedProgress struct {
	mirrorProgress
	began, told time.Time
}

func newMirrorReport(app *App, events *ui.Events) *mirrorReport {
	return &mirrorReport{app: app, events: events, feeds: map[string]*feedProgress{}}
}

// emit prints an event between the progress.
func (p *mirrorReport) emit(typ ui.EventType, v any, text string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.events.Emit(typ, v, text)
}

// done takes a feed from the progress line.
func (p *mirrorReport) done(feed string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.feeds, feed)
}

// notify takes what the engine of mirrors tells.
func (p *mirrorReport) notify(e mirror.Event) {
	switch e.Type {
	case mirror.Found, mirror.Progress:
		p.step("", e)
	case mirror.Restarted:
		p.warn(e.Feed, "%s; beginning again", e.Text)
	case mirror.Settling:
		p.warn(e.Feed, "looking for %s whether this stays so: %s", p.settle(), e.Text)
	}
}

// step takes how far one step of the work on a feed is.
func (p *mirrorReport) step(name string, e mirror.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.app.Now()
	f := p.feeds[e.Feed]
	if f == nil || e.Type == mirror.Found || f.ExportID != e.ExportID || f.Step != name {
		if !slices.Contains(p.order, e.Feed) {
			p.order = append(p.order, e.Feed)
		}
		f = &feedProgress{began: now, mirrorProgress: mirrorProgress{Feed: e.Feed, Step: name, ExportID: e.ExportID, Left: -1}}
		p.feeds[e.Feed] = f
	}
	f.Total = e.Total
	if e.Type == mirror.Found {
		f.Of = e.Members
		return
	}
	f.Members, f.Bytes = e.Members, e.Bytes
	p.show(f, now)
}

func (p *mirrorReport) settle() time.Duration {
	c, err := p.app.Config()
	if err != nil {
		return 0
	}
	return c.Mirror.Settle.Std()
}

func (p *mirrorReport) warn(feed, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.events.Emit(ui.Warning, mirrorWarning{feed, text}, feed+": "+text)
}

// show updates the rate, and tells it now and then.
func (p *mirrorReport) show(f *feedProgress, now time.Time) {
	f.Rate = rate(f.Bytes, now.Sub(f.began))
	if f.Left = -1; f.Rate > 0 && f.Total > 0 {
		f.Left = max(0, f.Total-f.Bytes) / f.Rate
	}
	if p.app.Streams.Format == ui.JSON {
		every := p.app.Streams.Interval
		if every <= 0 {
			every = jsonEvery
		}
		if f.told.IsZero() || now.Sub(f.told) >= every {
			f.told = now
			_ = p.events.Emit(ui.Progress, f.mirrorProgress, "")
		}
		return
	}
	if now.Sub(f.began) < quiet {
		return
	}
	var parts []string
	for _, name := range p.order {
		if f := p.feeds[name]; f != nil {
			parts = append(parts, f.text())
		}
	}
	p.events.Line().Set(strings.Join(parts, " | "))
}

// text is one feed on the progress line.
func (f *feedProgress) text() string {
	var b strings.Builder
	b.WriteString(f.Feed + ":")
	if f.Step != "" {
		b.WriteString(" " + f.Step)
	}
	if f.Of > 0 {
		fmt.Fprintf(&b, " %d/%d members,", f.Members, f.Of)
	}
	b.WriteString(" " + size(f.Bytes))
	if f.Total > 0 {
		b.WriteString(" of " + size(f.Total))
	}
	if f.Rate > 0 {
		fmt.Fprintf(&b, ", %s/s", size(f.Rate))
	}
	if f.Left >= 0 {
		fmt.Fprintf(&b, ", %s left", span(time.Duration(f.Left)*time.Second))
	}
	return b.String()
}
