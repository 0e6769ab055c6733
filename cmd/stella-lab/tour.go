package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/stella-ops/stella/internal/testenv"
)

// tourist drives the real command line and keeps a record of what was proven.
type tourist struct {
	*lab
	out    io.Writer
	env    []string // of whoever types; nil: the operator
	proven []proof
}

type proof struct{ what, figure string }

// tour runs every step; the first thing that is not as it should be ends it.
func tour(ctx context.Context, out io.Writer) error {
	began := time.Now()
	dir, err := os.MkdirTemp("", "stella-tour-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	fmt.Fprintln(out, "Starting an Authority of two replicas on an embedded database, a proxy before it and a CDN edge beside it, and an S3 server with two feeds …")
	l, err := newLab(ctx, dir, testenv.Compressed())
	if err != nil {
		return err
	}
	defer l.Close()
	t := &tourist{lab: l, out: out}
	t.proved("the lab is up: 2 replicas, database, proxy, edge, bucket, all over TLS", "%d ms", time.Since(began).Milliseconds())
	steps := []func(context.Context) error{t.logIn, t.readKeys, t.person, t.guessing, t.machine, t.rotate, t.tooEarly, t.emergency, t.takeBack}
	if err := t.take(ctx, append(append(steps, t.mirrorSteps()...), t.leave)); err != nil {
		return err
	}
	t.table(time.Since(began))
	return nil
}

func (t *tourist) take(ctx context.Context, steps []func(context.Context) error) error {
	for _, step := range steps {
		if err := step(ctx); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return err
		}
	}
	return nil
}

// stella runs the real command as a process of its own, shows what was typed
// and what came of it, and insists on the exit code.
func (t *tourist) stella(ctx context.Context, want int, args ...string) (string, error) {
	return t.run(ctx, t.out, want, args)
}

// unseen is stella for what would be shown again and again.
func (t *tourist) unseen(ctx context.Context, want int, args ...string) (string, error) {
	return t.run(ctx, io.Discard, want, args)
}

// environment is that of whoever types.
func (t *tourist) environment() []string {
	if t.env != nil {
		return t.env
	}
	return t.lab.environment()
}

func (t *tourist) run(ctx context.Context, out io.Writer, want int, args []string) (string, error) {
	fmt.Fprintf(out, "\n$ stella %s\n", strings.Join(quoted(args), " "))
	cmd := as("stella", args...)
	cmd.Env = append(cmd.Env, t.environment()...)
	var stdout bytes.Buffer
	cmd.Stdout = io.MultiWriter(&stdout, out)
	cmd.Stderr = out
	err := runUntil(ctx, cmd)
	code := 0
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		return "", err
	}
	if code != 0 {
		fmt.Fprintf(out, "(exit %d)\n", code)
	}
	if code != want {
		return "", fmt.Errorf("stella %s: exit %d, expected %d", strings.Join(args, " "), code, want)
	}
	return stdout.String(), nil
}

// runUntil runs cmd and passes the end of ctx on as an interrupt.
func runUntil(ctx context.Context, cmd *exec.Cmd) error {
	if err := cmd.Start(); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(os.Interrupt) })
	defer stop()
	return cmd.Wait()
}

func quoted(args []string) []string {
	out := make([]string, len(args))
	for i, a := range args {
		out[i] = a
		if strings.ContainsAny(a, " '\"$") {
			out[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
	}
	return out
}

func (t *tourist) title(text string) { fmt.Fprintf(t.out, "\n## %s\n", text) }

func (t *tourist) proved(what, figure string, args ...any) {
	p := proof{what, fmt.Sprintf(figure, args...)}
	t.proven = append(t.proven, p)
	fmt.Fprintf(t.out, "proven: %s: %s\n", p.what, p.figure)
}

func (t *tourist) table(took time.Duration) {
	width := 0
	for _, p := range t.proven {
		width = max(width, len(p.what))
	}
	fmt.Fprintf(t.out, "\n%-*s  %s\n%s\n", width, "WHAT WAS PROVEN", "FIGURE", strings.Repeat("-", width+30))
	for _, p := range t.proven {
		fmt.Fprintf(t.out, "%-*s  %s\n", width, p.what, p.figure)
	}
	fmt.Fprintf(t.out, "\n%d things proven in %.1f s\n", len(t.proven), took.Seconds())
}
