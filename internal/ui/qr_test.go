package ui

import (
	"bytes"
	"regexp"
	"strings"
	"testing"

	"rsc.io/qr"
)

const visit = "https://authority.example/device?user_code=WDJB-MJHT"

// readQR reads a printed code back: true is dark. It is told which of the two
// the blocks stand for.
func readQR(t *testing.T, printed string, blocksAreDark bool) [][]bool {
	t.Helper()
	var rows [][]bool
	for line := range strings.SplitSeq(strings.TrimRight(printed, "\n"), "\n") {
		var upper, lower []bool
		for _, r := range line {
			i := strings.IndexRune(" ▀▄█", r)
			if i < 0 {
				t.Fatalf("%q is no half block", r)
			}
			top, bottom := r == '▀' || r == '█', r == '▄' || r == '█'
			upper, lower = append(upper, top == blocksAreDark), append(lower, bottom == blocksAreDark)
		}
		rows = append(rows, upper, lower)
	}
	return rows
}

// TestQR compares what is printed with the code itself, module by module, and
// wants a light margin all around.
func TestQR(t *testing.T) {
	code, err := qr.Encode(visit, qr.M)
	if err != nil {
		t.Fatal(err)
	}
	escape := regexp.MustCompile(`\x1b\[[0-9;]*m`)
	for _, plain := range []bool{true, false} {
		s, _, printed := Buffers("")
		s.ErrTTY, s.NoColor = true, plain
		if !s.QR(visit) {
			t.Fatal("nothing was drawn")
		}
		if plain == bytes.Contains(printed.Bytes(), []byte{0x1b}) {
			t.Errorf("plain %v, and escapes: %q", plain, printed.String()[:20])
		}
		rows := readQR(t, escape.ReplaceAllString(printed.String(), ""), !plain)
		if len(rows) < code.Size+2*quiet || len(rows[0]) != code.Size+2*quiet {
			t.Fatalf("%d by %d modules are drawn, of %d", len(rows), len(rows[0]), code.Size+2*quiet)
		}
		for y, row := range rows {
			for x, dark := range row {
				if want := code.Black(x-quiet, y-quiet); dark != want && y < code.Size+2*quiet {
					t.Fatalf("plain %v: module %d,%d is dark: %v, want %v", plain, x, y, dark, want)
				}
			}
		}
	}
}

func TestQRIsNotDrawn(t *testing.T) {
	for name, tc := range map[string]struct {
		bend  func(*Streams)
		text  string
		drawn bool
	}{
		"control":       {func(*Streams) {}, visit, true},
		"no terminal":   {func(s *Streams) { s.ErrTTY = false }, visit, false},
		"JSON":          {func(s *Streams) { s.Format = JSON }, visit, false},
		"narrow":        {func(s *Streams) { s.Width = 40 }, visit, false},
		"text too long": {func(s *Streams) { s.Width = 1000 }, strings.Repeat("a", 4000), false},
	} {
		s, _, printed := Buffers("")
		s.ErrTTY = true
		tc.bend(s)
		if s.QR(tc.text) != tc.drawn || (printed.Len() > 0) != tc.drawn {
			t.Errorf("%s: %d bytes were drawn", name, printed.Len())
		}
	}
}
