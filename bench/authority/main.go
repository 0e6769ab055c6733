// Command authority measures what one DPoP-bound token costs the Authority,
// beside the floor of its cryptography: one ES256 verification (the proof) and
// one ES256 signature (the token).
//
// It guarantees that server and floor are measured in the same run, in turn,
// by the kernel's accounting of processor time; that the server is a process
// of its own behind a real TLS listener; and that every answer counted was a
// 200 with a token. It asserts nothing about speed.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"time"

	"github.com/stella-ops/stella/internal/testenv"
)

const (
	rounds = 7
	tokens = 2000 // a round
)

func main() {
	if role := os.Getenv(roleEnv); role != "" {
		os.Exit(serve())
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "authority:", err)
		os.Exit(1)
	}
}

func run() error {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "stella-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	ca, err := testenv.NewCA(dir)
	if err != nil {
		return err
	}
	fmt.Printf("machine: %s/%s, %d CPUs, %s; %d rounds of %d tokens, medians (min–max) of server CPU per token\n",
		runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version(), rounds, tokens)
	memory, err := measure(ctx, ca, filepath.Join(dir, "mem"), "memory")
	if err != nil {
		return err
	}
	mongo, err := testenv.StartMongo("127.0.0.1:0", "")
	if err != nil {
		return err
	}
	defer mongo.Stop()
	database, err := measure(ctx, ca, filepath.Join(dir, "mongo"), mongo.URI())
	if err != nil {
		return err
	}
	fmt.Printf("%-44s %s\n", "floor: one ES256 verify and one sign", show(memory.floor))
	fmt.Printf("%-44s %s\n", "server, store in memory", show(memory.server))
	fmt.Printf("%-44s %s   (no target)\n", "server, store on the embedded database", show(database.server))
	ratios := memory.ratios()
	met := "met"
	if ratios[len(ratios)/2] < 0.5 {
		met = "MISSED"
	}
	fmt.Printf("floor / server, store in memory: %.2f (%.2f–%.2f), target at least 0.50: %s\n",
		ratios[len(ratios)/2], ratios[0], ratios[len(ratios)-1], met)
	fmt.Printf("%-44s %.0f tokens/s with %d connections, load generator on the same CPUs\n", "throughput seen, store in memory", memory.rate, connections)
	fmt.Printf("%-44s %.0f tokens/s\n", "throughput seen, embedded database", database.rate)
	return nil
}

// result holds one figure a round.
type result struct {
	floor, server []time.Duration // CPU per token
	rate          float64         // tokens per second in the fastest round
}

func (r result) ratios() []float64 {
	var out []float64
	for i := range r.server {
		out = append(out, float64(r.floor[i])/float64(r.server[i]))
	}
	slices.Sort(out)
	return out
}

func measure(ctx context.Context, ca *testenv.CA, dir, storage string) (result, error) {
	var r result
	srv, err := startServer(ctx, ca, dir, storage)
	if err != nil {
		return r, err
	}
	defer srv.stop()
	load, err := newLoad(ctx, ca, srv)
	if err != nil {
		return r, err
	}
	fl, err := newFloor()
	if err != nil {
		return r, err
	}
	for round := range rounds + 1 { // the first round warms up and is dropped
		before, err := srv.cpu()
		if err != nil {
			return r, err
		}
		wall, err := load.run(ctx, tokens)
		if err != nil {
			return r, err
		}
		after, err := srv.cpu()
		if err != nil {
			return r, err
		}
		floor, err := fl.run(tokens)
		if err != nil {
			return r, err
		}
		if round == 0 {
			continue
		}
		r.server = append(r.server, (after-before)/tokens)
		r.floor = append(r.floor, floor/tokens)
		r.rate = max(r.rate, tokens/wall.Seconds())
	}
	return r, nil
}

func show(d []time.Duration) string {
	s := slices.Sorted(slices.Values(d))
	us := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }
	return fmt.Sprintf("%7.1f µs (%.1f–%.1f)", us(s[len(s)/2]), us(s[0]), us(s[len(s)-1]))
}

// selfCPU is the processor time this process has used, all threads.
func selfCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
