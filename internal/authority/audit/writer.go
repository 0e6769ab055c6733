package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/stella-ops/stella/internal/fault"
)

// target is the part of *os.File that a writer uses.
type target interface {
	Write(p []byte) (int, error)
	Sync() error
	Close() error
}

// openTarget opens path for appending. A last line that a crash cut short is
// ended, so that the next record stands alone.
func openTarget(path string) (target, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fault.Errorf(fault.Config, "opening the audit file: %w", err)
	}
	if err := checkTarget(f, path); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func checkTarget(f *os.File, path string) error {
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("opening the audit file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return fault.Errorf(fault.Config, "audit file %q is not a regular file", path)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fault.Errorf(fault.Config, "audit file %q can be used by group or others (mode %#o); it names people", path, mode).
			Hint("chmod 600 %s", path)
	}
	if info.Size() == 0 {
		return nil
	}
	var last [1]byte
	if _, err := f.ReadAt(last[:], info.Size()-1); err != nil {
		return fmt.Errorf("reading the end of the audit file: %w", err)
	}
	if last[0] != '\n' {
		if _, err := f.Write([]byte{'\n'}); err != nil {
			return fmt.Errorf("ending the last line of the audit file: %w", err)
		}
	}
	return nil
}

// writer is the goroutine behind a File: nothing else touches the target, so
// that a disk that hangs holds up nobody else.
type writer struct {
	*File
	to     target
	torn   bool // the file ends inside a line
	dirty  bool // something is not synced
	synced chan error
}

func (w *writer) run() {
	defer close(w.ended)
	w.synced = make(chan error, 1)
	tick := time.NewTicker(w.o.Sync)
	defer tick.Stop()
	syncing := false
	for {
		select {
		case j := <-w.queue:
			w.put(j)
		case <-tick.C:
			if w.dirty && !syncing {
				w.dirty, syncing = false, true
				go func(t target) { w.synced <- t.Sync() }(w.to)
			}
		case err := <-w.synced:
			syncing = false
			w.report(err)
		case o := <-w.orders:
			if o.end {
				o.done <- w.finish(syncing)
				return
			}
			o.done <- w.reopen()
		}
	}
}

// put writes one line with one call. After a line that was cut short (a full
// disk) the next begins with a newline of its own.
func (w *writer) put(j *job) {
	line := j.line
	if w.torn {
		line = append([]byte{'\n'}, line...)
	}
	n, err := w.to.Write(line)
	if n > 0 {
		w.torn, w.dirty = n < len(line) && line[n-1] != '\n', true
	}
	j.done <- err // before worked: who gave up on j then sees one of the two
	if err == nil {
		w.worked()
	}
}

// report counts a failed sync as one record that is late.
func (w *writer) report(err error) {
	if err != nil && !errors.Is(err, fs.ErrClosed) {
		w.dirty = true
		w.o.Failed()
		w.o.Log.Error("audit file not synced", "audit_file", w.path, "err", err)
	}
}

func (w *writer) reopen() error {
	next, err := w.open(w.path)
	if err != nil {
		return err
	}
	old := w.to
	w.to, w.torn, w.dirty = next, false, false
	return errors.Join(wrap("syncing", w.path, old.Sync()), wrap("closing", w.path, old.Close()))
}

// finish writes what waits and closes.
func (w *writer) finish(syncing bool) error {
	for {
		select {
		case j := <-w.queue:
			w.put(j)
			continue
		default:
		}
		break
	}
	if syncing {
		w.report(<-w.synced)
	}
	return errors.Join(wrap("syncing", w.path, w.to.Sync()), wrap("closing", w.path, w.to.Close()))
}

func wrap(doing, path string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s the audit file %q: %w", doing, path, err)
}
