package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/stella-ops/stella/internal/durable"
	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/release"
)

// Tree is a release that is being put together aside.
type Tree struct {
	s     *Store
	id    string
	dir   string
	dirs  map[string]bool
	parts map[string]bool // digests that lie in staging still

	inventory []byte // of a release without a statement
}

// Build begins the tree of an export, after removing what an earlier run left
// of one.
func (s *Store) Build(id string) (*Tree, error) {
	if !release.ExportID(id) {
		return nil, release.Refuse(release.HostileName, "exportId %.80q is not a plain name", id)
	}
	if err := s.sweep(); err != nil {
		return nil, err
	}
	t := &Tree{s: s, id: id, dir: s.path(dirStaging, "release-"+id), dirs: map[string]bool{}, parts: map[string]bool{}}
	if err := os.Mkdir(t.dir, 0o755); err != nil {
		return nil, full(fmt.Errorf("building release %s: %w", id, err))
	}
	return t, nil
}

// Link puts a member into the tree: its object, or the part that Done closed.
func (t *Tree) Link(m release.Member) error {
	if err := t.mkdirs(filepath.Dir(m.Path)); err != nil {
		return err
	}
	from := t.s.objectPath(m.SHA256)
	if !t.s.HasObject(m.SHA256, m.Size) {
		from = t.s.path(dirStaging, m.SHA256+suffixPart)
		t.parts[m.SHA256] = true
	}
	err := os.Link(from, filepath.Join(t.dir, m.Path))
	if errors.Is(err, syscall.EMLINK) { // ext4 allows 65,000 links to a file; more names get copies
		err = copyFile(from, filepath.Join(t.dir, m.Path))
	}
	if err != nil {
		return full(fmt.Errorf("building release %s: %w", t.id, err))
	}
	return nil
}

// Write puts a file of the release's own into the tree: its statement.
func (t *Tree) Write(name string, data []byte) error {
	if err := os.WriteFile(filepath.Join(t.dir, name), data, 0o644); err != nil {
		return full(fmt.Errorf("building release %s: %w", t.id, err))
	}
	return nil
}

func (t *Tree) mkdirs(dir string) error {
	if dir == "." || t.dirs[dir] {
		return nil
	}
	if err := t.mkdirs(filepath.Dir(dir)); err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(t.dir, dir), 0o755); err != nil {
		return full(fmt.Errorf("building release %s: %w", t.id, err))
	}
	t.dirs[dir] = true
	return nil
}

// Place makes the tree durable and gives it its name; it is not shown yet. A
// tree that has the name already is exchanged for it in one step, also when it
// is shown: readers have the old one or the new one.
func (t *Tree) Place(ctx context.Context) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if err := t.s.Sync(); err != nil {
		return err
	}
	// From here on all bytes are on the disk; only names change.
	for sha := range t.parts {
		if err := t.s.keep(sha); err != nil {
			return full(fmt.Errorf("keeping object %s: %w", sha, err))
		}
	}
	if t.inventory != nil {
		if err := t.s.writeInventory(t.id, t.inventory); err != nil {
			return full(err)
		}
	}
	seen := t.s.seen(t.id)
	if err := t.rename(); err != nil {
		return full(fmt.Errorf("placing release %s: %w", t.id, err))
	}
	// The names too, of objects in many folders: nothing is recorded that a
	// power cut could take back.
	if err := t.s.Sync(); err != nil || seen {
		return err // a reader may be in what was exchanged; the next tree sweeps it
	}
	return os.RemoveAll(t.dir)
}

// seen reports whether a reader may come to a release by one of the links.
func (s *Store) seen(id string) bool {
	latest, err := s.Latest()
	previous, err2 := s.Previous()
	return err != nil || err2 != nil || latest == id || previous == id
}

// rename gives the tree its name. What had it lies in staging afterwards.
func (t *Tree) rename() error {
	to := t.s.ReleasePath(t.id)
	if !t.s.HasRelease(t.id) {
		return os.Rename(t.dir, to)
	}
	err := unix.Renameat2(unix.AT_FDCWD, t.dir, unix.AT_FDCWD, to, unix.RENAME_EXCHANGE)
	if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS) {
		return err
	}
	// A file system that cannot exchange: then only what nobody sees is replaced.
	if err := t.s.discard(t.id); err != nil {
		return err
	}
	return os.Rename(t.dir, to)
}

func (s *Store) writeInventory(id string, data []byte) error {
	d, err := durable.Open(s.path(dirReleases))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Write(id+suffixInventory, data, 0o644)
}

// keep moves a part to its place among the objects, where nobody should write
// to it: every release that has it would change.
func (s *Store) keep(sha string) error {
	to := s.objectPath(sha)
	err := os.Rename(s.path(dirStaging, sha+suffixPart), to)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.Mkdir(filepath.Dir(to), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		err = os.Rename(s.path(dirStaging, sha+suffixPart), to)
	}
	if err != nil {
		return err
	}
	return os.Chmod(to, 0o444)
}

// discard removes a release that nothing shows. Its name goes first, in one
// step, so that no half of it is ever there under it.
func (s *Store) discard(id string) error {
	for _, shown := range []func() (string, error){s.Latest, s.Previous} {
		if at, err := shown(); err != nil || at == id {
			return errors.Join(err, fault.Errorf(fault.Order, "release %s is shown and cannot be removed", id))
		}
	}
	free, err := s.claim(id)
	if err != nil {
		return err
	}
	defer free()
	trash := s.path(dirStaging, "removed-"+id)
	if err := os.RemoveAll(trash); err != nil {
		return err
	}
	if err := os.Rename(s.ReleasePath(id), trash); err != nil {
		return err
	}
	if err := syncDir(s.path(dirReleases)); err != nil {
		return err
	}
	_ = os.Remove(s.path(dirReleases, id+suffixInventory))
	return os.RemoveAll(trash)
}

// Releases lists the exports whose trees are there, oldest name first.
func (s *Store) Releases() ([]string, error) {
	entries, err := os.ReadDir(s.path(dirReleases))
	if err != nil {
		return nil, fmt.Errorf("listing releases: %w", err)
	}
	var ids []string
	for _, e := range entries {
		if e.IsDir() && release.ExportID(e.Name()) && !strings.HasSuffix(e.Name(), suffixInventory) {
			ids = append(ids, e.Name())
		}
	}
	return ids, nil
}

// full says what to do when the disk is full; other errors pass.
func full(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fault.Errorf(fault.Transient, "%w", err).
			Hint("nothing that is served has changed; free some space: stella mirror prune, or a larger volume")
	}
	return err
}

func copyFile(from, to string) error {
	data, err := os.Open(from)
	if err != nil {
		return err
	}
	defer data.Close()
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.ReadFrom(data)
	return errors.Join(err, f.Close())
}
