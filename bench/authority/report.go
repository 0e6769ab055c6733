package main

import (
	"fmt"
	"slices"
	"time"
)

func title(name string, o options) {
	fmt.Printf("%s; %d rounds and %d runs at %.0f %% of the highest rate, medians (min–max)\n", name, o.rounds, o.repeats, 100*share)
	fmt.Printf("%-24s %23s %23s %17s %17s %21s | %8s %6s %18s %18s %8s\n", "", "server CPU, µs", "floor CPU, µs", "floor/server",
		"crypto/server", "a second", "at", "jobs", "p50, ms", "p99, ms", "max, ms")
}

func (m *measurement) report() {
	for i, s := range m.kind.steps {
		f := m.steps[i]
		fmt.Printf("%-24s %23s %23s %17s %17s %21s | %8.0f %6d %18s %18s %8.1f\n", s.name,
			spread(f.server, micro, 1), spread(f.floor, micro, 1), spread(quotients(f.floor, f.server), same, 2), spread(quotients(f.crypto, f.server), same, 2),
			spread(f.rate, same, 0), m.load, m.jobs, spread(f.p50, milli, 2), spread(f.p99, milli, 2), milli(slices.Max(f.worst)))
	}
}

func quotients(a, b []time.Duration) []float64 {
	out := make([]float64, len(a))
	for i := range a {
		out[i] = float64(a[i]) / float64(b[i])
	}
	return out
}

func micro(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }
func milli(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }
func same(v float64) float64        { return v }

// spread is median (min–max).
func spread[T float64 | time.Duration](v []T, in func(T) float64, digits int) string {
	return fmt.Sprintf("%.*f (%.*f–%.*f)", digits, in(median(v)), digits, in(slices.Min(v)), digits, in(slices.Max(v)))
}
