// Package durable writes files that survive a crash.
//
// It guarantees that after a call returns nil the named file holds exactly the
// given bytes on stable storage, that a reader never sees a partial file under
// its final name, and that after a crash or an error each file is as it was
// before the call or as it is after it. Every step can be made to fail in
// tests, with or without its effect (see Hook).
package durable

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Step names one system call of a write, in the order in which they happen.
type Step string

// The steps of a write.
const (
	StepTemp    Step = "temp"    // create the temporary file
	StepWrite   Step = "write"   // write its bytes
	StepSync    Step = "sync"    // fsync the file
	StepLink    Step = "link"    // link under the final name; fails if it exists
	StepRename  Step = "rename"  // rename over the final name
	StepUnlink  Step = "unlink"  // remove the temporary or the named file
	StepSyncDir Step = "syncdir" // fsync the directory
)

// Hook decides the fate of a step in tests. With a nil error the step runs as
// usual. With an error the step reports that error: after having its effect
// when apply is true (fail-but-persist), without it when apply is false
// (fail-and-vanish).
type Hook func(step Step, name string) (apply bool, err error)

// Do runs a step, or what the hook makes of it. A nil Hook runs it as usual.
func (h Hook) Do(s Step, name string, do func() error) error {
	if h != nil {
		if apply, err := h(s, name); err != nil {
			if apply {
				return errors.Join(err, do())
			}
			return err
		}
	}
	return do()
}

// Dir is an open directory. Names are single path elements; everything else
// is refused by the operating system's root confinement. It is safe for
// concurrent use, also by other processes.
type Dir struct {
	root *os.Root
	dir  *os.File
	Hook Hook
}

const tempPrefix = ".tmp-"

// Open opens an existing directory. A missing one is an error: creating state
// is a separate, explicit act.
func Open(path string) (*Dir, error) {
	if info, err := os.Stat(path); err == nil && !info.IsDir() { // of a FIFO the open would wait
		return nil, fmt.Errorf("opening directory %q: %w", path, syscall.ENOTDIR)
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, fmt.Errorf("opening directory %q: %w", path, err)
	}
	dir, err := root.Open(".")
	if err != nil {
		root.Close()
		return nil, fmt.Errorf("opening directory %q: %w", path, err)
	}
	return &Dir{root: root, dir: dir}, nil
}

// Create makes the directory with mode perm if it is missing, makes its entry
// in the parent durable, and opens it.
func Create(path string, perm fs.FileMode) (*Dir, error) {
	err := os.Mkdir(path, perm)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("creating directory: %w", err)
	}
	if err == nil {
		parent, err := os.Open(filepath.Dir(path))
		if err != nil {
			return nil, fmt.Errorf("opening parent of %q: %w", path, err)
		}
		err = errors.Join(parent.Sync(), parent.Close())
		if err != nil {
			return nil, fmt.Errorf("syncing parent of %q: %w", path, err)
		}
	}
	return Open(path)
}

// Close releases the directory.
func (d *Dir) Close() error { return errors.Join(d.dir.Close(), d.root.Close()) }

// Path returns the path the directory was opened with.
func (d *Dir) Path() string { return d.root.Name() }

// Write replaces name atomically with data and mode perm.
func (d *Dir) Write(name string, data []byte, perm fs.FileMode) error {
	return d.place(name, data, perm, func(temp string) error {
		return d.step(StepRename, name, func() error { return d.root.Rename(temp, name) })
	})
}

// Create writes name atomically only if no such file exists; otherwise the
// error is fs.ErrExist and the existing file is untouched. Of several
// concurrent creators, in any number of processes, exactly one succeeds.
func (d *Dir) Create(name string, data []byte, perm fs.FileMode) error {
	return d.place(name, data, perm, func(temp string) error {
		err := d.step(StepLink, name, func() error { return d.root.Link(temp, name) })
		if err != nil {
			return err
		}
		// The name is taken; a left-over temporary file harms nobody and is
		// swept by the next Sweep, so its removal may fail without a report.
		_ = d.step(StepUnlink, temp, func() error { return d.root.Remove(temp) })
		return nil
	})
}

func (d *Dir) place(name string, data []byte, perm fs.FileMode, publish func(temp string) error) error {
	temp := tempPrefix + name + "-" + rand.Text()[:10]
	err := d.writeTemp(temp, data, perm)
	if err == nil {
		err = publish(temp)
	}
	if err != nil {
		_ = d.root.Remove(temp)
		return fmt.Errorf("writing %q in %q: %w", name, d.Path(), err)
	}
	if err := d.step(StepSyncDir, name, d.dir.Sync); err != nil {
		return fmt.Errorf("syncing directory of %q in %q: %w", name, d.Path(), err)
	}
	return nil
}

func (d *Dir) writeTemp(temp string, data []byte, perm fs.FileMode) error {
	var f *os.File
	err := d.step(StepTemp, temp, func() (err error) {
		f, err = d.root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
		return err
	})
	if f == nil {
		return err
	}
	defer f.Close()
	if err != nil {
		return err
	}
	if err := f.Chmod(perm); err != nil {
		return err
	}
	err = d.step(StepWrite, temp, func() error { _, err := f.Write(data); return err })
	if err != nil {
		return err
	}
	if err := d.step(StepSync, temp, f.Sync); err != nil {
		return err
	}
	return f.Close()
}

// Moved reports, as an error, that the path no longer leads to the directory
// that was opened: it was renamed, removed, or another one was put there.
func (d *Dir) Moved() error {
	here, err := os.Stat(d.Path())
	if err != nil {
		return fmt.Errorf("looking for directory %q: %w", d.Path(), err)
	}
	open, err := d.dir.Stat()
	if err != nil {
		return fmt.Errorf("looking at open directory %q: %w", d.Path(), err)
	}
	if !os.SameFile(here, open) {
		return fmt.Errorf("directory %q was replaced since it was opened", d.Path())
	}
	return nil
}

// Remove removes name durably, with what a crash during its creation may have
// left beside it. A missing file is not an error.
func (d *Dir) Remove(name string) error {
	if err := d.removeTemps(tempPrefix + name + "-"); err != nil {
		return err
	}
	err := d.step(StepUnlink, name, func() error { return d.root.Remove(name) })
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing %q in %q: %w", name, d.Path(), err)
	}
	if err := d.step(StepSyncDir, name, d.dir.Sync); err != nil {
		return fmt.Errorf("syncing directory of %q in %q: %w", name, d.Path(), err)
	}
	return nil
}

// Read returns the file's bytes; a file larger than limit bytes is an error.
func (d *Dir) Read(name string, limit int64) ([]byte, error) {
	f, err := d.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) // of a FIFO it would wait
	if err != nil {
		return nil, fmt.Errorf("reading %q in %q: %w", name, d.Path(), err)
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("reading %q in %q: not a regular file", name, d.Path())
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("reading %q in %q: %w", name, d.Path(), err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("reading %q in %q: larger than %d bytes", name, d.Path(), limit)
	}
	return data, nil
}

// Stat returns the file's metadata without following a symbolic link.
func (d *Dir) Stat(name string) (fs.FileInfo, error) { return d.root.Lstat(name) }

// Names returns the names of the directory's files in lexical order, without
// temporary files.
func (d *Dir) Names() ([]string, error) {
	entries, err := fs.ReadDir(d.root.FS(), ".")
	if err != nil {
		return nil, fmt.Errorf("listing %q: %w", d.Path(), err)
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), tempPrefix) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

func (d *Dir) removeTemps(prefix string) error {
	entries, err := fs.ReadDir(d.root.FS(), ".")
	if err != nil {
		return fmt.Errorf("listing %q: %w", d.Path(), err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), prefix) {
			continue
		}
		if err := d.root.Remove(e.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("removing left-over %q in %q: %w", e.Name(), d.Path(), err)
		}
	}
	return nil
}

func (d *Dir) step(s Step, name string, do func() error) error { return d.Hook.Do(s, name, do) }
