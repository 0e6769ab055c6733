package obs

import (
	"fmt"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/stella-ops/stella/internal/buildinfo"
)

// NewRegistry returns a registry for the named service with stella_build_info
// and the Go and process collectors. Metrics of our own begin with stella_;
// CheckNames holds a registry to that.
func NewRegistry(service string) *prometheus.Registry {
	build := buildinfo.Read()
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "stella_build_info",
		Help: "Always 1; the labels tell which build is running.",
		ConstLabels: prometheus.Labels{
			"service": service, "version": build.Version, "commit": build.Commit, "go": build.Go,
		},
	})
	info.Set(1)
	reg := prometheus.NewRegistry()
	reg.MustRegister(info, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return reg
}

// CheckNames returns an error that lists the metrics of g whose names begin
// with none of stella_, go_, process_ and promhttp_, and are not among the
// allowed ones (names that the platform's dashboards already use).
func CheckNames(g prometheus.Gatherer, allowed ...string) error {
	families, err := g.Gather()
	if err != nil {
		return fmt.Errorf("gathering metrics: %w", err)
	}
	var bad []string
	for _, f := range families {
		name := f.GetName()
		own := slices.ContainsFunc([]string{"stella_", "go_", "process_", "promhttp_"},
			func(p string) bool { return strings.HasPrefix(name, p) })
		if !own && !slices.Contains(allowed, name) {
			bad = append(bad, name)
		}
	}
	if len(bad) > 0 {
		return fmt.Errorf("metric names without the stella_ prefix: %s", strings.Join(bad, ", "))
	}
	return nil
}
