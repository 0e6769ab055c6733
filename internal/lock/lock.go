// Package lock gives one run at a time exclusive use of something named.
//
// It guarantees mutual exclusion between processes on one host by flock(2):
// the lock disappears with its holder, whatever way that ends, and no stale
// file ever blocks the next run.
package lock

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"github.com/stella-ops/stella/internal/fault"
)

// Lock is a held lock.
type Lock struct{ f *flock.Flock }

// Acquire takes the lock file at path, creating it with mode 0600. It waits at
// most wait (zero: not at all) for another holder; then the error is of kind
// Locked and names what the holder wrote. who describes this run for others.
func Acquire(ctx context.Context, path, who string, wait time.Duration) (*Lock, error) {
	f := flock.New(path, flock.SetPermissions(0o600))
	ok, err := f.TryLock()
	if err == nil && !ok && wait > 0 {
		wctx, cancel := context.WithTimeout(ctx, wait)
		defer cancel()
		ok, err = f.TryLockContext(wctx, 25*time.Millisecond)
		if ctx.Err() == nil && wctx.Err() != nil {
			err = nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("locking %q: %w", path, err)
	}
	if !ok {
		return nil, fault.Errorf(fault.Locked, "%q is locked by %s", path, holder(path)).
			Hint("wait for that run to end, then try again")
	}
	// What is written is only a courtesy to the next in line.
	_ = os.WriteFile(path, fmt.Appendf(nil, "%s (pid %d)\n", who, os.Getpid()), 0o600)
	return &Lock{f}, nil
}

// Release gives the lock back.
func (l *Lock) Release() error { return l.f.Unlock() }

func holder(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return "another run"
	}
	defer f.Close()
	buf := make([]byte, 200)
	n, _ := f.Read(buf)
	line, _, _ := strings.Cut(string(buf[:n]), "\n")
	if line == "" {
		return "another run"
	}
	return fmt.Sprintf("%.150q", line)
}
