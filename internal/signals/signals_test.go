package signals

import (
	"context"
	"os"
	"syscall"
	"testing"

	"github.com/stella-ops/stella/internal/fault"
)

func TestWatch(t *testing.T) {
	for sig, want := range map[os.Signal]fault.Kind{syscall.SIGINT: fault.Interrupted, syscall.SIGTERM: fault.Terminated} {
		ch, exited := make(chan os.Signal), make(chan int, 1)
		ctx, stop := watch(t.Context(), ch, func(code int) { exited <- code })
		ch <- sig
		<-ctx.Done()
		if got := fault.KindOf(context.Cause(ctx)); got != want {
			t.Errorf("%v ends the context with %v", sig, got)
		}
		ch <- syscall.SIGTERM // the second one ends the process, whatever the first was
		if code := <-exited; code != 143 {
			t.Errorf("a second signal exits with %d", code)
		}
		stop()
		stop() // may be called again
	}
}

func TestStopCancels(t *testing.T) {
	ctx, stop := Context(t.Context())
	stop()
	<-ctx.Done()
	if fault.KindOf(context.Cause(ctx)) != fault.Interrupted {
		t.Errorf("cause is %v", context.Cause(ctx))
	}
}

func TestContextHears(t *testing.T) {
	ctx, stop := Context(t.Context())
	defer stop()
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-ctx.Done()
	if fault.KindOf(context.Cause(ctx)) != fault.Terminated {
		t.Errorf("cause is %v", context.Cause(ctx))
	}
}

func TestCauseOfOthers(t *testing.T) {
	if got := fault.KindOf(Cause(syscall.SIGQUIT)); got != fault.Unclassified {
		t.Errorf("SIGQUIT is %v", got)
	}
}
