// Command stella-lab runs the whole system on loopback: an Authority of two
// replicas on an embedded database, behind a proxy, with a CDN edge beside it.
// `tour` drives every runbook through the real command line and prints what
// was proven; `up` keeps it running for you. It is never shipped.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/stella-ops/stella/internal/signals"
)

const usage = `usage: stella-lab tour | up

  tour   start the lab, drive every runbook, print what was proven, exit 0 if all of it was
  up     start the lab, print the environment to use stella against it, run until Ctrl-C
`

func main() {
	if code, ok := runAs(os.Getenv(roleEnv)); ok {
		os.Exit(code)
	}
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	if len(args) != 1 || args[0] != "tour" && args[0] != "up" {
		fmt.Fprint(os.Stderr, usage)
		return 2
	}
	ctx, stop := signals.Context(context.Background())
	defer stop()
	if args[0] == "up" {
		return report(up(ctx, os.Stdout))
	}
	return report(tour(ctx, os.Stdout))
}
