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
	"syscall"
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
	// An open that waits for nobody: of a FIFO it would wait for a writer.
	f := flock.New(path, flock.SetPermissions(0o600), flock.SetFlag(os.O_CREATE|os.O_RDWR|careful))
	if err := regular(path); err != nil {
		return nil, err
	}
	ok, err := f.TryLock()
	if err == nil && !ok && wait > 0 {
		wctx, cancel := context.WithTimeout(ctx, wait)
		defer cancel()
		ok, err = f.TryLockContext(wctx, 25*time.Millisecond)
		if ctx.Err() == nil && wctx.Err() != nil {
			err = nil
		}
	}
	if err == nil && ok {
		err = regular(path) // it may have come meanwhile
		if err != nil {
			_ = f.Unlock()
			return nil, err
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
	if h, err := open(path, os.O_WRONLY|os.O_TRUNC); err == nil {
		_, _ = fmt.Fprintf(h, "%s (pid %d)\n", who, os.Getpid())
		_ = h.Close()
	}
	return &Lock{f}, nil
}

// careful opens nothing through a symbolic link and waits for nobody.
const careful = syscall.O_NONBLOCK | syscall.O_NOFOLLOW

// regular refuses whatever lies at path and is no file. Nothing there is fine.
func regular(path string) error {
	info, err := os.Lstat(path)
	if err != nil || info.Mode().IsRegular() {
		return nil
	}
	return fault.Errorf(fault.Config, "locking %q: it is no regular file (%s)", path, info.Mode()).
		Hint("see what it is, then remove it: ls -l %s", path)
}

func open(path string, flag int) (*os.File, error) {
	f, err := os.OpenFile(path, flag|careful, 0)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		_ = f.Close()
		return nil, fmt.Errorf("%q is no regular file", path)
	}
	return f, nil
}

// Release gives the lock back.
func (l *Lock) Release() error { return l.f.Unlock() }

func holder(path string) string {
	f, err := open(path, os.O_RDONLY)
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
