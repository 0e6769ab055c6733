package pack

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/release"
	"github.com/stella-ops/stella/internal/testenv"
)

// TestStreamIsTar reads the segments with the standard library and with the
// host's tar, and wants the members, each where the layout says.
func TestStreamIsTar(t *testing.T) {
	s := newSample(t, 0, 1, 511, 512, 513, 700_000, 1<<20, 1<<20-512, 3<<20)
	dir, w := s.write(t)
	var whole bytes.Buffer
	for i := range w.Manifest.Segments {
		data, err := os.ReadFile(segment(dir, i))
		if err != nil {
			t.Fatal(err)
		}
		whole.Write(data)
	}
	if sum := sha256.Sum256(whole.Bytes()); hex.EncodeToString(sum[:]) != w.Manifest.SHA256 || int64(whole.Len()) != w.Manifest.Size {
		t.Errorf("%d bytes with another digest than pack.json says", whole.Len())
	}
	l, err := NewLayout(s.st)
	if err != nil {
		t.Fatal(err)
	}
	r := tar.NewReader(bytes.NewReader(whole.Bytes()))
	for i, m := range s.st.Members {
		h, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil || h.Name != m.Path || h.Mode != 0o644 || h.Uid != 0 || !h.ModTime.Equal(s.st.GeneratedAt) || !bytes.Equal(data, s.files[m.Path]) {
			t.Errorf("%s: %+v %v", m.Path, h, err)
		}
		if at := whole.Bytes()[l.data[i]:l.end(i)]; !bytes.Equal(at, s.files[m.Path]) {
			t.Errorf("%s is not at %d", m.Path, l.data[i])
		}
	}
	if _, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("behind the last member: %v", err)
	}
	testenv.Need(t, "tar", "tar")
	out := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", `cat "$1"/segment-* | tar -x -f - -C "$2" && cat "$1"/segment-* | tar -t -f -`, "sh", dir, out)
	listed, err := cmd.CombinedOutput()
	if err != nil || strings.Count(string(listed), "\n") != len(s.files) {
		t.Fatalf("tar: %v\n%s", err, listed)
	}
	for path, want := range s.files {
		if got, err := os.ReadFile(filepath.Join(out, path)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("tar gave %d bytes for %s: %v", len(got), path, err)
		}
	}
}

// TestHeaders pins the header bytes: who reads a pack computes them.
func TestHeaders(t *testing.T) {
	at := time.Date(2026, 3, 1, 1, 0, 0, 0, time.UTC)
	zero := strings.Repeat("0", 64)
	for _, c := range []struct {
		name   string
		m      release.Member
		blocks int64
		want   string
	}{
		{"ustar", release.Member{Path: "mirror/index.json", Size: 5, SHA256: zero}, 1, "c33293aff6eb265c"},
		{"ustar, prefix", release.Member{Path: "mirror/" + strings.Repeat("d", 120) + "/f", Size: 5, SHA256: zero}, 1, "c9644c578d2bb072"},
		{"pax name", release.Member{Path: deep, Size: 5, SHA256: zero}, 3, "99a8277f354348f9"},
		{"ustar, largest", release.Member{Path: "mirror/big", Size: 1<<33 - 1, SHA256: zero}, 1, "826e20ec231b1643"},
		{"pax size", release.Member{Path: "mirror/big", Size: 1 << 33, SHA256: zero}, 3, "0b4a1de2efa2d447"},
	} {
		l, err := NewLayout(&release.Statement{GeneratedAt: at, Members: []release.Member{c.m}})
		if err != nil {
			t.Fatal(err)
		}
		head, err := l.header(0)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(head)
		if got := hex.EncodeToString(sum[:8]); got != c.want || l.data[0] != c.blocks*block {
			t.Errorf("%s: %d bytes, digest %s; want %d blocks, %s", c.name, l.data[0], got, c.blocks, c.want)
		}
	}
}

func members(n int) *release.Statement {
	st := &release.Statement{GeneratedAt: time.Unix(1_700_000_000, 0), ExportID: "x"}
	for i := range n {
		st.Members = append(st.Members, release.Member{Path: fmt.Sprintf("mirror/primary/advisories/%06d.json", i), Size: 20_480})
	}
	return st
}

// TestLayoutOfMany computes places far into a stream without reading it.
func TestLayoutOfMany(t *testing.T) {
	l, err := NewLayout(members(100_000))
	if err != nil {
		t.Fatal(err)
	}
	from, to, ok := l.span("mirror/primary/advisories/099999.json")
	if want := int64(99_999) * (512 + 20_480); !ok || from != want || to != want+512+20_480 || l.Size() != to+1024 {
		t.Errorf("%d to %d of %d", from, to, l.Size())
	}
}

func BenchmarkLayout100000(b *testing.B) {
	st := members(100_000)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := NewLayout(st); err != nil {
			b.Fatal(err)
		}
	}
}
