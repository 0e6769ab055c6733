// Command authority measures what the requests of the Authority cost, each
// beside a floor: a plain net/http handler behind the same TLS that does
// nothing but the cryptography without which nobody could answer.
//
// It guarantees that server and floor are measured in the same run, in turn,
// by the kernel's accounting of processor time; that each is a process of its
// own behind a real TLS listener; that every answer counted was the one asked
// for; and that latency under load is counted from the moment at which a
// request was due, so a server that stalls cannot hide it. It asserts nothing
// about speed.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/stella-ops/stella/internal/testenv"
)

// options are the flags.
type options struct {
	rounds  int
	repeats int
	span    time.Duration
	tokens  int
	only    string
}

func main() {
	switch os.Getenv(roleEnv) {
	case roleServer:
		os.Exit(serve())
	case roleFloor:
		os.Exit(serveFloor())
	}
	o := options{}
	flag.IntVar(&o.rounds, "rounds", 5, "rounds of each kind of request; 0: none")
	flag.IntVar(&o.repeats, "repeats", 3, "runs at 70 % of the highest rate")
	flag.DurationVar(&o.span, "span", 3*time.Second, "length of such a run")
	flag.IntVar(&o.tokens, "tokens", 100_000, "tokens of each look at memory; 0: none")
	flag.StringVar(&o.only, "only", "", "only this kind: token, mtls, refresh, introspect, revoke or device")
	flag.Parse()
	if err := run(context.Background(), o); err != nil {
		fmt.Fprintln(os.Stderr, "authority:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	dir, err := os.MkdirTemp("", "stella-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	ca, err := testenv.NewCA(dir)
	if err != nil {
		return err
	}
	fmt.Printf("machine: %s/%s, %d CPUs, %s; load generator and database on the same CPUs\n\n",
		runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version())
	if o.rounds > 0 {
		if err := compare(ctx, ca, filepath.Join(dir, "mem"), "store in memory", memoryStore, o); err != nil {
			return err
		}
		mongo, err := testenv.StartMongo("127.0.0.1:0", "")
		if err != nil {
			return err
		}
		err = compare(ctx, ca, filepath.Join(dir, "mongo"), "store on the embedded database", mongo.URI(), o)
		mongo.Stop()
		if err != nil {
			return err
		}
	}
	for _, way := range issuings() {
		if o.tokens == 0 || o.only != "" && o.only != way.kind {
			continue
		}
		if err := watchMemory(ctx, ca, filepath.Join(dir, "tokens", way.kind), way, o.tokens); err != nil {
			return err
		}
	}
	return nil
}

// compare measures every kind of request against one store, each with a server
// of its own that nothing was asked before.
func compare(ctx context.Context, ca *testenv.CA, dir, name, storage string, o options) error {
	var done []*measurement
	for _, k := range kinds() {
		if o.only != "" && o.only != k.name {
			continue
		}
		if storage != memoryStore {
			k.jobs = k.few
		}
		m, err := measure(ctx, ca, filepath.Join(dir, k.name), storage, k, o)
		if err != nil {
			return fmt.Errorf("%s, %s: %w", name, k.name, err)
		}
		done = append(done, m)
	}
	report(name, storage, o, done)
	return nil
}
