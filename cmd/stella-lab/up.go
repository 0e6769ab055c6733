package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/testenv"
)

// up runs the lab until ctx ends. Its lifetimes are those of the platform,
// only the cache lifetime is short enough to watch a rotation over a coffee.
func up(ctx context.Context, out io.Writer) error {
	dir, err := os.MkdirTemp("", "stella-lab-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	l, err := newLab(ctx, dir, testenv.Lifetimes{
		Cache: time.Minute, Skew: 5 * time.Second, Lease: 10 * time.Second, Poll: time.Second, Token: 2 * time.Minute,
	})
	if err != nil {
		return err
	}
	defer l.Close()
	fmt.Fprintf(out, "# The lab is up: issuer %s, edge %s\n# Use stella against it:\n", l.Issuer, l.EdgeURL)
	for _, kv := range l.environment() {
		fmt.Fprintf(out, "export %s\n", kv)
	}
	fmt.Fprintf(out, `# stella auth login; stella auth rotate --wait; stella auth jwks verify
# The feeds %s are published at s3://%s, an S3 server of the lab. Mirror them, then publish the next release:
# stella mirror sync; stella mirror status; stella mirror verify --remote
# stella-lab export ./next && stella %s --sign-bundles
# Ctrl-C ends it and removes everything.
`, strings.Join(feedNames(), " and "), bucketName, strings.Join(l.feeds.publishing(feedNames()[0], "./next"), " "))
	<-ctx.Done()
	return nil
}

// report prints an error as stella does and returns the exit code.
func report(err error) int {
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, "error:", err)
	for _, h := range fault.HintsOf(err) {
		fmt.Fprintln(os.Stderr, "hint:", h)
	}
	return fault.KindOf(err).ExitCode()
}
