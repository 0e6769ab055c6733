// Package fs is an objstore.Store in a directory.
//
// It guarantees what objstore promises; that nothing outside the directory is
// touched; and that only regular files are read: a symbolic link, device, FIFO
// or socket at any point below the directory is refused as ErrIrregular, and
// opening one never blocks. The directory itself may be a link and is resolved
// once, by Open: a link that is switched later does not mix two trees.
//
// A key is a path. So a key cannot exist beside keys below it ("a" and "a/b"),
// which other stores allow, and a directory is no object. Names that begin with
// ".tmp-" belong to unfinished Puts: no key, and not listed.
package fs

import (
	"errors"
	"fmt"

	iofs "io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/stella-ops/stella/internal/durable"
	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/objstore"
)

const tempPrefix = ".tmp-"

// errNotDir: part of the path is a file.
const errNotDir = syscall.ENOTDIR

// Modes of what Put makes, before the umask.
const (
	filePerm = 0o644
	dirPerm  = 0o755
)

// Store is an open directory. It is safe for concurrent use, also beside other
// processes. Hook, if not nil, decides the fate of the steps of Put and Delete
// in tests; it may be set while none runs.
type Store struct {
	Hook  durable.Hook
	root  *os.Root
	place string
}

var _ objstore.Store = (*Store)(nil)

// Open opens an existing directory by its absolute or relative path. A missing
// one is of kind NotFound: creating state is a separate act.
func Open(dir string) (*Store, error) {
	abs, err := filepath.Abs(dir)
	if err == nil {
		abs, err = filepath.EvalSymlinks(abs)
	}
	var root *os.Root
	if err == nil {
		var info os.FileInfo
		if info, err = os.Stat(abs); err == nil && !info.IsDir() { // of a FIFO the open would wait
			err = syscall.ENOTDIR
		}
	}
	if err == nil {
		root, err = os.OpenRoot(abs)
	}
	switch {
	case errors.Is(err, iofs.ErrNotExist):
		return nil, fault.Errorf(fault.NotFound, "opening directory %q: %w", dir, err)
	case errors.Is(err, iofs.ErrPermission):
		return nil, fault.Errorf(fault.Denied, "opening directory %q: %w", dir, err)
	case err != nil:
		return nil, fault.Errorf(fault.Input, "opening directory %q: %w", dir, err)
	}
	return &Store{root: root, place: (&url.URL{Scheme: string(objstore.File), Path: abs}).String()}, nil
}

// Close releases the directory. Bodies that are open stay so.
func (s *Store) Close() error { return s.root.Close() }

// Place implements objstore.Reader.
func (s *Store) Place() string { return s.place }

// split gives the elements of a key, or refuses it.
func (s *Store) split(op objstore.Op, key string) (dirs []string, name string, err error) {
	err = objstore.CheckKey(key)
	elements := strings.Split(key, "/")
	for _, e := range elements {
		if err == nil && strings.HasPrefix(e, tempPrefix) {
			err = fmt.Errorf("%w: names that begin with %q are kept for unfinished files", objstore.ErrKey, tempPrefix)
		}
	}
	if err != nil {
		return nil, "", fault.Errorf(fault.Input, "%s: %w", objstore.Naming(op, s.place, key), err)
	}
	last := len(elements) - 1
	return elements[:last], elements[last], nil
}

// descend opens the directory that dirs lead to, without following a link.
// With create, missing ones are made, durably. The caller closes the result if
// it is not s.root.
func (s *Store) descend(dirs []string, create bool) (*os.Root, error) {
	at := s.root
	for _, name := range dirs {
		next, err := enter(at, name)
		if create && errors.Is(err, iofs.ErrNotExist) {
			if err = makeDir(at, name); err == nil {
				next, err = enter(at, name)
			}
		}
		if create && err == nil {
			// Also of one that was there: who made it may not have come to it.
			if err = s.syncDir(at, name); err != nil {
				next.Close()
			}
		}
		s.leave(at)
		if err != nil {
			return nil, err
		}
		at = next
	}
	return at, nil
}

// leave closes a directory that descend opened.
func (s *Store) leave(dir *os.Root) {
	if dir != s.root {
		dir.Close()
	}
}

// enter opens a directory in another one; a link is refused also when it is
// put there in the middle of it.
func enter(at *os.Root, name string) (*os.Root, error) {
	seen, err := at.Lstat(name)
	if err != nil {
		return nil, err
	}
	switch {
	case seen.Mode().IsRegular():
		return nil, syscall.ENOTDIR
	case !seen.IsDir():
		return nil, irregular{name, seen.Mode()}
	}
	next, err := at.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	if got, err := next.Stat("."); err != nil || !os.SameFile(seen, got) {
		next.Close()
		return nil, errors.Join(err, objstore.ErrChanged)
	}
	return next, nil
}

// openFile opens a regular file; a link is refused also when it is put there
// in the middle of it.
func openFile(at *os.Root, name string) (*os.File, os.FileInfo, error) {
	seen, err := at.Lstat(name)
	if err != nil {
		return nil, nil, err
	}
	switch {
	case seen.IsDir():
		return nil, nil, iofs.ErrNotExist
	case !seen.Mode().IsRegular():
		return nil, nil, irregular{name, seen.Mode()}
	}
	f, err := at.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	got, err := f.Stat()
	switch {
	case err == nil && !got.Mode().IsRegular():
		err = irregular{name, got.Mode()}
	case err == nil && !os.SameFile(seen, got):
		// Replaced between the two calls, as Put does it: that is no harm, if
		// it is not by a link that led elsewhere.
		if again, lerr := at.Lstat(name); lerr != nil || !os.SameFile(again, got) {
			err = errors.Join(lerr, objstore.ErrChanged)
		}
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, got, nil
}

// irregular says what is there in place of a file.
type irregular struct {
	name string
	mode os.FileMode
}

func (i irregular) Error() string {
	what := "special file"
	switch m := i.mode; {
	case m&os.ModeSymlink != 0:
		what = "symbolic link"
	case m&os.ModeNamedPipe != 0:
		what = "FIFO"
	case m&os.ModeSocket != 0:
		what = "socket"
	case m&os.ModeDevice != 0:
		what = "device"
	}
	return fmt.Sprintf("%.200q is a %s", i.name, what)
}

// wrap gives an error of the operating system its sentinel and kind.
func (s *Store) wrap(op objstore.Op, key string, err error) error {
	var kind irregular
	switch {
	case errors.As(err, &kind):
		return objstore.Fail(op, s.place, key, objstore.ErrIrregular, kind).
			Hint("replace it by a plain file or directory, or remove it")
	case errors.Is(err, objstore.ErrChanged):
		return objstore.Fail(op, s.place, key, objstore.ErrChanged, nil)
	case op != objstore.OpWrite && (errors.Is(err, iofs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)):
		return objstore.Fail(op, s.place, key, objstore.ErrNotFound, nil)
	case errors.Is(err, iofs.ErrPermission):
		return objstore.Fail(op, s.place, key, objstore.ErrDenied, plain(err)).
			Hint("check owner and mode of the file and of each directory above it")
	case errors.Is(err, syscall.ENAMETOOLONG), errors.Is(err, syscall.EILSEQ):
		return objstore.Fail(op, s.place, key, objstore.ErrKey, plain(err))
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EISDIR), errors.Is(err, iofs.ErrExist):
		return objstore.Fail(op, s.place, key, objstore.ErrKey, errors.New("a file cannot be where a directory is, nor below a file"))
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fault.Errorf(fault.Unclassified, "%s: %w", objstore.Naming(op, s.place, key), plain(err)).
			Hint("make room on the file system of %s; what was there before is unharmed", s.place)
	}
	return fmt.Errorf("%s: %w", objstore.Naming(op, s.place, key), plain(err))
}

// plain takes off what the message names already.
func plain(err error) error {
	var path *iofs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	var link *os.LinkError
	if errors.As(err, &link) {
		return link.Err
	}
	return err
}
