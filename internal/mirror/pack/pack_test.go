package pack

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stella-ops/stella/internal/fault"
)

// good is a manifest that Parse accepts.
func good() *Manifest {
	zero := strings.Repeat("0", 64)
	m := &Manifest{
		Schema: Schema, Feed: "concelier", ExportID: "20260301T010000Z", Sequence: 7, Statement: "sha256:" + zero, Signatures: "sha256:" + zero,
		Size: 2*MinSegment + 512, SHA256: zero, SegmentSize: MinSegment,
	}
	for i, n := range []int64{MinSegment, MinSegment, 512} {
		m.Segments = append(m.Segments, Segment{Name(i), n, zero})
	}
	return m
}

func TestManifest(t *testing.T) {
	data, err := good().Encode()
	if err != nil {
		t.Fatal(err)
	}
	want := `{"schema":"stella.mirror.segments/v1","feed":"concelier","exportId":"20260301T010000Z","sequence":7,` +
		`"statement":"sha256:0000`
	if !strings.HasPrefix(string(data), want) || !strings.HasSuffix(string(data), "\"}\n]}\n") {
		t.Errorf("%s", data)
	}
	if m, err := Parse(data); err != nil || len(m.Segments) != 3 {
		t.Errorf("%+v %v", m, err)
	}
}

// TestManifestFlaws changes one thing of a good manifest at a time.
func TestManifestFlaws(t *testing.T) {
	cases := map[string]func(*Manifest){
		"another schema":        func(m *Manifest) { m.Schema = "stella.mirror.pack/v2" },
		"no feed":               func(m *Manifest) { m.Feed = "" },
		"an export that climbs": func(m *Manifest) { m.ExportID = "../x" },
		"sequence 0":            func(m *Manifest) { m.Sequence = 0 },
		"bare statement digest": func(m *Manifest) { m.Statement = strings.Repeat("0", 64) },
		"upper-case digest":     func(m *Manifest) { m.SHA256 = strings.Repeat("A", 64) },
		"no signatures digest":  func(m *Manifest) { m.Signatures = "" },
		"size 0":                func(m *Manifest) { m.Size = 0 },
		"a size that overflows": func(m *Manifest) { m.Size = 1<<63 - 1 },
		"a tiny segment size":   func(m *Manifest) { m.SegmentSize = 1 },
		"no segments":           func(m *Manifest) { m.Segments = nil },
		"a segment too few":     func(m *Manifest) { m.Segments = m.Segments[:2] },
		"a segment twice":       func(m *Manifest) { m.Segments[1] = m.Segments[0] },
		"another order":         func(m *Manifest) { m.Segments[0], m.Segments[1] = m.Segments[1], m.Segments[0] },
		"a name with a path":    func(m *Manifest) { m.Segments[0].Name = "../" + Name(0) },
		"an absolute name":      func(m *Manifest) { m.Segments[0].Name = "/etc/passwd" },
		"a longer segment":      func(m *Manifest) { m.Segments[2].Size++ },
		"a shorter segment":     func(m *Manifest) { m.Segments[0].Size-- },
		"a negative segment":    func(m *Manifest) { m.Segments[2].Size = -512 },
		"no segment digest":     func(m *Manifest) { m.Segments[2].SHA256 = "" },
	}
	for name, edit := range cases {
		t.Run(name, func(t *testing.T) {
			m := good()
			if _, err := Parse(m.encode()); err != nil {
				t.Fatalf("control: %v", err)
			}
			edit(m)
			if _, err := Parse(m.encode()); !errors.Is(err, ErrManifest) || fault.KindOf(err) != fault.Trust {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestManifestText changes the text of a good manifest.
func TestManifestText(t *testing.T) {
	data, err := good().Encode()
	if err != nil {
		t.Fatal(err)
	}
	replace := func(a, b string) []byte { return bytes.Replace(data, []byte(a), []byte(b), 1) }
	for name, text := range map[string][]byte{
		"empty":            {},
		"no JSON":          []byte("segment"),
		"cut":              data[:len(data)/2],
		"twice":            append(bytes.Clone(data), data...),
		"white space":      replace(`,"feed"`, `, "feed"`),
		"unknown member":   replace(`"feed"`, `"more":1,"feed"`),
		"member twice":     replace(`"feed":`, `"feed":"x","feed":`),
		"another spelling": replace(`"feed"`, `"Feed"`),
		"a fraction":       replace(`"sequence":7`, `"sequence":7.0`),
		"an escape":        replace(`concelier`, `c\u006fncelier`),
		"a huge number":    replace(`"size":`, `"size":1`+strings.Repeat("0", 400)),
		"deep":             []byte(strings.Repeat(`{"schema":`, 10_000)),
		"too large":        bytes.Repeat([]byte(" "), MaxManifest+1),
	} {
		if _, err := Parse(text); !errors.Is(err, ErrManifest) {
			t.Errorf("%s: %v", name, err)
		} else if len(err.Error()) > 600 {
			t.Errorf("%s: an error of %d bytes", name, len(err.Error()))
		}
	}
}

// FuzzManifest wants what is accepted to have one spelling.
func FuzzManifest(f *testing.F) {
	data, err := good().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(fmt.Sprintf(`{"schema":%q}`, Schema)))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := Parse(data)
		if err != nil {
			if !errors.Is(err, ErrManifest) {
				t.Errorf("%v", err)
			}
			return
		}
		again, err := m.Encode()
		if err != nil || !bytes.Equal(again, data) {
			t.Errorf("%q became %q: %v", data, again, err)
		}
	})
}
