package ui

import (
	"fmt"
	"strings"

	"rsc.io/qr"
)

// quiet is the light margin of a QR code, in modules (ISO/IEC 18004).
const quiet = 4

// QR draws text as a QR code of error correction level M on standard error,
// two modules to a character. It draws nothing and returns false when standard
// error is no terminal that is wide enough, when output is JSON, or when text
// is too long for a code. Dark modules are black on white; without colour,
// light modules are the terminal's own text colour, which suits a dark
// background, and many readers take the other one too.
func (s *Streams) QR(text string) bool {
	if !s.ErrTTY || s.Format == JSON {
		return false
	}
	code, err := qr.Encode(text, qr.M)
	if err != nil || code.Size+2*quiet > s.Width {
		return false
	}
	var b strings.Builder
	for _, line := range drawQR(code.Size, code.Black, s.NoColor) {
		if !s.NoColor {
			line = "\x1b[38;5;16;48;5;231m" + line + "\x1b[0m" // black on white in any palette
		}
		b.WriteString(line + "\n")
	}
	_, err = fmt.Fprint(s.Err, b.String())
	return err == nil
}

// drawQR draws a square of modules with its margin. With light set the blocks
// are the light modules, otherwise the dark ones.
func drawQR(size int, black func(x, y int) bool, light bool) []string {
	// By whether the upper and the lower half are blocks.
	halves := map[[2]bool]string{{false, false}: " ", {true, false}: "▀", {false, true}: "▄", {true, true}: "█"}
	whole := size + 2*quiet
	block := func(x, y int) bool { return y < whole && black(x-quiet, y-quiet) != light }
	var lines []string
	for y := 0; y < whole; y += 2 {
		var line strings.Builder
		for x := range whole {
			line.WriteString(halves[[2]bool{block(x, y), block(x, y+1)}])
		}
		lines = append(lines, line.String())
	}
	return lines
}
