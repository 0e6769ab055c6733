package pack

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/objstore"
	"github.com/stella-ops/stella/internal/objstore/fs"
)

// kept is a folder with pieces of the stream, copied from segments that may
// not be here any more: those of members that lie in other segments too. Their
// segments had their digests when they were copied.
type kept struct {
	path  string // of this pack's pieces
	above string
	store *fs.Store // nil while there is no folder
	spans []span    // by place
}

// span is one piece. Its name tells its digest, so that what this disk did to
// it is not taken for what its segment had.
type span struct {
	from, to int64
	sha      string
	sound    bool // looked at in this run
}

func (p span) name() string { return fmt.Sprintf("%d-%d-%s", p.from, p.to, p.sha) }

// UseKept lets the set use, and add to, what was kept below a folder by
// earlier runs with the same release. With only, what is there of others is
// removed.
func (s *Set) UseKept(above string, only bool) error {
	k := &kept{path: filepath.Join(above, strings.TrimPrefix(s.Manifest.Statement, "sha256:")), above: above}
	if s.kept != nil {
		_ = s.kept.close()
	}
	s.kept = k
	if only {
		others, err := os.ReadDir(above)
		if err != nil && !errors.Is(err, iofs.ErrNotExist) {
			return err
		}
		for _, e := range others {
			if e.Name() != filepath.Base(k.path) {
				if err := os.RemoveAll(filepath.Join(above, e.Name())); err != nil {
					return err
				}
			}
		}
	}
	entries, err := os.ReadDir(k.path)
	if errors.Is(err, iofs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if k.store, err = fs.Open(k.path); err != nil {
		return err
	}
	for _, e := range entries {
		var p span
		n, _ := fmt.Sscanf(e.Name(), "%d-%d-%64s", &p.from, &p.to, &p.sha)
		info, err := e.Info()
		if n == 3 && p.name() == e.Name() && err == nil && info.Mode().IsRegular() && info.Size() == p.to-p.from && p.from >= 0 {
			k.spans = append(k.spans, p)
		}
	}
	k.sort()
	return nil
}

func (k *kept) sort() {
	slices.SortFunc(k.spans, func(a, b span) int { return int(min(1, max(-1, a.from-b.from))) })
}

// find returns up to where the bytes from pos on are kept.
func (k *kept) find(pos int64) (to int64, ok bool) {
	for _, p := range k.spans {
		if p.from <= pos && pos < p.to {
			return p.to, true
		}
	}
	return 0, false
}

// next is where the first piece behind pos begins.
func (k *kept) next(pos int64) int64 {
	for _, p := range k.spans {
		if p.from > pos {
			return p.from
		}
	}
	return maxStream + 1
}

func (k *kept) open(ctx context.Context, pos, n int64) (io.ReadCloser, error) {
	for _, p := range k.spans {
		if p.from > pos || pos >= p.to {
			continue
		}
		o, err := k.store.Open(ctx, p.name(), objstore.Get{Offset: pos - p.from, Length: n})
		if err != nil {
			return nil, err
		}
		return o.Body, nil
	}
	return nil, fault.Errorf(fault.Partial, "%w", ErrAbsent)
}

func (k *kept) close() error {
	if k.store == nil {
		return nil
	}
	return k.store.Close()
}

// Keep copies what is here of from..to to where it stays when the medium is
// taken away, durably. The segments must have their digests.
func (s *Set) Keep(ctx context.Context, from, to int64, tick func(int64)) error {
	for pos := from; pos < to; {
		end, segment, ok := s.piece(pos)
		if !ok {
			pos = s.gap(pos)
			continue
		}
		end = min(end, to)
		if segment >= 0 && !s.kept.covers(pos, end) {
			if err := s.Check(ctx, segment); err != nil {
				return err
			}
			if err := s.kept.add(ctx, span{from: pos, to: end}, &body{ctx: ctx, s: s, pos: pos, end: end}); err != nil {
				return err
			}
			tick(end - pos)
		}
		pos = end
	}
	return nil
}

func (k *kept) covers(from, to int64) bool {
	end, ok := k.find(from)
	return ok && end >= to
}

func (k *kept) add(ctx context.Context, p span, from io.ReadCloser) error {
	defer from.Close()
	for _, dir := range []string{k.above, k.path} {
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, iofs.ErrExist) {
			return noRoom(err)
		}
	}
	if k.store == nil {
		var err error
		if k.store, err = fs.Open(k.path); err != nil {
			return err
		}
	}
	temp := filepath.Join(k.path, tempPrefix+"piece")
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return noRoom(err)
	}
	sum := sha256.New()
	_, err = io.CopyBuffer(io.MultiWriter(f, sum), struct{ io.Reader }{from}, make([]byte, chunk))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = context.Cause(ctx)
	}
	p.sha, p.sound = hex.EncodeToString(sum.Sum(nil)), true
	if err == nil {
		err = os.Rename(temp, filepath.Join(k.path, p.name()))
	}
	if err != nil {
		_ = os.Remove(temp)
		return noRoom(err)
	}
	k.spans = append(k.spans, p)
	k.sort()
	return nil
}

func noRoom(err error) error {
	err = fmt.Errorf("keeping what is here of a segment: %w", err)
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fault.Errorf(fault.Transient, "%w", err).
			Hint("nothing that is served has changed; free some space (stella mirror prune), or attach all media at once: then nothing needs to be kept")
	}
	return err
}

// Sound reads what is kept of from..to and removes what is not as it was
// written; ok says that all was.
func (s *Set) Sound(ctx context.Context, from, to int64) (ok bool, err error) {
	if s.kept == nil {
		return true, nil
	}
	ok = true
	for i := range s.kept.spans {
		p := &s.kept.spans[i]
		if p.sound || p.to <= from || p.from >= to {
			continue
		}
		got, _, err := (&folder{s.kept.store, s.kept.path}).digest(ctx, p.name(), p.to-p.from)
		if ctx.Err() != nil {
			return false, err
		}
		if p.sound = err == nil && got == p.sha; !p.sound {
			ok = false
		}
	}
	if ok {
		return true, nil
	}
	return false, s.forget(func(p span) bool { return p.to > from && p.from < to && !p.sound })
}

// Forget removes what was kept of from..to.
func (s *Set) Forget(from, to int64) error {
	return s.forget(func(p span) bool { return p.to > from && p.from < to })
}

func (s *Set) forget(which func(span) bool) error {
	if s.kept == nil {
		return nil
	}
	var all []error
	s.kept.spans = slices.DeleteFunc(s.kept.spans, func(p span) bool {
		if !which(p) {
			return false
		}
		all = append(all, os.Remove(filepath.Join(s.kept.path, p.name())))
		return true
	})
	return errors.Join(all...)
}

// Done removes all that was kept: the release is in its place.
func (s *Set) Done() error {
	if s.kept == nil {
		return nil
	}
	s.kept.spans = nil
	err := os.RemoveAll(s.kept.path)
	_ = os.Remove(s.kept.above) // if it is empty now
	return err
}
