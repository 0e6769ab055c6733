package pack

import (
	"bytes"
	"errors"
	"io"
	"os"
	"testing"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/objstore"
	"github.com/stella-ops/stella/internal/objstore/fs"
)

// FuzzSegments makes one stream with cuts anywhere, leaves segments out, keeps
// a piece and reads a range: what comes is what was packed, or a named error.
func FuzzSegments(f *testing.F) {
	f.Add(uint16(700), uint16(0), uint16(0), uint16(900), uint16(0), uint16(0), uint8(0))
	f.Add(uint16(512), uint16(2), uint16(300), uint16(5), uint16(1000), uint16(2000), uint8(3))
	f.Add(uint16(1), uint16(1<<15), uint16(9), uint16(0), uint16(4000), uint16(900), uint8(8))
	s := newSample(f, 0, 1, 511, 512, 513, 3000)
	l, err := NewLayout(s.st)
	if err != nil {
		f.Fatal(err)
	}
	var whole bytes.Buffer
	if err := newStream(l, s.store).copy(f.Context(), &whole, 0, l.Size(), true); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, size, out, off, n, keepFrom, keepLen uint16, member uint8) {
		segment := int64(size)%l.Size() + 16 // so that a run makes some hundred files at most
		m := &Manifest{Statement: "sha256:x", Size: l.Size(), SegmentSize: segment}
		dir := t.TempDir()
		src := newStream(l, s.store)
		for i := range segments(l.Size(), segment) {
			from := int64(i) * segment
			to := min(from+segment, l.Size())
			m.Segments = append(m.Segments, Segment{Name: Name(i), Size: to - from})
			var b bytes.Buffer
			if err := src.copy(t.Context(), &b, from, to, true); err != nil || !bytes.Equal(b.Bytes(), whole.Bytes()[from:to]) {
				t.Fatalf("%d to %d: other bytes, %v", from, to, err)
			}
			if out>>(i%16)&1 == 1 {
				continue
			}
			if err := os.WriteFile(dir+"/"+Name(i), b.Bytes(), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		store, err := fs.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		set := &Set{Manifest: m, layout: l, dirs: []*folder{{store, dir}}, sound: map[int]error{}}
		defer set.Close()
		if err := set.survey(t.Context()); err != nil {
			t.Fatal(err)
		}
		keep(t, set, whole.Bytes(), int64(keepFrom), int64(keepLen))
		want := s.st.Members[int(member)%len(s.st.Members)]
		data := s.files[want.Path]
		got, err := readAll(t, set, want.Path, objstore.Get{Offset: int64(off), Length: int64(n)})
		from, to, _ := set.Range(want.Path)
		switch {
		case errors.Is(err, objstore.ErrRange):
			if off == 0 || int(off) < len(data) {
				t.Errorf("offset %d of %d bytes: %v", off, len(data), err)
			}
		case errors.Is(err, ErrAbsent):
			if set.Has(from, to) || fault.KindOf(err) != fault.Partial {
				t.Errorf("all of %s is here, but: %v", want.Path, err)
			}
		case err != nil:
			t.Errorf("%s: %v", want.Path, err)
		default:
			end := len(data)
			if n > 0 {
				end = min(end, int(off)+int(n))
			}
			if !bytes.Equal(got, data[off:end]) {
				t.Errorf("%s from %d to %d: other bytes", want.Path, off, end)
			}
		}
	})
}

// keep gives the set a kept piece of the stream.
func keep(t *testing.T, set *Set, whole []byte, from, n int64) {
	t.Helper()
	from = from % int64(len(whole))
	n = min(n, int64(len(whole))-from)
	if n == 0 {
		return
	}
	above := t.TempDir() + "/unpack"
	if err := set.UseKept(above, true); err != nil {
		t.Fatal(err)
	}
	if err := set.kept.add(t.Context(), span{from: from, to: from + n}, io.NopCloser(bytes.NewReader(whole[from:from+n]))); err != nil {
		t.Fatal(err)
	}
	if err := set.UseKept(above, true); err != nil || len(set.kept.spans) != 1 {
		t.Fatalf("%v %v", set.kept.spans, err)
	}
}
