// Command mirror measures what bringing a copy of a bucket costs: `stella
// mirror sync`, the sync tools that are on PATH, and the floor, a plain
// parallel GET of the same objects to nowhere.
//
// It guarantees that all of them read the same objects of the same gateway,
// which is a process of its own, in turn and in another order each round; that
// every full run begins with an empty target on the same file system, whose
// dirty pages were written out before, outside the timing; that figures are
// the kernel's accounting of each process, taken by one too small to disturb
// them; and that what each tool brought was compared with the source by digest,
// and the target after its no-op with the one before. It asserts nothing about
// speed. The peers verify nothing and make nothing durable; ours does both
// within its time.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/stella-ops/stella/internal/testenv/exports"
	"github.com/stella-ops/stella/internal/testenv/s3server"
)

// options are the flags.
type options struct {
	rounds int
	many   int
	noops  int
	only   string
	under  string
	note   string
	floor  floorFlags
}

func main() {
	if code, was := s3server.Child(); was {
		os.Exit(code)
	}
	var o options
	flag.IntVar(&o.rounds, "rounds", 5, "rounds counted; one more is dropped. 0: none")
	flag.IntVar(&o.many, "many", 100_000, "members of the second feed, for the no-op of a big release; 0: none")
	flag.IntVar(&o.noops, "noops", 301, "no-ops of each size in that comparison")
	flag.StringVar(&o.only, "only", "", "only these, separated by commas: floor, stella, aws, s5cmd, rclone, mc")
	flag.StringVar(&o.under, "dir", "", "folder for bucket and targets, about 5 GiB (default: the system's)")
	flag.StringVar(&o.note, "note", "", "remark to print with the machine, such as: busy")
	o.floor.add()
	flag.Parse()
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer cancel()
	do := run
	if o.floor.on {
		do = runFloor
	}
	if err := do(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "mirror:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) (err error) {
	if o.rounds < 0 || o.many < 0 || o.noops < 1 {
		return errors.New("a flag is below its minimum")
	}
	dir, err := os.MkdirTemp(o.under, "stella-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b, err := newBench(ctx, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.server.Stop()) }()
	contestants, err := b.contestants(ctx, o.only)
	if err != nil {
		return err
	}
	header(o, contestants)
	mixed, err := b.publish(ctx, "mixed", exports.Files{Count: 5000, Bytes: 20 << 10}, exports.Files{Count: 20, Bytes: 64 << 20})
	if err != nil {
		return fmt.Errorf("publishing: %w", err)
	}
	fmt.Printf("release: %d files, %.0f MiB, of which 5000 x 20 KiB and 20 x 64 MiB; ours reads its signed statement, the peers the same objects\n", len(mixed.digests), mib(mixed.bytes))
	if o.rounds > 0 {
		if err := b.compare(ctx, o.rounds, contestants, mixed); err != nil {
			return err
		}
	}
	if o.many > 0 && wanted(o.only, ours) {
		return b.scale(ctx, o, mixed)
	}
	return nil
}

// bench is what everything shares.
type bench struct {
	dir    string
	server *s3server.Server
	key    *exports.Key
	stella string // the program
	meter  string
	self   string
	serial int // of targets
}

func wanted(only, name string) bool {
	if only == "" {
		return true
	}
	for one := range strings.SplitSeq(only, ",") {
		if one == name {
			return true
		}
	}
	return false
}

// path makes a place below the folder of this run.
func (b *bench) path(parts ...string) string {
	return filepath.Join(append([]string{b.dir}, parts...)...)
}
