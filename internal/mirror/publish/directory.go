package publish

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/lock"
	objfs "github.com/stella-ops/stella/internal/objstore/fs"
	"github.com/stella-ops/stella/internal/release"
)

// Names beside the exports. No export id begins with a dot.
const (
	lockFile    = ".publish.lock"
	stagePrefix = ".publish-"
	linkPrefix  = ".latest-"
)

// step is a system call that writes, as tests see it.
type step string

const (
	stepStage step = "stage" // make the folder that becomes the export
	stepWrite step = "write" // one file in it
	stepSync  step = "sync"  // the file system
	stepPlace step = "place" // give the folder its name
	stepLink  step = "link"  // make the new link aside
	stepFlip  step = "flip"  // rename it over latest
	stepDir   step = "dir"   // fsync the directory
)

// Directory opens an existing directory as a place: each release is a folder
// that appears whole, and latest is a relative link to one of them. A missing
// directory is of kind NotFound.
func Directory(dir string) (*Dir, error) {
	s, err := objfs.Open(dir)
	if err != nil {
		return nil, err
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(abs)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening directory %q: %w", dir, err), s.Close())
	}
	return &Dir{store: s, root: root, path: abs}, nil
}

// Dir is a directory as a Destination. It needs Close.
type Dir struct {
	store *objfs.Store // for reading, which follows no link
	root  *os.Root
	path  string
	hook  func(s step, name string) (apply bool, err error) // of tests; see durable.Hook
}

// Close releases the directory.
func (d *Dir) Close() error { return errors.Join(d.root.Close(), d.store.Close()) }

// Place implements Destination.
func (d *Dir) Place() string { return d.store.Place() }

// begin takes the lock and removes what a run that was cut off has left.
func (d *Dir) begin(ctx context.Context, feed string) (func() error, error) {
	l, err := lock.Acquire(ctx, filepath.Join(d.path, lockFile), "a publication of "+feed, 0)
	if err != nil {
		return nil, err
	}
	if err := d.sweep(); err != nil {
		return nil, errors.Join(err, l.Release())
	}
	return l.Release, nil
}

func (d *Dir) sweep() error {
	entries, err := fs.ReadDir(d.root.FS(), ".")
	if err != nil {
		return fmt.Errorf("looking at %q: %w", d.path, err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), stagePrefix) && !strings.HasPrefix(e.Name(), linkPrefix) {
			continue
		}
		if err := d.root.RemoveAll(e.Name()); err != nil {
			return fmt.Errorf("removing what a run that was cut off has left: %w", err)
		}
	}
	return nil
}

// shown is the export that latest leads to, "" for none.
func (d *Dir) shown() (string, error) {
	info, err := d.root.Lstat(latest)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err == nil && info.Mode()&fs.ModeSymlink == 0 {
		return "", fault.Errorf(fault.Input, "%q is no link, so it cannot be switched", filepath.Join(d.path, latest)).
			Hint("move it away, or publish to another directory")
	}
	id := ""
	if err == nil {
		id, err = d.root.Readlink(latest)
	}
	if err != nil {
		return "", fmt.Errorf("looking at what is shown: %w", err)
	}
	if !release.ExportID(id) {
		return "", fault.Errorf(fault.Input, "%q leads to %.200q, which is no export beside it", filepath.Join(d.path, latest), id).
			Hint("see who put it there, then remove the link")
	}
	return id, nil
}

func (d *Dir) head(ctx context.Context) (*pair, error) {
	id, err := d.shown()
	if err != nil || id == "" {
		return nil, err
	}
	return readPair(ctx, d.store, id)
}

// export differs from that of a bucket in what it takes for something: an
// empty folder and a file are in the way too.
func (d *Dir) export(ctx context.Context, id string) (*pair, []string, error) {
	if _, err := d.root.Lstat(id); errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	keys, err := listBelow(ctx, d.store, id+"/")
	if err != nil {
		return nil, nil, err
	}
	p, err := readPair(ctx, d.store, id)
	if err == nil && p == nil {
		err = fault.Errorf(fault.Order, "the export id %s is taken in %q: there is something without a statement", id, d.path).
			Hint("an export id is used once: publish under another one")
	}
	return p, keys, err
}

func (d *Dir) member(ctx context.Context, id, name string, limit int64) ([]byte, error) {
	return small(ctx, d.store, id+"/"+name, limit)
}

// put builds the folder aside, makes it durable, and gives it its name. One
// that an earlier run has placed is read again instead.
func (d *Dir) put(ctx context.Context, p *parcel) error {
	if p.resumed {
		return d.check(ctx, p)
	}
	// Opened first: syncfs reports the write errors since then.
	fd, err := d.root.Open(".")
	if err != nil {
		return fmt.Errorf("opening %q: %w", d.path, err)
	}
	defer fd.Close()
	stage := stagePrefix + p.st.ExportID
	if err := d.build(ctx, p, stage); err != nil {
		return errors.Join(d.full(err), d.root.RemoveAll(stage))
	}
	err = d.step(stepSync, "", func() error { return unix.Syncfs(int(fd.Fd())) })
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err == nil {
		err = d.step(stepPlace, p.st.ExportID, func() error { return d.root.Rename(stage, p.st.ExportID) })
	}
	if err != nil {
		return errors.Join(d.full(fmt.Errorf("placing export %s in %q: %w", p.st.ExportID, d.path, err)), d.root.RemoveAll(stage))
	}
	p.uploaded, p.sent = len(p.files), p.st.Bytes()
	return d.syncDir(fd)
}

// build writes all files of a release into a new folder.
func (d *Dir) build(ctx context.Context, p *parcel, stage string) error {
	err := d.step(stepStage, stage, func() error { return d.root.Mkdir(stage, 0o755) })
	if err != nil {
		return fmt.Errorf("making %q in %q: %w", stage, d.path, err)
	}
	dirs := map[string]bool{}
	for _, f := range p.files {
		if dir := path.Dir(f.Path); !dirs[dir] {
			if err := d.root.MkdirAll(stage+"/"+dir, 0o755); err != nil {
				return fmt.Errorf("making a folder in %q: %w", d.path, err)
			}
			dirs[dir] = true
		}
	}
	progress := p.meter(Uploaded)
	err = each(ctx, p.parallel, p.files, func(ctx context.Context, f *file) error {
		if err := d.file(ctx, stage+"/"+f.Path, f); err != nil {
			return fmt.Errorf("copying %q to %q: %w", f.Path, d.path, err)
		}
		progress(1, f.Size)
		return nil
	})
	if err != nil {
		return err
	}
	for name, data := range map[string][]byte{release.FileSignature: p.jws, release.FileStatement: p.data} {
		f := &file{made: true}
		f.set(data)
		if err := d.file(ctx, stage+"/"+name, f); err != nil {
			return fmt.Errorf("writing %q to %q: %w", name, d.path, err)
		}
	}
	return nil
}

// check reads an export that is there already: it must be this one. Only its
// signatures may become more.
func (d *Dir) check(ctx context.Context, p *parcel) error {
	err := each(ctx, p.parallel, p.files, func(ctx context.Context, f *file) error {
		key := p.st.ExportID + "/" + f.Path
		is := &file{Member: release.Member{Path: key, Size: f.Size}, from: &folder{d.store, d.path}}
		if err := is.digest(ctx, nil); err != nil || is.SHA256 != f.SHA256 {
			if err == nil {
				err = release.Refuse(release.DigestMismatch, "%q in %q is not what its statement says", key, d.path).About(f.Path).Found("sha256:"+f.SHA256, "sha256:"+is.SHA256)
			}
			return fault.Errorf(fault.Trust, "taking up export %s: %w", p.st.ExportID, err).
				Hint("find out who changed it, remove the folder, and publish again")
		}
		return nil
	})
	if err != nil || bytes.Equal(p.has, p.jws) {
		return err
	}
	_, err = d.store.Put(ctx, p.st.ExportID+"/"+release.FileSignature, bytes.NewReader(p.jws), int64(len(p.jws)))
	return err
}

// show flips the link.
func (d *Dir) show(ctx context.Context, p *parcel) (wrote bool, err error) {
	id := p.st.ExportID
	fd, err := d.root.Open(".")
	if err != nil {
		return false, fmt.Errorf("opening %q: %w", d.path, err)
	}
	defer fd.Close()
	if at, err := d.shown(); err != nil || at == id {
		// An earlier run may not have come to this.
		return false, errors.Join(err, d.syncDir(fd))
	}
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	temp := linkPrefix + rand.Text()[:10]
	err = d.step(stepLink, temp, func() error { return d.root.Symlink(id, temp) })
	if err == nil {
		err = d.step(stepFlip, latest, func() error { return d.root.Rename(temp, latest) })
	}
	if err != nil {
		_ = d.root.Remove(temp) // the next run sweeps it
		return false, d.full(fmt.Errorf("switching %q to export %s: %w", filepath.Join(d.path, latest), id, err))
	}
	return true, d.syncDir(fd)
}

func (d *Dir) syncDir(fd *os.File) error {
	if err := d.step(stepDir, "", fd.Sync); err != nil {
		return fmt.Errorf("syncing %q: %w", d.path, err)
	}
	return nil
}

func (d *Dir) step(s step, name string, do func() error) error {
	if d.hook != nil {
		if apply, err := d.hook(s, name); err != nil {
			if apply {
				return errors.Join(err, do())
			}
			return err
		}
	}
	return do()
}

// full says what to do when the disk is full; other errors pass.
func (d *Dir) full(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fault.Errorf(fault.Transient, "%w", err).Hint("nothing that is shown has changed; make room in %s", d.path)
	}
	return err
}
