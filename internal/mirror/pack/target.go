package pack

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/stella-ops/stella/internal/durable"
	"github.com/stella-ops/stella/internal/fault"
)

const tempPrefix = ".tmp-" // as in package durable: no name of a pack begins with it

// target is a folder that a pack is written to, locked.
type target struct {
	*durable.Dir
	root *os.Root
	lock *os.File
}

// openTarget opens the folder, making it if its parent is there. It is locked
// without a file of its own: a stick keeps nothing but the pack.
func openTarget(path string, create bool) (*target, error) {
	open := durable.Open
	if create {
		open = func(p string) (*durable.Dir, error) { return durable.Create(p, 0o755) }
	}
	d, err := open(path)
	if err != nil {
		return nil, fault.Errorf(fault.Input, "the folder for the pack: %w", full(err)).Hint("install -d %s", filepath.Dir(path))
	}
	t := &target{Dir: d}
	if t.root, err = os.OpenRoot(path); err == nil {
		t.lock, err = t.root.Open(".")
	}
	if err == nil && create {
		err = syscall.Flock(int(t.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = fault.Errorf(fault.Locked, "another run writes a pack to %q", path).Hint("wait for that run to end, then try again")
		} else if err != nil {
			err = nil // some network file systems have no locks for folders
		}
	}
	if err != nil {
		return nil, errors.Join(err, t.close())
	}
	return t, nil
}

func (t *target) close() error {
	err := t.Close()
	if t.root != nil {
		err = errors.Join(err, t.root.Close())
	}
	if t.lock != nil {
		err = errors.Join(err, t.lock.Close())
	}
	return err
}

// small reads one of the small files; nil when it is not there.
func (t *target) small(name string, limit int64) ([]byte, error) {
	info, err := t.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil && !info.Mode().IsRegular() {
		return nil, irregular(t.Path(), name, info.Mode())
	}
	return t.Read(name, limit)
}

func irregular(dir, name string, mode fs.FileMode) error {
	return fault.Errorf(fault.Input, "%q in %q is no regular file (%s)", name, dir, mode).
		Hint("see what it is, then remove it: ls -l %s", filepath.Join(dir, name))
}

// existing opens a segment that is there with the right size; nil for none.
func (t *target) existing(s Segment) (*os.File, error) {
	info, err := t.Stat(s.Name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, irregular(t.Path(), s.Name, info.Mode())
	case info.Size() != s.Size:
		return nil, nil
	}
	return t.root.OpenFile(s.Name, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
}

// compare is a writer that wants the bytes of a file.
type compare struct {
	f       io.Reader
	buf     []byte
	differs bool
}

func (c *compare) Write(p []byte) (int, error) {
	if c.differs {
		return len(p), nil
	}
	if len(c.buf) < len(p) {
		c.buf = make([]byte, len(p))
	}
	n, err := io.ReadFull(c.f, c.buf[:len(p)])
	// An error of the medium too means that this segment is to be written anew.
	c.differs = err != nil || string(c.buf[:n]) != string(p)
	return len(p), nil
}

// segment writes one segment, durably, with what fill writes; it has its name
// only then.
func (t *target) segment(ctx context.Context, name string, fill func(io.Writer) error) (err error) {
	temp := tempPrefix + name
	if err := t.root.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing what is left of %s: %w", name, err)
	}
	var f *os.File
	err = t.step(durable.StepTemp, temp, func() (err error) {
		f, err = t.root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		return err
	})
	if f == nil {
		return full(err)
	}
	defer func() {
		_ = f.Close() // again, when all went well: that is no harm
		if err != nil {
			_ = t.root.Remove(temp)
		}
	}()
	if err != nil {
		return full(err)
	}
	w := bufio.NewWriterSize(&stepWriter{t, temp, f}, 4*chunk)
	if err := fill(w); err != nil {
		return full(err)
	}
	if err := w.Flush(); err != nil {
		return full(err)
	}
	if err := t.step(durable.StepSync, temp, f.Sync); err != nil {
		return full(fmt.Errorf("writing %q in %q: %w", name, t.Path(), err))
	}
	if err := f.Close(); err != nil {
		return full(fmt.Errorf("writing %q in %q: %w", name, t.Path(), err))
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if err := t.step(durable.StepRename, name, func() error { return t.root.Rename(temp, name) }); err != nil {
		return full(fmt.Errorf("writing %q in %q: %w", name, t.Path(), err))
	}
	if err := t.step(durable.StepSyncDir, name, t.lock.Sync); err != nil {
		return full(fmt.Errorf("syncing directory of %q in %q: %w", name, t.Path(), err))
	}
	return nil
}

type stepWriter struct {
	t    *target
	temp string
	f    *os.File
}

func (w *stepWriter) Write(p []byte) (n int, err error) {
	err = w.t.step(durable.StepWrite, w.temp, func() (err error) { n, err = w.f.Write(p); return err })
	return n, err
}

func (t *target) step(s durable.Step, name string, do func() error) error {
	return t.Hook.Do(s, name, do)
}

// room refuses to begin what cannot end.
func (t *target) room(need int64) error {
	var at unix.Statfs_t
	if err := unix.Fstatfs(int(t.lock.Fd()), &at); err != nil {
		return nil // then the write will tell
	}
	if free := int64(at.Bavail) * at.Bsize; free < need {
		return full(fmt.Errorf("%q has room for %d bytes, what is left of the pack needs %d: %w", t.Path(), free, need, unix.ENOSPC))
	}
	return nil
}

// full says what to do when a medium is full; other errors pass.
func full(err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fault.Errorf(fault.Transient, "%w", err).
			Hint("the segments that are there are whole and stay; make room, or move them to a larger medium, and run the same command again")
	case errors.Is(err, syscall.EFBIG):
		return fault.Errorf(fault.Input, "%w", err).Hint("this file system wants smaller files: use a smaller segment size and an empty folder")
	}
	return err
}
