// Package pack carries a mirror release over a gap: a folder with the release's
// statement and one tar stream of its members, cut into segments.
//
// It guarantees that one release and one segment size give one sequence of
// bytes, so that packing again goes on where it stopped and the place of every
// member follows from the statement alone; that pack.json, written last, names
// only what was read, verified and made durable; that a reader of a pack opens
// regular files only, within their said sizes, and tells a damaged copy from
// segments that are not here. It gives integrity for the transport, not trust:
// who reads members verifies them as from any other source.
// docs/formats/mirror-pack.md is the same for other tools.
package pack

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/jose/strictjson"
	"github.com/stella-ops/stella/internal/release"
)

// FileManifest is the name of the document that describes a pack, beside its
// segments.
const FileManifest = "pack.json"

// Schema is what a Manifest says that it is.
const Schema = "stella.mirror.segments/v1"

// Bounds of a pack, in bytes and in number.
const (
	DefaultSegment = 4<<30 - 1 // the largest file of FAT32
	MinSegment     = 1 << 20
	MaxSegment     = maxStream
	MaxSegments    = 99_999
	MaxManifest    = 16 << 20
	maxStream      = 1 << 41 // twice what members may have together
	maxSequence    = 1 << 53
)

// What may be wrong with a pack, for errors.Is. Kinds as fault.KindOf gives
// them are in brackets.
var (
	ErrManifest = errors.New("not a description of a pack")            // [trust]
	ErrMixed    = errors.New("parts of different packs")               // [trust], writing: [order]
	ErrStream   = errors.New("the stream is not that of this release") // [trust]
	ErrDamaged  = errors.New("a damaged copy")                         // [trust]
	ErrAbsent   = errors.New("segments are not here")                  // [partial]
	ErrGone     = errors.New("a segment was here and is here no more") // [transient]
)

// Manifest is pack.json. All but its digests follows from the release and
// SegmentSize; it is there for other tools.
type Manifest struct {
	Schema      string    `json:"schema"`
	Feed        string    `json:"feed"`
	ExportID    string    `json:"exportId"`
	Sequence    int64     `json:"sequence"`
	Statement   string    `json:"statement"`   // digest of release.json, sha256:hex
	Signatures  string    `json:"signatures"`  // digest of release.json.jws, sha256:hex
	Size        int64     `json:"size"`        // bytes of the whole stream
	SHA256      string    `json:"sha256"`      // of the whole stream, lower-case hex
	SegmentSize int64     `json:"segmentSize"` // bytes of each segment but the last
	Segments    []Segment `json:"segments"`
}

// Segment is one piece of the stream.
type Segment struct {
	Name   string `json:"name"`   // as Name gives it
	Size   int64  `json:"size"`   // bytes
	SHA256 string `json:"sha256"` // lower-case hex
}

// Name is what the segment with that index, from 0, is called.
func Name(i int) string { return fmt.Sprintf("segment-%05d.tar.part", i+1) }

// segments is how many segments a stream is cut into.
func segments(size, segment int64) int { return int((size + segment - 1) / segment) }

// Encode writes m in its canonical form: UTF-8 JSON, members in the order of
// the type, no white space but a newline before each segment, before the
// closing bracket and at the end. What Parse would refuse is an error.
func (m *Manifest) Encode() ([]byte, error) {
	c := *m
	c.Schema = Schema
	if err := c.check(); err != nil {
		return nil, err
	}
	return c.encode(), nil
}

// encode writes a manifest that is in order. No text in it needs an escape.
func (m *Manifest) encode() []byte {
	b := bytes.NewBuffer(make([]byte, 0, 512+len(m.Segments)*130))
	text := func(name, value string) { b.WriteString(`"` + name + `":"` + value + `",`) }
	number := func(name string, value int64) {
		b.WriteString(`"` + name + `":` + strconv.FormatInt(value, 10) + ",")
	}
	b.WriteByte('{')
	text("schema", m.Schema)
	text("feed", m.Feed)
	text("exportId", m.ExportID)
	number("sequence", m.Sequence)
	text("statement", m.Statement)
	text("signatures", m.Signatures)
	number("size", m.Size)
	text("sha256", m.SHA256)
	number("segmentSize", m.SegmentSize)
	b.WriteString(`"segments":[`)
	for i, s := range m.Segments {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString("\n{")
		text("name", s.Name)
		number("size", s.Size)
		b.WriteString(`"sha256":"` + s.SHA256 + `"}`)
	}
	b.WriteString("\n]}\n")
	return b.Bytes()
}

// Parse reads a manifest of at most MaxManifest bytes. It must be in canonical
// form. Errors wrap ErrManifest and are of kind Trust.
func Parse(data []byte) (*Manifest, error) {
	if len(data) > MaxManifest {
		return nil, bad("it has %d bytes, at most %d are allowed", len(data), MaxManifest)
	}
	var m Manifest
	if err := strictjson.Decode(data, &m); err != nil {
		return nil, bad("it is no JSON of this format: %w", err)
	}
	if err := m.check(); err != nil {
		return nil, err
	}
	if !bytes.Equal(m.encode(), data) {
		return nil, bad("it is not in canonical form")
	}
	return &m, nil
}

func bad(format string, args ...any) error {
	return fault.Errorf(fault.Trust, "%s: %w: %w", FileManifest, ErrManifest, fmt.Errorf(format, args...))
}

// check holds a manifest to its format. Names and sizes of segments can only be
// those that follow from the rest: so none leads out of its folder, none is
// there twice, and they have one order.
func (m *Manifest) check() error {
	switch {
	case m.Schema != Schema:
		return bad("schema is %.60q, not %s", m.Schema, Schema)
	case !release.FeedName(m.Feed):
		return bad("feed is not 1 to 64 lower-case letters, digits and hyphens")
	case !release.ExportID(m.ExportID):
		return bad("exportId %.80q is not a plain name", m.ExportID)
	case m.Sequence < 1 || m.Sequence > maxSequence:
		return bad("sequence is not a number from 1 to 2^53")
	case !hexDigest(strings.TrimPrefix(m.Statement, "sha256:")), !hexDigest(strings.TrimPrefix(m.Signatures, "sha256:")),
		!strings.HasPrefix(m.Statement, "sha256:"), !strings.HasPrefix(m.Signatures, "sha256:"):
		return bad("statement and signatures are not sha256: and lower-case hex")
	case !hexDigest(m.SHA256):
		return bad("sha256 is not a SHA-256 in lower-case hex")
	case m.Size < 1 || m.Size > maxStream:
		return bad("size is not 1 to 2^41")
	case m.SegmentSize < MinSegment || m.SegmentSize > MaxSegment:
		return bad("segmentSize is not 2^20 to 2^41")
	}
	n := segments(m.Size, m.SegmentSize)
	if n != len(m.Segments) || n > MaxSegments {
		return bad("it names %d segments; %d bytes make %d of %d, and at most %d are allowed", len(m.Segments), m.Size, n, m.SegmentSize, MaxSegments)
	}
	for i, s := range m.Segments {
		switch {
		case s.Name != Name(i):
			return bad("segment %d has the name %.80q, not %s", i+1, s.Name, Name(i))
		case s.Size != min(m.SegmentSize, m.Size-int64(i)*m.SegmentSize):
			return bad("%s has %d bytes, which does not fit size and segmentSize", s.Name, s.Size)
		case !hexDigest(s.SHA256):
			return bad("%s has no SHA-256 in lower-case hex", s.Name)
		}
	}
	return nil
}

func hexDigest(s string) bool {
	return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
}
