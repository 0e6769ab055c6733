// Command stella operates a security platform: its keys, its tokens and what
// depends on them. It only adapts the process to internal/cli.
package main

import (
	"context"
	"io"
	"log"
	"os"

	"github.com/stella-ops/stella/internal/cli"
	"github.com/stella-ops/stella/internal/signals"
)

func main() { os.Exit(run()) }

func run() int {
	log.SetOutput(io.Discard) // net/http tells there what a server sends unasked
	ctx, stop := signals.Context(context.Background())
	defer stop()
	return cli.Run(ctx, os.Args[1:], cli.NewApp(os.Environ(), os.Getenv))
}
