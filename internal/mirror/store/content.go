package store

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/stella-ops/stella/internal/durable"
	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/release"
)

// Layout is how much a release says of itself.
type Layout string

// The layouts.
const (
	Signed     Layout = "statement"   // one signed statement names every member
	BundleOnly Layout = "bundle-only" // only its bundles are signed
	PlainTree  Layout = "tree"        // nothing is signed
)

// Facts are what is known of a release.
type Facts struct {
	Layout      Layout    `json:"layout,omitempty"`
	Feed        string    `json:"feed"`
	ExportID    string    `json:"export_id,omitempty"`
	Sequence    int64     `json:"sequence,omitempty"`
	GeneratedAt time.Time `json:"generated_at,omitzero"`
	ExpiresAt   time.Time `json:"expires_at,omitzero"`
	Digest      string    `json:"digest,omitempty"`
	Members     int       `json:"members,omitempty"`
	Bytes       int64     `json:"bytes,omitempty"`
}

// Content is a release with its members.
type Content struct {
	Facts
	List       []Entry
	Statement  []byte // Signed only: exact bytes
	Signatures []byte
}

// Entry is a member, and for a tree what its source said of it.
type Entry struct {
	release.Member
	ETag     string    `json:"etag,omitempty"`
	Modified time.Time `json:"modified,omitzero"`
}

const inventorySchema = "stella.mirror.inventory/v1"

// maxInventory bounds an inventory, in bytes.
const maxInventory = 128 << 20

type inventory struct {
	Schema string `json:"schema"`
	Facts
	Members []Entry `json:"member_list"`
}

// FromStatement makes the content of a statement that was verified.
func FromStatement(s *release.Statement, statement, signatures []byte) *Content {
	c := &Content{Statement: statement, Signatures: signatures, Facts: Facts{
		Layout: Signed, Feed: s.Feed, ExportID: s.ExportID, Sequence: s.Sequence, GeneratedAt: s.GeneratedAt,
		ExpiresAt: s.ExpiresAt, Digest: release.Digest(statement), Members: len(s.Members), Bytes: s.Bytes(),
	}}
	c.List = make([]Entry, len(s.Members))
	for i, m := range s.Members {
		c.List[i].Member = m
	}
	return c
}

// FromMembers makes the content of a release that has no statement. Its digest
// is that of the list of its members.
func FromMembers(layout Layout, feed, id string, generated time.Time, list []Entry) *Content {
	slices.SortFunc(list, func(a, b Entry) int { return cmp.Compare(a.Path, b.Path) })
	c := &Content{List: list, Facts: Facts{Layout: layout, Feed: feed, ExportID: id, GeneratedAt: generated, Members: len(list)}}
	var b strings.Builder
	for _, e := range list {
		c.Bytes += e.Size
		fmt.Fprintf(&b, "%s %d %s\n", e.SHA256, e.Size, e.Path)
	}
	c.Digest = release.Digest([]byte(b.String()))
	return c
}

// Has reports whether a member is part of the release.
func (c *Content) Has(m release.Member) bool {
	i, ok := slices.BinarySearchFunc(c.List, m.Path, func(e Entry, p string) int { return cmp.Compare(e.Path, p) })
	return ok && c.List[i].Member == m
}

// Record puts what the content says of itself into a tree: the statement, or
// the inventory, which Place puts beside it.
func (t *Tree) Record(c *Content) error {
	if c.Layout == Signed {
		if err := t.Write(release.FileStatement, c.Statement); err != nil {
			return err
		}
		return t.Write(release.FileSignature, c.Signatures)
	}
	var err error
	t.inventory, err = json.Marshal(inventory{inventorySchema, c.Facts, c.List})
	return err
}

// Resign replaces the signatures of a release that is here by others of the same
// statement, in one step.
func (s *Store) Resign(id string, signatures []byte) error {
	d, err := durable.Open(s.ReleasePath(id))
	if err != nil {
		return err
	}
	defer d.Close()
	return full(d.Write(release.FileSignature, signatures, 0o644))
}

// Content reads what a release on disk says of itself. A statement's signature
// is not checked.
func (s *Store) Content(id string) (*Content, error) {
	if !s.HasRelease(id) {
		return nil, fault.Errorf(fault.NotFound, "release %q is not in %s", id, s.path(dirReleases)).
			Hint("stella mirror status lists what is there")
	}
	statement, err := readRegular(s.path(dirReleases, id, release.FileStatement), release.MaxStatement)
	if errors.Is(err, fs.ErrNotExist) {
		return s.inventory(id)
	}
	if err != nil {
		return nil, err
	}
	signatures, err := readRegular(s.path(dirReleases, id, release.FileSignature), release.MaxSignature)
	if errors.Is(err, fs.ErrNotExist) {
		err = release.Refuse(release.SignatureMissing, "release %s has a statement without a signature", id).About(release.FileSignature)
	}
	if err != nil {
		return nil, err
	}
	st, err := release.ParseStatement(statement)
	if err != nil {
		return nil, err
	}
	return FromStatement(st, statement, signatures), nil
}

func (s *Store) inventory(id string) (*Content, error) {
	data, err := readRegular(s.path(dirReleases, id+suffixInventory), maxInventory)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, release.Refuse(release.StatementMissing, "release %s has neither a statement nor an inventory", id)
	}
	if err != nil {
		return nil, err
	}
	var in inventory
	if err := json.Unmarshal(data, &in); err != nil || in.Schema != inventorySchema {
		return nil, release.Refuse(release.Format, "the inventory of release %s is not one", id)
	}
	for _, e := range in.Members {
		if err := release.CheckPath(e.Path); err != nil || len(e.SHA256) != 64 {
			return nil, release.Refuse(release.Format, "the inventory of release %s names %.100q", id, e.Path)
		}
	}
	c := FromMembers(in.Layout, in.Feed, id, in.GeneratedAt, in.Members)
	if c.Digest != in.Digest {
		return nil, release.Refuse(release.DigestMismatch, "the inventory of release %s was changed", id).Found(in.Digest, c.Digest)
	}
	return c, nil
}

// readRegular reads a regular file of at most limit bytes, through no link.
func readRegular(path string, limit int64) ([]byte, error) {
	f, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = release.Refuse(release.TooLarge, "%q has more than %d bytes", path, limit)
	}
	return data, err
}

func openRegular(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if errors.Is(err, syscall.ELOOP) {
		return nil, release.Refuse(release.ExtraMember, "%q is a link", path)
	}
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		f.Close()
		return nil, release.Refuse(release.ExtraMember, "%q is no regular file", path)
	}
	return f, nil
}
