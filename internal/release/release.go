// Package release is the format of mirror releases: a signed statement, and
// below mirror/ an index and, for each domain, a manifest, a bundle and the
// bundle's detached signature, with whatever other members there are.
//
// It guarantees that a statement has one spelling only (what ParseStatement
// accepts, Encode writes again byte for byte); that nothing of it is believed
// before enough keys of the trust policy have signed its exact bytes; that no
// member has a name with a second meaning on any system (see CheckPath); and
// that what is refused is refused with one Reason, as an error of the fault
// kind Trust. docs/formats/release.md is the same for other tools.
package release

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The names of the two files of a statement, beside mirror/.
const (
	FileStatement = "release.json"
	FileSignature = "release.json.jws"
)

// Schema and Type are the domain separation of statements: the first in the
// document, the second in the signature's protected header.
const (
	Schema = "stella.mirror.release/v1"
	Type   = "application/vnd.stella.mirror-release+jws"
)

// Bounds of a statement, in bytes and in number. A policy may only lower them.
const (
	MaxStatement = 64 << 20
	MaxSignature = 64 << 10 // of a signature file, all its lines
	MaxSigners   = 16
	MaxMembers   = 500_000
	MaxMember    = 1 << 40
	maxSequence  = 1 << 53 // any JSON library keeps whole numbers up to here
)

// Member is one file of a release.
type Member struct {
	Path   string `json:"path"`   // slash-separated, see CheckPath
	Size   int64  `json:"size"`   // bytes
	SHA256 string `json:"sha256"` // lower-case hex
}

// Statement names every file of a release. Members are in the order of Path.
type Statement struct {
	Schema      string    `json:"schema"`
	Feed        string    `json:"feed"`        // concelier, excititor
	ExportID    string    `json:"exportId"`    // such as 20251123T000000Z
	Sequence    int64     `json:"sequence"`    // rises by one or more with each release of a feed; from 1
	GeneratedAt time.Time `json:"generatedAt"` // UTC, whole seconds
	ExpiresAt   time.Time `json:"expiresAt"`   // a mirror that still has it then is stale
	Members     []Member  `json:"members"`
}

// Bytes is the size of all members together.
func (s *Statement) Bytes() int64 {
	var n int64
	for _, m := range s.Members {
		n += m.Size
	}
	return n
}

// Find returns the member at a path.
func (s *Statement) Find(path string) (Member, bool) {
	i, ok := slices.BinarySearchFunc(s.Members, path, func(m Member, p string) int { return cmp.Compare(m.Path, p) })
	if !ok {
		return Member{}, false
	}
	return s.Members[i], true
}

// Encode writes a statement in its canonical form: UTF-8 JSON, members in the
// order of this type, no white space but a newline before each entry of
// members, before the closing bracket and at the end; entries in byte order of
// path. s is not changed. What ParseStatement would refuse is an error.
func Encode(s *Statement) ([]byte, error) {
	c := *s
	c.Schema = Schema
	c.GeneratedAt, c.ExpiresAt = s.GeneratedAt.UTC(), s.ExpiresAt.UTC()
	c.Members = slices.Clone(s.Members)
	slices.SortFunc(c.Members, func(a, b Member) int { return cmp.Compare(a.Path, b.Path) })
	if err := c.check(); err != nil {
		return nil, err
	}
	data := c.encode()
	if len(data) > MaxStatement {
		return nil, refuse(TooLarge, "the statement has %d bytes, at most %d are allowed", len(data), MaxStatement)
	}
	return data, nil
}

// encode writes a statement that is in order. No text in it needs an escape.
func (s *Statement) encode() []byte {
	b := bytes.NewBuffer(make([]byte, 0, 256+len(s.Members)*140))
	text := func(name, value string) {
		b.WriteString(`"` + name + `":"` + value + `",`)
	}
	b.WriteByte('{')
	text("schema", s.Schema)
	text("feed", s.Feed)
	text("exportId", s.ExportID)
	b.WriteString(`"sequence":` + strconv.FormatInt(s.Sequence, 10) + ",")
	text("generatedAt", s.GeneratedAt.UTC().Format(time.RFC3339))
	text("expiresAt", s.ExpiresAt.UTC().Format(time.RFC3339))
	b.WriteString(`"members":[`)
	for i, m := range s.Members {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString("\n{")
		text("path", m.Path)
		b.WriteString(`"size":` + strconv.FormatInt(m.Size, 10) + `,"sha256":"` + m.SHA256 + `"}`)
	}
	b.WriteString("\n]}\n")
	return b.Bytes()
}

// ParseStatement reads a statement of at most MaxStatement bytes. It must be in
// canonical form. Its signature is not checked: call Policy.Verify. Errors are
// of the Reason Format, HostileName, TooLarge, MissingMember or ExtraMember.
func ParseStatement(data []byte) (*Statement, error) {
	if len(data) > MaxStatement {
		return nil, refuse(TooLarge, "the statement has %d bytes, at most %d are allowed", len(data), MaxStatement)
	}
	var s Statement
	if err := decodeStrict(data, &s); err != nil {
		return nil, refuse(Format, "the statement is no JSON of this format: %.300s", err)
	}
	if err := s.check(); err != nil {
		return nil, err
	}
	if again := s.encode(); !bytes.Equal(again, data) {
		return nil, refuse(Format, "the statement is not in canonical form: byte %d differs", differs(again, data))
	}
	return &s, nil
}

// check holds a statement to its format.
func (s *Statement) check() error {
	switch {
	case s.Schema != Schema:
		return refuse(Format, "the statement has schema %.60q, not %s", s.Schema, Schema)
	case !FeedName(s.Feed):
		return refuse(Format, "feed is not 1 to 64 lower-case letters, digits and hyphens")
	case !ExportID(s.ExportID):
		return refuse(HostileName, "exportId %.80q is not a plain name", s.ExportID)
	case s.Sequence < 1 || s.Sequence > maxSequence:
		return refuse(Format, "sequence is not a number from 1 to 2^53")
	case !sane(s.GeneratedAt) || !sane(s.ExpiresAt):
		return refuse(Format, "generatedAt or expiresAt is missing or not a whole second between 1970 and 2200")
	case !s.ExpiresAt.After(s.GeneratedAt):
		return refuse(Format, "expiresAt is not after generatedAt")
	case len(s.Members) > MaxMembers:
		return refuse(TooLarge, "the statement names %d members, at most %d are allowed", len(s.Members), MaxMembers)
	}
	var total int64
	names := NewNames()
	for i, m := range s.Members {
		if err := names.Add(m.Path); err != nil {
			return err
		}
		switch {
		case i > 0 && s.Members[i-1].Path >= m.Path:
			return refuse(Format, "member %.200q is not after the one before it", m.Path)
		case m.Size < 0 || m.Size > MaxMember:
			return refuse(TooLarge, "member %.200q has a size that is not 0 to 2^40", m.Path)
		case !hexDigest(m.SHA256):
			return refuse(Format, "member %.200q has no SHA-256 in lower-case hex", m.Path)
		}
		if total += m.Size; total > MaxMember {
			return refuse(TooLarge, "the members have more than 2^40 bytes together")
		}
	}
	return s.closed()
}

// Digest is how a SHA-256 is written everywhere but inside statements.
func Digest(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func hexDigest(s string) bool {
	return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
}

// sane reports whether a time is plausible and survives being written.
func sane(t time.Time) bool {
	return t.Unix() > 0 && t.Year() < 2200 && t.Nanosecond() == 0
}

func differs(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

// Equal reports whether two statements are the same release.
func Equal(a, b *Statement) bool { return bytes.Equal(a.encode(), b.encode()) }

var _ json.Marshaler = (*Refusal)(nil)
