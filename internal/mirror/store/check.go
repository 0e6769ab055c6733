package store

import (
	"context"
	"io"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/stella-ops/stella/internal/release"
)

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
