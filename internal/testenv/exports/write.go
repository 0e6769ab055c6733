package exports

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"

	"github.com/stella-ops/stella/internal/release"
)

func (e *export) path(name string) string { return filepath.Join(e.dir, filepath.FromSlash(name)) }

// file is a member on its way to the disk.
type file struct {
	ctx  context.Context
	name string
	f    *os.File
	buf  *bufio.Writer
	sum  hash.Hash
	size int64
}

func (e *export) create(name string) (*file, error) {
	path := e.path(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, err
	}
	return &file{ctx: e.ctx, name: name, f: f, buf: bufio.NewWriterSize(f, 256<<10), sum: sha256.New()}, nil
}

// Write implements io.Writer.
func (f *file) Write(p []byte) (int, error) {
	if f.ctx.Err() != nil {
		return 0, context.Cause(f.ctx)
	}
	f.sum.Write(p)
	f.size += int64(len(p))
	return f.buf.Write(p)
}

// text writes a string.
func (f *file) text(s string) error {
	_, err := io.WriteString(f, s)
	return err
}

// done closes the file; err is what went wrong before.
func (f *file) done(err error) (release.Member, error) {
	if err == nil {
		err = f.buf.Flush()
	}
	err = errors.Join(err, f.f.Close())
	return release.Member{Path: f.name, Size: f.size, SHA256: hex.EncodeToString(f.sum.Sum(nil))}, err
}

func (e *export) write(name string, data []byte) error {
	f, err := e.create(name)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	_, err = f.done(err)
	return err
}

// document writes a small JSON document for people to read.
func (e *export) document(name string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return e.write(name, append(data, '\n'))
}

// source is the randomness of one thing: another purpose, other numbers.
func (e *export) source(purpose string) *rand.ChaCha8 {
	var seed [8]byte
	binary.LittleEndian.PutUint64(seed[:], e.o.Seed)
	return rand.NewChaCha8(sha256.Sum256(append(seed[:], e.o.Feed+"/"+purpose...)))
}

// perFolder bounds how many files lie in one folder.
const perFolder = 1000

// files writes extra members.
func (e *export) files(group int, files Files) error {
	random := e.source(fmt.Sprintf("files/%d", group))
	for i := range files.Count {
		name := fmt.Sprintf("%s%s/data/g%d/%03d/%06d.bin", release.Root, e.o.Domains[0], group, i/perFolder, i)
		f, err := e.create(name)
		if err != nil {
			return err
		}
		_, err = io.CopyN(f, random, files.Bytes)
		if _, err = f.done(err); err != nil {
			return err
		}
	}
	return nil
}
