package publish

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/objstore"
	objfs "github.com/stella-ops/stella/internal/objstore/fs"
	"github.com/stella-ops/stella/internal/release"
)

// folder is what is published. It is read without following links.
type folder struct {
	*objfs.Store
	path string
}

func openFolder(path string) (*folder, error) {
	s, err := objfs.Open(path)
	if err != nil {
		return nil, err
	}
	return &folder{s, path}, nil
}

// fault names the folder in an error about what is in it.
func (f *folder) fault(err error) *fault.Error {
	return fault.Errorf(fault.Input, "publishing %q: %w", f.path, err)
}

// file is one member: of the folder, or made by us and then in memory.
type file struct {
	release.Member
	etag string
	made bool
	data []byte // of documents, signatures and what was made
	from *folder
}

// content is a member that is read again to be sent. The caller closes it.
type content interface {
	io.ReadSeekCloser
	// whole says, after a Put, that what was read is the member.
	whole() error
}

// open reads a member from its start; see body.
func (f *file) open(ctx context.Context) content {
	if f.made {
		return made{bytes.NewReader(f.data)}
	}
	return &body{ctx: ctx, f: f, sum: sha256.New()}
}

// body reads a file of the folder. Each byte is hashed when it is read for the
// first time; before the last one is handed out, the digest must be the signed
// one. A store that reads twice holds the second reading to the first by a
// digest of its own; what changes in between is also seen by the entity tag.
type body struct {
	ctx    context.Context
	f      *file
	pos    int64
	r      io.ReadCloser // stands at pos; nil: nothing is open
	sum    hash.Hash
	hashed int64 // first byte that was never read
	good   bool
}

func (b *body) Read(p []byte) (int, error) {
	if b.r == nil {
		if b.pos >= b.f.Size && b.pos > 0 {
			return 0, io.EOF
		}
		o, err := b.f.from.Open(b.ctx, b.f.Path, objstore.Get{Offset: b.pos, IfMatch: b.f.etag})
		if err != nil {
			return 0, b.f.changed(err)
		}
		b.r = o.Body
	}
	n, err := b.r.Read(p)
	if end := b.pos + int64(n); b.pos <= b.hashed && end > b.hashed {
		b.sum.Write(p[b.hashed-b.pos : n])
		b.hashed = end
	}
	b.pos += int64(n)
	if err != nil && err != io.EOF {
		return n, b.f.changed(err)
	}
	if b.hashed == b.f.Size && !b.good {
		if hex.EncodeToString(b.sum.Sum(nil)) != b.f.SHA256 {
			return 0, b.f.changed(objstore.ErrChanged)
		}
		b.good = true
	}
	return n, err
}

func (b *body) Seek(off int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		off += b.pos
	case io.SeekEnd:
		off += b.f.Size
	}
	if off < 0 || off > b.f.Size {
		return b.pos, fmt.Errorf("seeking to %d in %d bytes", off, b.f.Size)
	}
	if off != b.pos {
		if err := b.Close(); err != nil {
			return b.pos, err
		}
		b.pos = off
	}
	return off, nil
}

func (b *body) Close() error {
	if b.r == nil {
		return nil
	}
	r := b.r
	b.r = nil
	return r.Close()
}

func (b *body) whole() error {
	if !b.good && b.f.Size > 0 {
		return fmt.Errorf("internal error: %q was sent without being read", b.f.Path)
	}
	return nil
}

// changed names a file that is not what it was a moment ago.
func (f *file) changed(err error) error {
	if !errors.Is(err, objstore.ErrChanged) && !errors.Is(err, objstore.ErrNotFound) && !errors.Is(err, objstore.ErrRange) {
		return err
	}
	return fault.Errorf(fault.Transient, "%q of %q was changed while it was published; nothing new is shown: %w", f.Path, f.from.path, objstore.ErrChanged).
		Hint("let the export come to its end, then publish it again")
}

// read reads a small file whole and takes its digest.
func (f *file) read(ctx context.Context, limit int64) error {
	if f.Size > limit {
		return f.from.fault(release.Refuse(release.TooLarge, "%s has %d bytes, at most %d are allowed", f.Path, f.Size, limit).About(f.Path))
	}
	o, err := f.from.Open(ctx, f.Path, objstore.Get{IfMatch: f.etag})
	if err != nil {
		return f.changed(err)
	}
	defer o.Body.Close()
	data, err := io.ReadAll(io.LimitReader(o.Body, limit+1))
	if err != nil {
		return f.changed(err)
	}
	f.set(data)
	return nil
}

func (f *file) set(data []byte) {
	sum := sha256.Sum256(data)
	f.data, f.Size, f.SHA256 = data, int64(len(data)), hex.EncodeToString(sum[:])
}

// digest reads a file whole; also, if not nil, gets its bytes.
func (f *file) digest(ctx context.Context, also io.Writer) error {
	o, err := f.from.Open(ctx, f.Path, objstore.Get{IfMatch: f.etag})
	if err != nil {
		return f.changed(err)
	}
	defer o.Body.Close()
	sum := sha256.New()
	w := io.Writer(sum)
	if also != nil {
		w = io.MultiWriter(also, sum)
	}
	n, err := io.CopyBuffer(w, struct{ io.Reader }{o.Body}, f.buffer())
	if err != nil {
		return f.changed(err)
	}
	if n != f.Size {
		return f.changed(objstore.ErrChanged)
	}
	f.SHA256 = hex.EncodeToString(sum.Sum(nil))
	return nil
}

// buffer is one to copy a file with: most files are small.
func (f *file) buffer() []byte { return make([]byte, min(f.Size+1, 256<<10)) }
