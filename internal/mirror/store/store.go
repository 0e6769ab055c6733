// Package store is the folder of one mirrored feed.
//
// It guarantees that "latest" leads to one whole release or to the one before
// it, never to anything else: a release is put together aside, made durable,
// moved into place under its own name, and shown by one rename of one symbolic
// link, last. What was shown before stays until Prune. After a crash at any
// point the folder is in one of these states; Book finds out which, and Settle
// finishes what was begun.
//
//	objects/ab/SHA256     every member, once, by digest
//	releases/EXPORT/…     immutable trees of hard links to them
//	latest, previous      relative symbolic links to releases/EXPORT
//	history/              the signed record of what was accepted and refused
//	evidence/             statements that contradicted an accepted one
//	staging/              what is being fetched
//	unpack/               pieces of a pack of which segments are missing
//	state.json            what the history says, for a quick start
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
	"time"

	"golang.org/x/sys/unix"

	"github.com/stella-ops/stella/internal/durable"
	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/lock"
	"github.com/stella-ops/stella/internal/release"
)

// The names in a store.
const (
	dirObjects  = "objects"
	dirReleases = "releases"
	dirStaging  = "staging"
	dirHistory  = "history"
	dirEvidence = "evidence"
	DirUnpack   = "unpack" // exported for who puts packs together
	linkLatest  = "latest"
	linkBefore  = "previous"
	fileLock    = "lock"
	fileState   = "state.json"
	// An inventory lists the members of a release that has no statement. It lies
	// beside the releases, since nobody signed it.
	suffixInventory = ".inventory.json"
	suffixPart      = ".part"
)

// Store is the open folder of one feed. Its methods that write want the Lock.
type Store struct {
	dir  string
	root *durable.Dir
	// fs was opened before anything was written: syncfs(2) reports the errors
	// of writing back since then.
	fs *os.File
}

// Create makes the folder and what belongs into it, if it is missing. Its
// parent must exist.
func Create(path string) (*Store, error) {
	root, err := durable.Create(path, 0o755)
	if err != nil {
		return nil, fault.Errorf(fault.Config, "mirror folder: %w", err).
			Hint("make the folder above it: install -d %s", filepath.Dir(path))
	}
	for _, sub := range []struct {
		name string
		perm fs.FileMode
	}{{dirObjects, 0o755}, {dirReleases, 0o755}, {dirStaging, 0o700}, {dirHistory, 0o755}, {dirEvidence, 0o700}} {
		err := os.Mkdir(filepath.Join(path, sub.name), sub.perm)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, errors.Join(fault.Errorf(fault.Config, "mirror folder: %w", err), root.Close())
		}
	}
	if err := syncDir(path); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return open(path, root)
}

func open(path string, root *durable.Dir) (*Store, error) {
	for _, name := range []string{dirObjects, dirReleases, dirStaging, dirHistory, dirEvidence, DirUnpack} {
		info, err := root.Stat(name)
		if err == nil && !info.IsDir() { // a link would be followed, and what is behind it swept
			return nil, errors.Join(fault.Errorf(fault.Config, "%s is no folder (%s)", filepath.Join(path, name), info.Mode()).
				Hint("see what it is, then move it away: ls -ld %s", filepath.Join(path, name)), root.Close())
		}
	}
	fs, err := os.Open(path)
	if err != nil {
		return nil, errors.Join(fault.As(fault.Config, err), root.Close())
	}
	return &Store{path, root, fs}, nil
}

// Open opens a folder that Create made. A missing one is an error of kind
// NotFound.
func Open(path string) (*Store, error) {
	if info, err := os.Stat(filepath.Join(path, dirReleases)); err != nil || !info.IsDir() {
		return nil, fault.Errorf(fault.NotFound, "%q holds no mirror: nothing was synced yet", path).
			Hint("stella mirror sync")
	}
	root, err := durable.Open(path)
	if err != nil {
		return nil, fault.As(fault.Config, err)
	}
	return open(path, root)
}

// Close releases the folder.
func (s *Store) Close() error { return errors.Join(s.fs.Close(), s.root.Close()) }

// Path is the folder.
func (s *Store) Path() string { return s.dir }

// Lock takes the folder for one run; another one ends with kind Locked.
func (s *Store) Lock(ctx context.Context, who string) (*lock.Lock, error) {
	l, err := lock.Acquire(ctx, filepath.Join(s.dir, fileLock), who, 0)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
		return nil, fault.Errorf(fault.Config, "%w", err).Hint("run as the user that the folder belongs to: ls -ld %s", s.dir)
	}
	if err == nil { // what a kill left half-written; a write takes no hour
		_ = s.root.Sweep(time.Hour)
	}
	return l, err
}

func (s *Store) path(parts ...string) string {
	return filepath.Join(append([]string{s.dir}, parts...)...)
}

// ReleasePath is the folder of a release.
func (s *Store) ReleasePath(id string) string { return s.path(dirReleases, id) }

func (s *Store) objectPath(sha string) string { return s.path(dirObjects, sha[:2], sha) }

// HasObject reports whether the member with this digest and size is there. It
// was verified, and durable, before it got its name.
func (s *Store) HasObject(sha string, size int64) bool {
	info, err := os.Lstat(s.objectPath(sha))
	return err == nil && info.Mode().IsRegular() && info.Size() == size
}

// Touched reports whether an object was written to after a time: then its name
// says nothing about its bytes any more.
func (s *Store) Touched(sha string, since time.Time) bool {
	info, err := os.Lstat(s.objectPath(sha))
	return err == nil && info.ModTime().After(since)
}

// Latest returns the export that is shown, "" for none; Previous the one that
// was shown before. What is no link to a release is an error of kind Trust.
func (s *Store) Latest() (string, error) { return s.link(linkLatest) }

// Previous returns the export that was shown before the latest, "" for none.
func (s *Store) Previous() (string, error) { return s.link(linkBefore) }

func (s *Store) link(name string) (string, error) {
	to, err := os.Readlink(s.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	id, ok := strings.CutPrefix(to, dirReleases+"/")
	if err != nil || !ok || !release.ExportID(id) {
		return "", fault.Errorf(fault.Trust, "%s is no link to a release in %s/", s.path(name), dirReleases).
			Hint("ls -l %s", s.path(name)).Hint("move it away, then: stella mirror sync")
	}
	return id, nil
}

// HasRelease reports whether the tree of an export is there, whole: it got its
// name last.
func (s *Store) HasRelease(id string) bool {
	if !release.ExportID(id) {
		return false
	}
	info, err := os.Lstat(s.ReleasePath(id))
	return err == nil && info.IsDir()
}

// Show makes latest lead to an export whose tree is there. The link before it
// is kept as previous. When it already is the latest nothing changes.
func (s *Store) Show(ctx context.Context, id string) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return s.show(id)
}

func (s *Store) show(id string) error {
	if !s.HasRelease(id) {
		return fault.Errorf(fault.NotFound, "release %q is not in %s", id, s.path(dirReleases))
	}
	was, err := s.Latest()
	if err != nil || was == id {
		return err
	}
	if was != "" {
		if err := s.relink(linkBefore, was); err != nil {
			return err
		}
	}
	return s.relink(linkLatest, id)
}

// relink replaces a link by one rename, durably.
func (s *Store) relink(name, id string) error {
	temp := s.path(dirStaging, name+".new")
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("replacing %q: %w", s.path(name), err)
	}
	if err := os.Symlink(dirReleases+"/"+id, temp); err != nil {
		return fmt.Errorf("replacing %q: %w", s.path(name), err)
	}
	if err := os.Rename(temp, s.path(name)); err != nil {
		return fmt.Errorf("replacing %q: %w", s.path(name), err)
	}
	return syncDir(s.dir)
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("syncing directory %q: %w", path, err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("syncing directory %q: %w", path, err)
	}
	return nil
}

// Sync makes everything durable that was written to the file system of the
// store, by one syncfs(2), which also tells of writes that failed since the
// store was opened.
func (s *Store) Sync() error {
	if err := unix.Syncfs(int(s.fs.Fd())); err != nil {
		return full(fmt.Errorf("syncing the file system of %q: %w", s.dir, err))
	}
	return nil
}
