// Package mem is an objstore.Store in memory, for tests.
//
// It guarantees what objstore promises except durability, and that every
// operation can be made to fail, with or without its effect (see Hook).
package mem

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/objstore"
)

// Hook decides the fate of an operation before it starts; key is the prefix
// for a listing. With a nil error it runs as usual. With an error it fails with
// that error: after having its effect when apply is true (fail-but-persist),
// without it when apply is false (fail-and-vanish). Of a read apply changes
// nothing; a listing with apply gives all keys and then the error.
type Hook func(op objstore.Op, key string) (apply bool, err error)

// Store is a store of its own; make it with New. Hook may be set while no
// operation runs.
type Store struct {
	Hook  Hook
	place string

	mu      sync.Mutex
	objects map[string]object
}

type object struct {
	data []byte // never changed once it is here
	info objstore.Info
}

var _ objstore.Store = (*Store)(nil)

// New makes an empty store with a name for messages.
func New(name string) *Store {
	return &Store{place: "mem://" + name, objects: map[string]object{}}
}

// Place implements objstore.Reader.
func (s *Store) Place() string { return s.place }

// Open implements objstore.Reader.
func (s *Store) Open(ctx context.Context, key string, g objstore.Get) (*objstore.Object, error) {
	if err := s.ready(ctx, objstore.OpRead, key, objstore.CheckKey(key), g.Check()); err != nil {
		return nil, err
	}
	if _, err := s.fate(objstore.OpRead, key); err != nil {
		return nil, err
	}
	s.mu.Lock()
	o, ok := s.objects[key]
	s.mu.Unlock()
	fail := func(why error) (*objstore.Object, error) {
		return nil, objstore.Fail(objstore.OpRead, s.place, key, why, nil)
	}
	size := int64(len(o.data))
	switch {
	case !ok:
		return fail(objstore.ErrNotFound)
	case g.IfMatch != "" && g.IfMatch != o.info.ETag:
		return fail(objstore.ErrChanged)
	case g.IfNoneMatch == o.info.ETag:
		return fail(objstore.ErrNotModified)
	case g.Offset > 0 && g.Offset >= size:
		return fail(objstore.ErrRange)
	}
	data := o.data[g.Offset:]
	if g.Length > 0 && g.Length < int64(len(data)) {
		data = data[:g.Length]
	}
	return &objstore.Object{Info: o.info, Offset: g.Offset, Body: &body{ctx: ctx, s: s, key: key, r: bytes.NewReader(data)}}, nil
}

// body ends with its context, as a socket's does.
type body struct {
	ctx context.Context
	s   *Store
	key string
	r   *bytes.Reader
}

func (b *body) Read(p []byte) (int, error) {
	if err := objstore.Dead(b.ctx, objstore.OpRead, b.s.place, b.key); err != nil {
		return 0, err
	}
	return b.r.Read(p)
}

func (b *body) Close() error { return nil }

// List implements objstore.Reader.
func (s *Store) List(ctx context.Context, prefix string, each func(objstore.Info) error) error {
	if err := s.ready(ctx, objstore.OpList, prefix); err != nil {
		return err
	}
	apply, fail := s.fate(objstore.OpList, prefix)
	if fail != nil && !apply {
		return fail
	}
	s.mu.Lock()
	objects := maps.Clone(s.objects)
	s.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(objects)) {
		if !strings.HasPrefix(key, prefix) {
			continue
		}
		if err := s.ready(ctx, objstore.OpList, prefix); err != nil {
			return err
		}
		if err := each(objects[key].info); err != nil {
			return err
		}
	}
	return fail
}

// Put implements objstore.Writer.
func (s *Store) Put(ctx context.Context, key string, from io.ReadSeeker, size int64) (objstore.Info, error) {
	if err := s.ready(ctx, objstore.OpWrite, key, objstore.CheckKey(key)); err != nil {
		return objstore.Info{}, err
	}
	var data bytes.Buffer
	n, err := io.Copy(&data, io.LimitReader(from, size+1))
	if err == nil && n != size {
		err = fault.Errorf(fault.Input, "the body has not the %d bytes that were announced", size)
	}
	if err != nil {
		return objstore.Info{}, fmt.Errorf("%s: %w", objstore.Naming(objstore.OpWrite, s.place, key), err)
	}
	apply, fail := s.fate(objstore.OpWrite, key)
	if fail != nil && !apply {
		return objstore.Info{}, fail
	}
	sum := sha256.Sum256(data.Bytes())
	info := objstore.Info{Key: key, Size: size, ETag: fmt.Sprintf(`"%x"`, sum[:16]), Modified: time.Now().UTC()}
	s.mu.Lock()
	s.objects[key] = object{data.Bytes(), info}
	s.mu.Unlock()
	if fail != nil {
		return objstore.Info{}, fail
	}
	return info, nil
}

// Delete implements objstore.Writer.
func (s *Store) Delete(ctx context.Context, key string) error {
	if err := s.ready(ctx, objstore.OpDelete, key, objstore.CheckKey(key)); err != nil {
		return err
	}
	apply, fail := s.fate(objstore.OpDelete, key)
	if fail == nil || apply {
		s.mu.Lock()
		delete(s.objects, key)
		s.mu.Unlock()
	}
	return fail
}

func (s *Store) ready(ctx context.Context, op objstore.Op, key string, checks ...error) error {
	if err := errors.Join(checks...); err != nil {
		return fault.Errorf(fault.Input, "%s: %w", objstore.Naming(op, s.place, key), err)
	}
	return objstore.Dead(ctx, op, s.place, key)
}

func (s *Store) fate(op objstore.Op, key string) (apply bool, err error) {
	if s.Hook == nil {
		return false, nil
	}
	return s.Hook(op, key)
}
