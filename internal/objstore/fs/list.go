package fs

import (
	"context"
	"errors"
	iofs "io/fs"
	"os"
	"slices"
	"strings"

	"github.com/stella-ops/stella/internal/objstore"
)

// List implements objstore.Reader. A link, device, FIFO or socket among the
// names that prefix covers is an error, and so is a tree that is deeper than a
// key may be. The names of one directory at a time, and of those above it, are
// held in memory.
func (s *Store) List(ctx context.Context, prefix string, each func(objstore.Info) error) error {
	w := walk{s: s, ctx: ctx, prefix: prefix, each: each}
	// Only the directories that prefix names are entered at all.
	start := ""
	if i := strings.LastIndexByte(prefix, '/'); i >= 0 {
		start = prefix[:i]
	}
	if err := objstore.Dead(ctx, objstore.OpList, s.place, prefix); err != nil {
		return err
	}
	if start == "" {
		if prefix != "" && prefix[0] == '/' {
			return nil // no key begins so
		}
		return w.dir(s.root, "", 1)
	}
	if objstore.CheckKey(start) != nil {
		return nil
	}
	elements := strings.Split(start, "/")
	dir, err := s.descend(elements, false)
	if errors.Is(err, iofs.ErrNotExist) || errors.Is(err, errNotDir) {
		return nil // nothing begins with prefix
	}
	if err != nil {
		return s.wrap(objstore.OpList, start, err)
	}
	defer s.leave(dir)
	return w.dir(dir, start+"/", len(elements)+1)
}

// walk is one listing.
type walk struct {
	s      *Store
	ctx    context.Context
	prefix string
	each   func(objstore.Info) error
}

// dir lists a directory whose keys begin with at.
func (w *walk) dir(dir *os.Root, at string, depth int) error {
	names, err := w.names(dir, at)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := objstore.Dead(w.ctx, objstore.OpList, w.s.place, w.prefix); err != nil {
			return err
		}
		name, isDir := strings.CutSuffix(name, "/")
		key := at + name
		switch {
		case isDir && !strings.HasPrefix(key+"/", w.prefix) && !strings.HasPrefix(w.prefix, key+"/"),
			!isDir && !strings.HasPrefix(key, w.prefix):
			continue
		}
		if err := objstore.CheckListed(w.s.place, key); err != nil {
			return err // too deep, too long or unprintable
		}
		if isDir {
			err = w.sub(dir, name, key, depth)
		} else {
			err = w.file(dir, name, key)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// names gives the names in a directory in the order of the keys they begin,
// those of directories with a slash behind them.
func (w *walk) names(dir *os.Root, at string) ([]string, error) {
	f, err := dir.Open(".")
	if err != nil {
		return nil, w.s.wrap(objstore.OpList, at, err)
	}
	defer f.Close()
	entries, err := f.ReadDir(-1)
	if err != nil {
		return nil, w.s.wrap(objstore.OpList, at, err)
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		switch {
		case strings.HasPrefix(e.Name(), tempPrefix):
		case e.IsDir():
			names = append(names, e.Name()+"/")
		default:
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

func (w *walk) sub(dir *os.Root, name, key string, depth int) error {
	next, err := enter(dir, name)
	if errors.Is(err, iofs.ErrNotExist) {
		return nil // it went meanwhile
	}
	if err != nil {
		return w.s.wrap(objstore.OpList, key, err)
	}
	defer next.Close()
	return w.dir(next, key+"/", depth+1)
}

func (w *walk) file(dir *os.Root, name, key string) error {
	stat, err := dir.Lstat(name)
	switch {
	case errors.Is(err, iofs.ErrNotExist):
		return nil // it went meanwhile
	case err != nil:
		return w.s.wrap(objstore.OpList, key, err)
	case stat.IsDir():
		return w.s.wrap(objstore.OpList, key, objstore.ErrChanged)
	case !stat.Mode().IsRegular():
		return w.s.wrap(objstore.OpList, key, irregular{name, stat.Mode()})
	}
	return w.each(describe(key, stat))
}
