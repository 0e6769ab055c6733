// Command startup measures what `stella version` costs, beside the floor: an
// empty Go program, built and started the same way in the same run.
//
// It guarantees whole-process figures from the kernel's own accounting
// (wall, user and system time, peak resident memory), taken in turn so that a
// machine that gets slower hits both alike.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"time"
)

const (
	runs         = 41
	targetWall   = 25 * time.Millisecond
	targetMemory = 30 << 20
)

type sample struct {
	wall, cpu time.Duration
	peak      int64 // bytes
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "startup:", err)
		os.Exit(1)
	}
}

func run() error {
	dir, err := os.MkdirTemp("", "stella-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	stella, floor := filepath.Join(dir, "stella"), filepath.Join(dir, "floor")
	if err := build(stella, "./cmd/stella"); err != nil {
		return err
	}
	empty := filepath.Join(dir, "empty.go")
	if err := os.WriteFile(empty, []byte("package main\n\nfunc main() {}\n"), 0o600); err != nil {
		return err
	}
	if err := build(floor, empty); err != nil {
		return err
	}
	var ours, theirs []sample
	for range runs + 1 { // the first pair warms the page cache and is dropped
		a, err := measure(stella, "version")
		if err != nil {
			return err
		}
		b, err := measure(floor)
		if err != nil {
			return err
		}
		ours, theirs = append(ours, a), append(theirs, b)
	}
	report(ours[1:], theirs[1:])
	return nil
}

func build(out, pkg string) error {
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("building %s: %w", pkg, err)
	}
	return nil
}

func measure(path string, args ...string) (sample, error) {
	cmd := exec.Command(path, args...)
	began := time.Now()
	if err := cmd.Run(); err != nil {
		return sample{}, fmt.Errorf("running %s: %w", path, err)
	}
	wall := time.Since(began)
	usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return sample{}, fmt.Errorf("no resource usage on %s", runtime.GOOS)
	}
	peak := int64(usage.Maxrss)
	if runtime.GOOS == "linux" {
		peak *= 1024 // getrusage(2): kilobytes there, bytes elsewhere
	}
	return sample{wall, cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), peak}, nil
}

func report(ours, floor []sample) {
	fmt.Printf("machine: %s/%s, %d CPUs, %s; %d runs each, medians (min–max)\n", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version(), runs)
	fmt.Printf("%-18s %26s %26s %22s\n", "", "wall", "cpu", "peak resident")
	for _, r := range []struct {
		name string
		s    []sample
	}{{"stella version", ours}, {"empty Go program", floor}} {
		w, wl, wh := spread(r.s, func(s sample) time.Duration { return s.wall })
		c, cl, ch := spread(r.s, func(s sample) time.Duration { return s.cpu })
		p, pl, ph := spread(r.s, func(s sample) int64 { return s.peak })
		fmt.Printf("%-18s %8.1f ms (%.1f–%.1f) %10.1f ms (%.1f–%.1f) %8.1f MiB (%.1f–%.1f)\n", r.name,
			ms(w), ms(wl), ms(wh), ms(c), ms(cl), ms(ch), mib(p), mib(pl), mib(ph))
	}
	w, _, _ := spread(ours, func(s sample) time.Duration { return s.wall })
	p, _, _ := spread(ours, func(s sample) int64 { return s.peak })
	f, _, _ := spread(floor, func(s sample) time.Duration { return s.wall })
	fmt.Printf("ratio to the floor: %.1f; targets: wall at most 25 ms: %s; resident at most 30 MiB: %s\n",
		float64(w)/float64(f), met(w <= targetWall), met(p <= targetMemory))
}

func spread[T int64 | time.Duration](s []sample, get func(sample) T) (median, low, high T) {
	var all []T
	for _, x := range s {
		all = append(all, get(x))
	}
	slices.Sort(all)
	return all[len(all)/2], all[0], all[len(all)-1]
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
func mib(n int64) float64        { return float64(n) / (1 << 20) }

func met(ok bool) string {
	if ok {
		return "met"
	}
	return "MISSED"
}
