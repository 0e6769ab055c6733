package fs

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	iofs "io/fs"
	"os"

	"github.com/stella-ops/stella/internal/durable"
	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/objstore"
)

// Put implements objstore.Writer: the bytes go to a temporary file beside their
// place, are synced, renamed over it, and the directory is synced, as are those
// that had to be made. A crash may leave a temporary file.
func (s *Store) Put(ctx context.Context, key string, from io.ReadSeeker, size int64) (objstore.Info, error) {
	dirs, name, err := s.split(objstore.OpWrite, key)
	if err != nil {
		return objstore.Info{}, err
	}
	if err := objstore.Dead(ctx, objstore.OpWrite, s.place, key); err != nil {
		return objstore.Info{}, err
	}
	dir, err := s.descend(dirs, true)
	if err != nil {
		return objstore.Info{}, s.wrap(objstore.OpWrite, key, err)
	}
	defer s.leave(dir)
	p := put{ctx: ctx, s: s, dir: dir, key: key}
	stat, err := p.do(name, from, size)
	if err != nil {
		var own *fault.Error
		if dead := ctx.Err(); errors.As(err, &own) || dead != nil && errors.Is(err, dead) {
			return objstore.Info{}, err // it names the key already
		}
		return objstore.Info{}, s.wrap(objstore.OpWrite, key, err)
	}
	return describe(key, stat), nil
}

type put struct {
	ctx context.Context
	s   *Store
	dir *os.Root
	key string
}

func (p put) do(name string, from io.Reader, size int64) (os.FileInfo, error) {
	// The name may be as long as a name can be, so it is no part of this one.
	temp := tempPrefix + rand.Text()
	var f *os.File
	err := p.s.step(durable.StepTemp, temp, func() (err error) {
		f, err = p.dir.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, filePerm)
		return err
	})
	if f == nil {
		return nil, err
	}
	defer f.Close()
	if err == nil {
		err = p.fill(f, temp, from, size)
	}
	if err == nil {
		err = objstore.Dead(p.ctx, objstore.OpWrite, p.s.place, p.key)
	}
	if err == nil {
		err = p.s.step(durable.StepRename, name, func() error { return p.dir.Rename(temp, name) })
	}
	if err != nil {
		_ = p.dir.Remove(temp) // the write's error is the one to report
		return nil, err
	}
	if err := p.s.syncDir(p.dir, name); err != nil {
		return nil, err
	}
	return f.Stat()
}

func (p put) fill(f *os.File, temp string, from io.Reader, size int64) error {
	var n int64
	err := p.s.step(durable.StepWrite, temp, func() (err error) {
		n, err = io.Copy(f, io.LimitReader(aware{p, from}, size+1))
		return err
	})
	if err != nil {
		return err
	}
	if n != size {
		return fault.Errorf(fault.Input, "%s: the body has not the %d bytes that were announced", objstore.Naming(objstore.OpWrite, p.s.place, p.key), size)
	}
	return p.s.step(durable.StepSync, temp, f.Sync)
}

// aware stops reading when the context is over.
type aware struct {
	p    put
	from io.Reader
}

func (a aware) Read(b []byte) (int, error) {
	if err := objstore.Dead(a.p.ctx, objstore.OpWrite, a.p.s.place, a.p.key); err != nil {
		return 0, err
	}
	return a.from.Read(b)
}

// Delete implements objstore.Writer. Directories stay, also empty ones.
func (s *Store) Delete(ctx context.Context, key string) error {
	dirs, name, err := s.split(objstore.OpDelete, key)
	if err != nil {
		return err
	}
	if err := objstore.Dead(ctx, objstore.OpDelete, s.place, key); err != nil {
		return err
	}
	dir, err := s.descend(dirs, false)
	if errors.Is(err, iofs.ErrNotExist) || errors.Is(err, errNotDir) {
		return nil
	}
	if err != nil {
		return s.wrap(objstore.OpDelete, key, err)
	}
	defer s.leave(dir)
	if stat, err := dir.Lstat(name); err == nil && stat.IsDir() {
		return nil // no object has this key
	}
	err = s.step(durable.StepUnlink, name, func() error { return dir.Remove(name) })
	if err == nil || errors.Is(err, iofs.ErrNotExist) {
		err = s.syncDir(dir, name)
	}
	if err != nil {
		return s.wrap(objstore.OpDelete, key, err)
	}
	return nil
}

// makeDir makes a directory; another may be faster.
func makeDir(at *os.Root, name string) error {
	if err := at.Mkdir(name, dirPerm); err != nil && !errors.Is(err, iofs.ErrExist) {
		return err
	}
	return nil
}

// syncDir makes the entry of name in dir durable.
func (s *Store) syncDir(dir *os.Root, name string) error {
	return s.step(durable.StepSyncDir, name, func() error {
		f, err := dir.Open(".")
		if err != nil {
			return err
		}
		return errors.Join(f.Sync(), f.Close())
	})
}

func (s *Store) step(step durable.Step, name string, do func() error) error {
	return s.Hook.Do(step, name, do)
}
