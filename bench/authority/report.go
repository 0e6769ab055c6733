package main

import (
	"fmt"
	"slices"
	"time"
)

// report prints two tables: what one request costs, and how long one takes
// under load.
func report(name, storage string, o options, all []*measurement) {
	fmt.Printf("%s; %d rounds, medians (min–max); CPU of one in µs\n", name, o.rounds)
	fmt.Printf("%-24s %26s %26s %18s %18s %21s %8s\n", "", "server", "floor: TLS, HTTP, crypto", "floor/server", "crypto/server", "a second", "floor's")
	for _, m := range all {
		for i, s := range m.kind.steps {
			f := m.steps[i]
			crypto := spread(quotients(f.crypto, f.server), same, 2)
			if s.work == (work{}) {
				crypto = "none"
			}
			fmt.Printf("%-24s %26s %26s %18s %18s %21s %8.0f\n", s.name, spread(f.server, micro, 1), spread(f.floor, micro, 1),
				spread(quotients(f.floor, f.server), same, 2), crypto, spread(f.rate, same, 0), median(f.floorRate))
		}
		if m.kind.name == "token" && storage == memoryStore {
			target(m.steps[0])
		}
	}
	fmt.Printf("\n%s; %d runs at %.0f %% of the highest rate; ms from when a request was due\n", name, o.repeats, 100*share)
	fmt.Printf("%-24s %8s %7s %20s %20s %8s %20s %8s\n", "", "a second", "of each", "p50", "p99", "max", "floor's p99", "max")
	if o.repeats == 0 {
		return
	}
	for _, m := range all {
		for i, s := range m.kind.steps {
			l, fl := m.steps[i].loaded, m.steps[i].loadedFloor
			fmt.Printf("%-24s %8.0f %7d %20s %20s %8.1f %20s %8.1f\n", s.name, m.rate, m.jobs, spread(l.p50, milli, 2), spread(l.p99, milli, 2),
				milli(slices.Max(l.worst)), spread(fl.p99, milli, 2), milli(slices.Max(fl.worst)))
		}
	}
	fmt.Println()
}

// wanted is the part of a DPoP-bound token's CPU that should be its
// cryptography.
const wanted = 0.5

func target(f figures) {
	word := "met"
	if median(quotients(f.crypto, f.server)) < wanted {
		word = "MISSED"
	}
	fmt.Printf("%-24s crypto/server at least %.2f: %s; crypto alone %s µs\n", "  target:", wanted, word, spread(f.crypto, micro, 1))
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
	if len(v) == 0 {
		return "-"
	}
	return fmt.Sprintf("%.*f (%.*f–%.*f)", digits, in(median(v)), digits, in(slices.Min(v)), digits, in(slices.Max(v)))
}
