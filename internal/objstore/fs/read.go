package fs

import (
	"context"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/objstore"
)

// Open implements objstore.Reader. A file that is written in place while it is
// read ends in ErrChanged; one that is replaced, as Put does, is read to the
// end of its old bytes.
func (s *Store) Open(ctx context.Context, key string, g objstore.Get) (*objstore.Object, error) {
	if err := g.Check(); err != nil {
		return nil, fault.Errorf(fault.Input, "%s: %w", objstore.Naming(objstore.OpRead, s.place, key), err)
	}
	dirs, name, err := s.split(objstore.OpRead, key)
	if err != nil {
		return nil, err
	}
	if err := objstore.Dead(ctx, objstore.OpRead, s.place, key); err != nil {
		return nil, err
	}
	dir, err := s.descend(dirs, false)
	if err != nil {
		return nil, s.wrap(objstore.OpRead, key, err)
	}
	defer s.leave(dir)
	f, stat, err := openFile(dir, name)
	if err != nil {
		return nil, s.wrap(objstore.OpRead, key, err)
	}
	o, err := s.object(ctx, key, g, f, stat)
	if err != nil {
		f.Close()
	}
	return o, err
}

func (s *Store) object(ctx context.Context, key string, g objstore.Get, f *os.File, stat os.FileInfo) (*objstore.Object, error) {
	info := describe(key, stat)
	fail := func(why error) (*objstore.Object, error) {
		return nil, objstore.Fail(objstore.OpRead, s.place, key, why, nil)
	}
	switch {
	case g.IfMatch != "" && g.IfMatch != info.ETag:
		return fail(objstore.ErrChanged)
	case g.IfNoneMatch == info.ETag:
		return fail(objstore.ErrNotModified)
	case g.Offset > 0 && g.Offset >= info.Size:
		return fail(objstore.ErrRange)
	}
	if _, err := f.Seek(g.Offset, io.SeekStart); err != nil {
		return nil, s.wrap(objstore.OpRead, key, err)
	}
	left := info.Size - g.Offset
	if g.Length > 0 {
		left = min(left, g.Length)
	}
	return &objstore.Object{Info: info, Offset: g.Offset, Body: &body{ctx: ctx, s: s, key: key, f: f, was: stat, left: left}}, nil
}

// describe makes the Info of a file. The tag changes with each Put, and with
// each write that the file system can tell: by length or by clock.
func describe(key string, stat os.FileInfo) objstore.Info {
	info := objstore.Info{Key: key, Size: stat.Size(), Modified: stat.ModTime()}
	if sys, ok := stat.Sys().(*syscall.Stat_t); ok {
		info.ETag = fmt.Sprintf(`"%x-%x-%x-%x-%x"`, sys.Dev, sys.Ino, stat.Size(), stat.ModTime().UnixNano(), sys.Ctim.Nano())
	}
	return info
}

// body is a file that must not change until its last byte is out.
type body struct {
	ctx  context.Context
	s    *Store
	key  string
	f    *os.File
	was  os.FileInfo
	left int64
}

func (b *body) Read(p []byte) (int, error) {
	if err := objstore.Dead(b.ctx, objstore.OpRead, b.s.place, b.key); err != nil {
		return 0, err
	}
	if b.left == 0 {
		return 0, b.settle()
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.f.Read(p)
	b.left -= int64(n)
	switch {
	case err == io.EOF: // before the length that it had
		return n, objstore.Fail(objstore.OpRead, b.s.place, b.key, objstore.ErrChanged, nil)
	case err != nil:
		return n, b.s.wrap(objstore.OpRead, b.key, err)
	}
	return n, nil
}

// settle says io.EOF if the file is as it was when it was opened.
func (b *body) settle() error {
	is, err := b.f.Stat()
	switch {
	case err != nil:
		return b.s.wrap(objstore.OpRead, b.key, err)
	case is.Size() != b.was.Size() || !is.ModTime().Equal(b.was.ModTime()):
		return objstore.Fail(objstore.OpRead, b.s.place, b.key, objstore.ErrChanged, nil)
	}
	return io.EOF
}

func (b *body) Close() error { return b.f.Close() }
