package fs

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	iofs "io/fs"
	"os"

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
	f, err := p.dir.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, filePerm)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	err = p.fill(f, from, size)
	if err == nil {
		err = objstore.Dead(p.ctx, objstore.OpWrite, p.s.place, p.key)
	}
	if err == nil {
		err = p.dir.Rename(temp, name)
	}
	if err != nil {
		_ = p.dir.Remove(temp) // the write's error is the one to report
		return nil, err
	}
	if err := syncDir(p.dir); err != nil {
		return nil, err
	}
	return f.Stat()
}

func (p put) fill(f *os.File, from io.Reader, size int64) error {
	n, err := io.Copy(f, io.LimitReader(aware{p, from}, size+1))
	if err != nil {
		return err
	}
	if n != size {
		return fault.Errorf(fault.Input, "%s: the body has not the %d bytes that were announced", objstore.Naming(objstore.OpWrite, p.s.place, p.key), size)
	}
	return f.Sync()
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
	err = dir.Remove(name)
	if err == nil || errors.Is(err, iofs.ErrNotExist) {
		err = syncDir(dir)
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

func syncDir(dir *os.Root) error {
	f, err := dir.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
