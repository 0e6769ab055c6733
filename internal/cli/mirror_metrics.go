package cli

import (
	"errors"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/mirror/textfile"
	"github.com/stella-ops/stella/internal/release"
)

// writeMetrics writes how all configured feeds stand, with how this run ended
// for those that it was about. It returns the file, "" when none is configured.
func (m *mirrors) writeMetrics(errs []error, began time.Time) (string, error) {
	path := m.config.Mirror.MetricsFile
	if path == "" {
		return "", nil
	}
	all, err := selectFeeds(m.config, nil)
	if err != nil {
		return "", err
	}
	var list []textfile.Feed
	for _, f := range all {
		row := textfile.Feed{Name: f.Name}
		for i, ran := range m.feeds {
			if ran.Name == f.Name {
				row.LastRun, row.ExitCode = began, fault.KindOf(errs[i]).ExitCode()
			}
		}
		st, err := m.engine.Status(f.Name)
		if err == nil { // else there is nothing to tell but the run
			row.LastSuccess, row.Lag = st.Contact.At, time.Duration(st.Lag*float64(time.Second))
			row.Release = st.Shown
			row.Held, row.Stale = held(st), st.Stale != ""
			row.Refusals = st.Refusals
		}
		list = append(list, row)
	}
	if err := textfile.Write(path, list); err != nil {
		return "", fault.Errorf(fault.Partial, "the metrics were not written: %w", err).
			Hint("the feeds are as they should be; check mirror.metrics_file: ls -ld %s", path)
	}
	return path, nil
}

func refusalIn(err error) *release.Refusal {
	r, _ := errors.AsType[*release.Refusal](err)
	return r
}
