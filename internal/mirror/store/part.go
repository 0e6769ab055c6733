package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/stella-ops/stella/internal/jose/detached"
	"github.com/stella-ops/stella/internal/release"
)

// Part is a member that is being fetched. It is a prefix of the member at any
// time: bytes are only appended, so that the next run goes on where this one
// stopped.
type Part struct {
	s    *Store
	sha  string
	f    *os.File
	size int64 // written
	gone bool  // has its place, or was dropped
}

// Part opens the part of a member, empty or as far as an earlier run came. The
// caller reads what is there with Reader and hashes it again: it may have been
// written by a run that was cut off with the power.
func (s *Store) Part(sha string) (*Part, error) {
	path := s.path(dirStaging, sha+suffixPart)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o644)
	if err != nil {
		return nil, full(fmt.Errorf("opening %q: %w", path, err))
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(fmt.Errorf("%q is no regular file", path), err, f.Close())
	}
	p := &Part{s: s, sha: sha, f: f, size: info.Size()}
	if _, err := f.Seek(p.size, io.SeekStart); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return p, nil
}

// Size is how many bytes are there.
func (p *Part) Size() int64 { return p.size }

// Reader reads what is there.
func (p *Part) Reader() io.Reader { return io.NewSectionReader(p.f, 0, p.size) }

// Write appends.
func (p *Part) Write(b []byte) (int, error) {
	n, err := p.f.Write(b)
	p.size += int64(n)
	return n, full(err)
}

// Reset forgets what is there.
func (p *Part) Reset() error {
	if err := p.f.Truncate(0); err != nil {
		return fmt.Errorf("emptying %q: %w", p.f.Name(), err)
	}
	p.size = 0
	_, err := p.f.Seek(0, io.SeekStart)
	return err
}

// Done closes a part that holds the whole member, verified. It stays in
// staging until a Tree takes it; large ones start their way to the disk now.
func (p *Part) Done() error {
	const large = 1 << 20
	if p.size >= large { // only a hint to the kernel, so its error means nothing
		_ = unix.SyncFileRange(int(p.f.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WRITE)
	}
	p.gone = true
	return p.f.Close()
}

// Drop closes and removes a part whose bytes are wrong.
func (p *Part) Drop() error {
	p.gone = true
	return errors.Join(p.f.Close(), os.Remove(p.f.Name()))
}

// Close leaves a part for the next run.
func (p *Part) Close() error {
	if p.gone {
		return nil
	}
	p.gone = true
	return p.f.Close()
}

// sweep removes what is in staging but parts. Parts are kept for a later run.
func (s *Store) sweep() error {
	entries, err := os.ReadDir(s.path(dirStaging))
	if err != nil {
		return fmt.Errorf("reading staging: %w", err)
	}
	for _, e := range entries {
		name := e.Name()
		if len(name) == 64+len(suffixPart) && e.Type().IsRegular() {
			continue
		}
		if err := os.RemoveAll(s.path(dirStaging, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("sweeping staging: %w", err)
		}
	}
	return nil
}

// Keep is Done for a part that was opened before its digest was known.
func (p *Part) Keep(sha string) error {
	from := p.f.Name()
	if err := p.Done(); err != nil {
		return err
	}
	return full(os.Rename(from, p.s.path(dirStaging, sha+suffixPart)))
}

// Stage puts a small member into staging.
func (s *Store) Stage(sha string, data []byte) error {
	return full(os.WriteFile(s.path(dirStaging, sha+suffixPart), data, 0o644))
}

// Staged reads a small member that is in staging or among the objects, and
// checks its digest again.
func (s *Store) Staged(m release.Member, limit int64) ([]byte, error) {
	path := s.objectPath(m.SHA256)
	if !s.HasObject(m.SHA256, m.Size) {
		path = s.path(dirStaging, m.SHA256+suffixPart)
	}
	data, err := readRegular(path, limit)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", m.Path, err)
	}
	if got := release.Digest(data); got != "sha256:"+m.SHA256 {
		return nil, release.Refuse(release.DigestMismatch, "%s was changed on this disk: %s", m.Path, path).About(m.Path).Found("sha256:"+m.SHA256, got)
	}
	return data, nil
}

// ReadMember writes a member that is in staging or among the objects to w,
// checking its digest.
func (s *Store) ReadMember(ctx context.Context, m release.Member, w io.Writer) error {
	path := s.objectPath(m.SHA256)
	if !s.HasObject(m.SHA256, m.Size) {
		path = s.path(dirStaging, m.SHA256+suffixPart)
	}
	return readMember(ctx, path, m, w)
}

// DropObject forgets an object whose bytes are wrong, so that it is fetched
// again. Releases that have it keep it until they are built anew.
func (s *Store) DropObject(sha string) error {
	if err := os.Remove(s.objectPath(sha)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("dropping a damaged object: %w", err)
	}
	return nil
}

// readMember reads a file that must be a member.
func readMember(ctx context.Context, path string, m release.Member, w io.Writer) error {
	f, err := openRegular(path)
	if err != nil {
		return err
	}
	defer f.Close()
	sum := sha256.New()
	to := io.Writer(sum)
	var lane *detached.Lane
	if w != nil { // two hashes of one stream, on two cores
		lane = detached.NewLane(sum)
		defer lane.Close()
		to = io.MultiWriter(lane, w)
	}
	buf := make([]byte, 256<<10)
	var n int64
	for {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		got, err := f.Read(buf)
		if n += int64(got); n > m.Size {
			break
		}
		if _, werr := to.Write(buf[:got]); werr != nil {
			return werr
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("reading %q: %w", path, err)
		}
	}
	if n != m.Size {
		return release.Refuse(release.SizeMismatch, "%s has another size on this disk: %s", m.Path, path).About(m.Path).Found(fmt.Sprint(m.Size), fmt.Sprint(n))
	}
	if lane != nil {
		if err := lane.Close(); err != nil {
			return err
		}
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != m.SHA256 {
		return release.Refuse(release.DigestMismatch, "%s was changed on this disk: %s", m.Path, path).About(m.Path).Found("sha256:"+m.SHA256, "sha256:"+got)
	}
	return nil
}
