// Command stella-lab runs the whole system on loopback: an Authority of two
// replicas on an embedded database, behind a proxy, with a CDN edge beside it,
// and an S3 server with two signed feeds. `tour` drives every runbook through
// the real command line and prints what was proven; `up` keeps it running for
// you; `export` makes exports of feeds of any size. It is never shipped.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/stella-ops/stella/internal/signals"
	"github.com/stella-ops/stella/internal/testenv/s3server"
)

const usage = `usage: stella-lab tour | up | export DIR

  tour     start the lab, drive every runbook, print what was proven, exit 0 if all of it was
  up       start the lab, print the environment to use stella against it, run until Ctrl-C
  export   write an export of a feed, small or large, to publish; -h tells its flags
`

func main() {
	if code, was := s3server.Child(); was {
		os.Exit(code)
	}
	if code, ok := runAs(os.Getenv(roleEnv)); ok {
		os.Exit(code)
	}
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	ctx, stop := signals.Context(context.Background())
	defer stop()
	switch {
	case len(args) == 1 && args[0] == "tour":
		return report(tour(ctx, os.Stdout))
	case len(args) == 1 && args[0] == "up":
		return report(up(ctx, os.Stdout))
	case len(args) > 0 && args[0] == "export":
		return report(export(ctx, args[1:], os.Stdout))
	}
	fmt.Fprint(os.Stderr, usage)
	return 2
}
