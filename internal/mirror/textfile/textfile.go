// Package textfile writes how mirrored feeds stand, for the textfile collector
// of Prometheus' node_exporter.
//
// It guarantees that a collector sees the whole file or the one before it; that
// every feed has the same series in each file, refusals that never happened
// included, so that rates and alerts work from the first scrape on; that a value
// that is not known has no series instead of a wrong one; and that a run about
// some feeds keeps what the file says of the last runs of the others.
package textfile

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/stella-ops/stella/internal/durable"
	"github.com/stella-ops/stella/internal/mirror/store"
	"github.com/stella-ops/stella/internal/release"
)

// Feed is how one feed stands. Times that are zero are not known.
type Feed struct {
	Name     string
	LastRun  time.Time // zero: this run was not about it
	ExitCode int       // of LastRun

	LastSuccess time.Time     // when the source was seen last and nothing was wrong
	Lag         time.Duration // since then
	Release     store.Facts   // that is shown
	Held, Stale bool
	Refusals    map[release.Reason]int64
}

// maxFile bounds the file that is replaced, in bytes.
const maxFile = 4 << 20

// The names of what a run is remembered by.
const (
	lastRun  = "stella_mirror_last_run_timestamp_seconds"
	exitCode = "stella_mirror_last_run_exit_code"
)

// Write replaces the file at path, mode 0644, in a directory that must exist.
func Write(path string, feeds []Feed) error {
	d, err := durable.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer d.Close()
	name := filepath.Base(path)
	was, err := d.Read(name, maxFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		was = nil // what is no file of ours is replaced, or the write says why not
	}
	return d.Write(name, Encode(feeds, was), 0o644)
}

// Encode makes the text. was is the text before, of which the last runs of
// feeds are kept that have none now; nil for none.
func Encode(feeds []Feed, was []byte) []byte {
	before := runs(was)
	var b bytes.Buffer
	family := func(name, typ, help string, each func(f *Feed, put func(value float64, labels ...string))) {
		head := fmt.Sprintf("# HELP %s %s\n# TYPE %s %s\n", name, help, name, typ)
		for i := range feeds {
			f := &feeds[i]
			each(f, func(value float64, labels ...string) {
				b.WriteString(head)
				head = ""
				b.WriteString(name + "{feed=" + strconv.Quote(f.Name))
				for i := 0; i < len(labels); i += 2 {
					b.WriteString("," + labels[i] + "=" + strconv.Quote(labels[i+1]))
				}
				b.WriteString("} " + strconv.FormatFloat(value, 'f', -1, 64) + "\n")
			})
		}
	}
	gauge := func(name, help string, value func(f *Feed) (float64, bool)) {
		family(name, "gauge", help, func(f *Feed, put func(float64, ...string)) {
			if v, ok := value(f); ok {
				put(v)
			}
		})
	}
	gauge(lastRun, "When a sync of the feed began last, whatever came of it.", func(f *Feed) (float64, bool) {
		if f.LastRun.IsZero() {
			v, ok := before[lastRun][f.Name]
			return v, ok
		}
		return seconds(f.LastRun)
	})
	gauge(exitCode, "Exit code of that sync for this feed alone; docs/exit-codes.md has the meanings.", func(f *Feed) (float64, bool) {
		if f.LastRun.IsZero() {
			v, ok := before[exitCode][f.Name]
			return v, ok
		}
		return float64(f.ExitCode), true
	})
	gauge("stella_mirror_last_success_timestamp_seconds", "When the source was seen last and what it had was good.", func(f *Feed) (float64, bool) { return seconds(f.LastSuccess) })
	gauge("stella_mirror_lag_seconds", "Time since the last success, when this file was written.", func(f *Feed) (float64, bool) { return f.Lag.Seconds(), !f.LastSuccess.IsZero() })
	gauge("stella_mirror_release_generated_timestamp_seconds", "When the release that is shown was generated.", func(f *Feed) (float64, bool) { return seconds(f.Release.GeneratedAt) })
	gauge("stella_mirror_release_expires_timestamp_seconds", "When the release that is shown expires.", func(f *Feed) (float64, bool) { return seconds(f.Release.ExpiresAt) })
	gauge("stella_mirror_release_sequence", "Sequence of the release that is shown.", func(f *Feed) (float64, bool) { return float64(f.Release.Sequence), f.Release.Sequence > 0 })
	family("stella_mirror_release_info", "gauge", "The release that is shown; always 1.", func(f *Feed, put func(float64, ...string)) {
		if f.Release.ExportID != "" {
			put(1, "export_id", f.Release.ExportID, "layout", string(f.Release.Layout))
		}
	})
	gauge("stella_mirror_held", "1 while an operator holds the feed at an older release.", func(f *Feed) (float64, bool) { return truth(f.Held), true })
	gauge("stella_mirror_stale", "1 while the release that is shown has expired or is older than the trust policy allows.", func(f *Feed) (float64, bool) { return truth(f.Stale), true })
	family("stella_mirror_refusals_total", "counter", "Releases that were refused, by reason.", func(f *Feed, put func(float64, ...string)) {
		for _, reason := range release.Reasons() {
			put(float64(f.Refusals[reason]), "reason", string(reason))
		}
	})
	return b.Bytes()
}

func seconds(t time.Time) (float64, bool) {
	return float64(t.UnixMilli()) / 1000, !t.IsZero()
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// runs finds the last runs in a file that Encode made, by metric and feed.
// Lines of another form are passed over.
func runs(text []byte) map[string]map[string]float64 {
	out := map[string]map[string]float64{lastRun: {}, exitCode: {}}
	for line := range strings.Lines(string(text)) {
		name, rest, ok := strings.Cut(strings.TrimSuffix(line, "\n"), `{feed="`)
		feed, value, more := strings.Cut(rest, `"} `)
		if !ok || !more || out[name] == nil || !release.FeedName(feed) {
			continue
		}
		if v, err := strconv.ParseFloat(value, 64); err == nil && v >= 0 && v < 1e12 {
			out[name][feed] = v
		}
	}
	return out
}
