package store

import (
	"context"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/stella-ops/stella/internal/release"
)

// Whole reports, as a Refusal, a member of a release whose file is not there with
// its size. It reads no bytes.
func (s *Store) Whole(c *Content) error {
	for _, e := range c.List {
		info, err := os.Lstat(filepath.Join(s.ReleasePath(c.ExportID), e.Path))
		if err != nil || !info.Mode().IsRegular() || info.Size() != e.Size {
			return release.Refuse(release.MissingMember, "%s of release %s is damaged on this disk", e.Path, c.ExportID).About(e.Path)
		}
	}
	return nil
}

// Extra lists what lies in the tree of a release and is none of its members:
// files, links, empty directories.
func (s *Store) Extra(c *Content) ([]string, error) {
	root := s.ReleasePath(c.ExportID)
	files, dirs := map[string]bool{}, map[string]bool{".": true}
	if c.Layout == Signed {
		files[release.FileStatement], files[release.FileSignature] = true, true
	}
	for _, e := range c.List {
		files[e.Path] = true
		for d := filepath.Dir(e.Path); !dirs[d]; d = filepath.Dir(d) {
			dirs[d] = true
		}
	}
	var extra []string
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel := strings.TrimPrefix(strings.TrimPrefix(path, root), "/")
		if rel == "" {
			rel = "."
		}
		if e.IsDir() && !dirs[rel] || !e.IsDir() && (!files[rel] || !e.Type().IsRegular()) {
			extra = append(extra, rel)
		}
		return nil
	})
	return extra, err
}

// ReadFile reads a file of a release, which must be a member, to w (or only
// checks it).
func (s *Store) ReadFile(ctx context.Context, path string, m release.Member, w io.Writer) error {
	return readMember(ctx, path, m, w)
}

// SmallFile reads a small file of a release.
func (s *Store) SmallFile(path string, limit int64) ([]byte, error) { return readRegular(path, limit) }
