package pack

import (
	"archive/tar"
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"sort"
	"time"

	"github.com/stella-ops/stella/internal/release"
)

const (
	block   = 512
	trailer = 2 * block // zeros that end an archive
)

// Layout is where in the stream each member is. It follows from the statement.
type Layout struct {
	members []release.Member
	at      time.Time
	start   []int64 // of each member: where its header begins
	data    []int64 // and where its bytes begin
	size    int64
}

// NewLayout computes the layout of a release.
func NewLayout(st *release.Statement) (*Layout, error) {
	n := len(st.Members)
	l := &Layout{members: st.Members, at: st.GeneratedAt, start: make([]int64, n), data: make([]int64, n)}
	var head bytes.Buffer
	var pos int64
	for i, m := range st.Members {
		head.Reset()
		if err := l.writeHeader(&head, m); err != nil {
			return nil, err
		}
		l.start[i] = pos
		l.data[i] = pos + int64(head.Len())
		pos = l.padded(i)
	}
	l.size = pos + trailer
	if l.size > maxStream {
		return nil, fmt.Errorf("the stream of release %s has %d bytes, more than 2^41", st.ExportID, l.size)
	}
	return l, nil
}

// writeHeader writes the tar header of one member: USTAR, or where name or size
// do not fit, PAX. Nothing in it depends on the host.
func (l *Layout) writeHeader(to *bytes.Buffer, m release.Member) error {
	err := tar.NewWriter(to).WriteHeader(&tar.Header{
		Typeflag: tar.TypeReg, Name: m.Path, Size: m.Size, Mode: 0o644, ModTime: l.at,
	})
	if err != nil {
		return fmt.Errorf("the tar header of %q: %w", m.Path, err)
	}
	return nil
}

// header returns the header of one member.
func (l *Layout) header(i int) ([]byte, error) {
	var b bytes.Buffer
	err := l.writeHeader(&b, l.members[i])
	return b.Bytes(), err
}

// Size is how many bytes the stream has.
func (l *Layout) Size() int64 { return l.size }

// end is where the bytes of a member end, padded where the next header begins.
func (l *Layout) end(i int) int64 { return l.data[i] + l.members[i].Size }

func (l *Layout) padded(i int) int64 { return (l.end(i) + block - 1) / block * block }

// find returns the index of a member.
func (l *Layout) find(path string) (int, bool) {
	return slices.BinarySearchFunc(l.members, path, func(m release.Member, p string) int { return cmp.Compare(m.Path, p) })
}

// from returns the index of the first member of which something, header and
// padding included, lies at pos or behind it.
func (l *Layout) from(pos int64) int {
	return sort.Search(len(l.members), func(i int) bool { return l.padded(i) > pos })
}

// span returns where a member lies, with its header. Of an empty member nothing
// is needed.
func (l *Layout) span(path string) (from, to int64, ok bool) {
	i, ok := l.find(path)
	if !ok {
		return 0, 0, false
	}
	if l.members[i].Size == 0 {
		return l.data[i], l.end(i), true
	}
	return l.start[i], l.end(i), true
}
