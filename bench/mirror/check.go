package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// check compares what a contestant brought with the source, and with itself
// before the no-op.
func check(ctx context.Context, c *contestant, f *feed, root string, before map[string]stamp) error {
	after, err := stamps(root)
	if err != nil {
		return err
	}
	touched := 0
	for name, was := range before {
		if after[name] != was {
			touched++
		}
	}
	got, bytes, err := inventory(ctx, root)
	if err != nil {
		return err
	}
	var missing, wrong, extra []string
	for name, want := range f.digests {
		if sum, ok := got[name]; !ok {
			missing = append(missing, name)
		} else if sum != want {
			wrong = append(wrong, name)
		}
	}
	for name := range got {
		if _, ok := f.digests[name]; !ok {
			extra = append(extra, name)
		}
	}
	fmt.Printf("%-8s %6d files, %6.0f MiB: %d missing, %d different, %d extra; no-op touched %d\n", c.name, len(got), mib(bytes), len(missing), len(wrong), len(extra), touched)
	if bad := slices.Concat(missing, wrong, extra); len(bad) > 0 {
		slices.Sort(bad)
		return fmt.Errorf("%s did not bring what is there, such as %q", c.name, bad[0])
	}
	return nil
}

// stamp tells whether a file was written again.
type stamp struct {
	inode        uint64
	size, change int64
}

// stamps looks at every file below dir.
func stamps(dir string) (map[string]stamp, error) {
	all := map[string]stamp{}
	return all, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return errors.New("no inode numbers here")
		}
		all[path] = stamp{st.Ino, info.Size(), st.Ctim.Nano()}
		return nil
	})
}

func closed(c io.Closer, err error) error {
	if cerr := c.Close(); err == nil {
		err = cerr
	}
	return err
}

// inventory reads every regular file below dir; anything else but folders has
// the digest "".
func inventory(ctx context.Context, dir string) (digests map[string]string, bytes int64, err error) {
	digests = map[string]string{}
	buf := make([]byte, 1<<20)
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil || !e.Type().IsRegular() {
			digests[filepath.ToSlash(rel)] = ""
			return err
		}
		in, err := os.Open(path)
		if err != nil {
			return err
		}
		sum := sha256.New()
		n, err := io.CopyBuffer(sum, struct{ io.Reader }{in}, buf)
		digests[filepath.ToSlash(rel)], bytes = hex.EncodeToString(sum.Sum(nil)), bytes+n
		return closed(in, err)
	})
	return digests, bytes, err
}
