package main

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// The targets.
const (
	targetFull   = 1.0      // of the fastest peer's wall, at most
	targetMemory = 64 << 20 // bytes resident, at most, in every run
	targetNoop   = 0.3      // of the fastest peer's wall, at most
	targetScale  = 1.2      // of the no-op of the smaller feed, at most
)

// header says what is compared where.
func header(o options, all []*contestant) {
	load := ""
	if data, err := os.ReadFile("/proc/loadavg"); err == nil {
		load = "; load at the start " + strings.Join(strings.Fields(string(data))[:3], " ")
	}
	if o.note != "" {
		load += "; " + o.note
	}
	fmt.Printf("machine: %s/%s, %d CPUs, %s%s\n", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version(), load)
	fmt.Println("versitygw serves from a process of its own on the same CPUs; targets are on the same file system")
	for _, c := range all {
		if c.program == "" || c.left != "" {
			fmt.Printf("  %-8s %s\n", c.name, c.left)
		} else {
			fmt.Printf("  %-8s %s\n", c.name, strings.TrimSpace(c.label+"   "+c.version))
		}
	}
}

// report prints the tables and the targets.
func report(all []*contestant, rounds int) {
	for _, c := range all {
		if c.left != "" {
			fmt.Printf("%s takes no part: %s\n", c.name, c.left)
		}
	}
	fmt.Printf("\nempty target; %d rounds in turn, medians (min–max). Ours verifies every member and is durable within its time (syncfs\n", rounds)
	fmt.Println("included); the peers verify and sync nothing, and their dirty pages are written out after their time")
	table(all, func(c *contestant) []sample { return c.full })
	fmt.Println("\nno-op: the same again, nothing new")
	table(all, func(c *contestant) []sample { return c.again })
	us := find(all, ours)
	if us == nil || len(us.full) == 0 {
		return
	}
	fmt.Println("\ntargets:")
	if fastest(all, func(c *contestant) []sample { return c.full }) == nil {
		fmt.Println("  no peer took part, so what compares with them is not judged")
	}
	peaks := column(us.full, func(s sample) float64 { return mib(s.peak) })
	if best := fastest(all, func(c *contestant) []sample { return c.full }); best != nil {
		r := median(walls(us.full)) / median(walls(best.full))
		fmt.Printf("  full at most %.1f of the fastest peer (%s): %.2f, %s\n", targetFull, best.name, r, met(r <= targetFull))
	}
	fmt.Printf("  full at most %d MiB in every run: %.1f, %s\n", targetMemory>>20, slices.Max(peaks), met(slices.Max(peaks) <= mib(targetMemory)))
	if best := fastest(all, func(c *contestant) []sample { return c.again }); best != nil {
		r := median(walls(us.again)) / median(walls(best.again))
		fmt.Printf("  no-op at most %.1f of the fastest peer (%s): %.3f, %s\n", targetNoop, best.name, r, met(r <= targetNoop))
	}
}

func table(all []*contestant, of func(*contestant) []sample) {
	fmt.Printf("%-8s %24s %22s %24s %9s %9s %9s %10s\n", "", "wall, ms", "CPU, s", "peak resident, MiB", "/fastest", "/ours", "/floor", "gateway, s")
	against := func(c *contestant, base *contestant) string {
		if base == nil || len(of(base)) == 0 {
			return "-"
		}
		return fmt.Sprintf("%.2f", median(walls(of(c)))/median(walls(of(base))))
	}
	best := fastest(all, of)
	for _, c := range all {
		s := of(c)
		if len(s) == 0 || s[0].wall == 0 {
			continue
		}
		floor := find(all, theFloor)
		if floor != nil && (len(of(floor)) == 0 || of(floor)[0].wall == 0) {
			floor = nil
		}
		fmt.Printf("%-8s %24s %22s %24s %9s %9s %9s %10.2f\n", c.name, spread(walls(s), 0),
			spread(column(s, func(s sample) float64 { return s.cpu.Seconds() }), 2), spread(column(s, func(s sample) float64 { return mib(s.peak) }), 1),
			against(c, best), against(c, find(all, ours)), against(c, floor), median(column(s, func(s sample) float64 { return s.server.Seconds() })))
	}
}

// fastest is the peer with the least median wall time.
func fastest(all []*contestant, of func(*contestant) []sample) (best *contestant) {
	for _, c := range all {
		if c.name == ours || c.name == theFloor || len(of(c)) == 0 || c.left != "" {
			continue
		}
		if best == nil || median(walls(of(c))) < median(walls(of(best))) {
			best = c
		}
	}
	return best
}

func find(all []*contestant, name string) *contestant {
	for _, c := range all {
		if c.name == name {
			return c
		}
	}
	return nil
}

func column(s []sample, get func(sample) float64) []float64 {
	out := make([]float64, len(s))
	for i := range s {
		out[i] = get(s[i])
	}
	return out
}

// walls are milliseconds.
func walls(s []sample) []float64 {
	return column(s, func(s sample) float64 { return float64(s.wall) / float64(time.Millisecond) })
}

func median(v []float64) float64 { return slices.Sorted(slices.Values(v))[len(v)/2] }

func mib(n int64) float64 { return float64(n) / (1 << 20) }

// spread is median (min–max).
func spread(v []float64, digits int) string {
	return fmt.Sprintf("%.*f (%.*f–%.*f)", digits, median(v), digits, slices.Min(v), digits, slices.Max(v))
}

func met(ok bool) string {
	if ok {
		return "met"
	}
	return "MISSED"
}
