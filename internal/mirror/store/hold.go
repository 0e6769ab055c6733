package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/stella-ops/stella/internal/fault"
)

// Hold keeps the tree of a release from being removed until free is called or
// the process ends, without the Lock: a reader that takes hours must not hold
// up a sync. It is a shared flock(2) of the folder itself, so nothing of it is
// left behind; where the file system has none, a removal is only noticed.
func (s *Store) Hold(id string) (free func(), err error) {
	return s.grip(id, syscall.LOCK_SH)
}

// claim is what a removal takes: nobody may hold the tree.
func (s *Store) claim(id string) (free func(), err error) {
	return s.grip(id, syscall.LOCK_EX)
}

func (s *Store) grip(id string, how int) (func(), error) {
	path := s.ReleasePath(id)
	d, err := os.OpenFile(path, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.Errorf(fault.NotFound, "release %q is not in %s", id, s.path(dirReleases)).
			Hint("stella mirror status lists what is there")
	}
	if err != nil {
		return nil, fmt.Errorf("opening release %s: %w", id, err)
	}
	free := func() { _ = d.Close() }
	if err := syscall.Flock(int(d.Fd()), how|syscall.LOCK_NB); errors.Is(err, syscall.EWOULDBLOCK) {
		free()
		return nil, fault.Errorf(fault.Locked, "release %s is being read or removed by another run", id).
			Hint("wait for that run to end, then try again")
	}
	// It may have been moved away between the two calls.
	here, err := os.Lstat(path)
	open, oerr := d.Stat()
	if err != nil || oerr != nil || !os.SameFile(here, open) {
		free()
		return nil, fault.Errorf(fault.NotFound, "release %q is not in %s any more", id, s.path(dirReleases))
	}
	return free, nil
}

// held reports whether somebody holds the tree of a release.
func (s *Store) held(id string) bool {
	free, err := s.claim(id)
	if err == nil {
		free()
	}
	return fault.KindOf(err) == fault.Locked
}

// PartSize is how many bytes of a member are in staging; 0 also when none are.
func (s *Store) PartSize(sha string) int64 {
	info, err := os.Lstat(s.path(dirStaging, sha+suffixPart))
	if err != nil || !info.Mode().IsRegular() {
		return 0
	}
	return info.Size()
}
