// Package signals turns the signals of an operator or a service manager into
// the end of a context.
//
// It guarantees that SIGINT and SIGTERM both cancel, that context.Cause tells
// which one it was as an error of kind fault.Interrupted or fault.Terminated,
// and that a second signal ends the process at once, whatever hangs.
package signals

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/stella-ops/stella/internal/fault"
)

// Context returns a copy of parent that ends with the first SIGINT or SIGTERM.
// The second one exits with the code of its kind (130 or 143), without running
// deferred functions. The returned function stops the listening and cancels.
func Context(parent context.Context) (context.Context, context.CancelFunc) {
	ch := make(chan os.Signal, 2)
	signal.Notify(ch, syscall.SIGINT, syscall.SIGTERM)
	// Asked for, a write to a closed pipe is an error and not the end of the
	// process, which may have a refresh token in hand that is on no disk yet.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	ctx, cancel := watch(parent, ch, os.Exit)
	return ctx, func() {
		signal.Stop(ch)
		cancel()
	}
}

// watch does the work of Context on any channel; exit is os.Exit but in tests.
func watch(parent context.Context, ch <-chan os.Signal, exit func(int)) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(parent)
	stopped := make(chan struct{})
	go func() {
		select {
		case sig := <-ch:
			cancel(Cause(sig))
		case <-stopped:
			return
		}
		select {
		case sig := <-ch:
			exit(fault.KindOf(Cause(sig)).ExitCode())
		case <-stopped:
		}
	}()
	return ctx, sync.OnceFunc(func() {
		cancel(context.Canceled)
		close(stopped)
	})
}

// Cause returns the error that sig stands for.
func Cause(sig os.Signal) error {
	if sig == syscall.SIGTERM {
		return fault.Errorf(fault.Terminated, "cancelled by SIGTERM")
	}
	if sig == syscall.SIGINT {
		return fault.Errorf(fault.Interrupted, "cancelled by SIGINT")
	}
	return fmt.Errorf("cancelled by signal %v", sig)
}
