// Package ui is how the command line speaks: streams, tables, styles,
// progress, events and errors.
//
// It guarantees that results go to standard output and everything else to
// standard error; that colour is decoration, on a terminal only, and never
// carries meaning; that nothing printed as text can move the cursor or forge
// a line; that JSON objects begin with their schema; and that making the
// streams costs no terminal query.
package ui

import (
	"bytes"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/charmbracelet/x/term"
)

// Format is how results are printed.
type Format string

// The formats.
const (
	Text Format = "text"
	JSON Format = "json"
)

// Allowed lists the formats; strictyaml uses it.
func (Format) Allowed() []string { return []string{string(Text), string(JSON)} }

// Streams are the three streams of a process with the facts that decide how
// to use them. They are set up once, then read only.
type Streams struct {
	In  io.Reader
	Out io.Writer // results
	Err io.Writer // errors, warnings, progress, prompts

	InTTY, OutTTY, ErrTTY bool
	Width                 int // columns of the terminal, 80 when there is none

	Format   Format
	Quiet    bool // no progress, no notes; errors and results only
	NoColor  bool
	Interval time.Duration    // between progress updates; 0 means 100 ms on a terminal, else 10 s
	Now      func() time.Time // for progress; never nil
}

// System returns the streams of this process. NO_COLOR, TERM=dumb and
// STELLA_PROGRESS_INTERVAL (a Go duration or seconds; a bad one is ignored
// here and refused by the configuration) are read by getenv.
func System(getenv func(string) string) *Streams {
	s := &Streams{
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr,
		InTTY: term.IsTerminal(os.Stdin.Fd()), OutTTY: term.IsTerminal(os.Stdout.Fd()), ErrTTY: term.IsTerminal(os.Stderr.Fd()),
		Width: 80, Format: Text, Now: time.Now,
		NoColor: getenv("NO_COLOR") != "" || getenv("TERM") == "dumb",
	}
	s.Interval, _ = ParseInterval(getenv("STELLA_PROGRESS_INTERVAL"))
	for fd, terminal := range map[uintptr]bool{os.Stdout.Fd(): s.OutTTY, os.Stderr.Fd(): s.ErrTTY && !s.OutTTY} {
		if !terminal {
			continue
		}
		if w, _, err := term.GetSize(fd); err == nil && w > 0 {
			s.Width = w
		}
	}
	if n, err := strconv.Atoi(getenv("COLUMNS")); err == nil && n > 0 {
		s.Width = n
	}
	return s
}

// Buffers returns streams for tests, which are no terminals, and what is
// written to them.
func Buffers(in string) (s *Streams, out, err *bytes.Buffer) {
	out, err = new(bytes.Buffer), new(bytes.Buffer)
	return &Streams{In: strings.NewReader(in), Out: out, Err: err, Width: 80, Format: Text, Now: time.Now}, out, err
}

// ParseInterval parses STELLA_PROGRESS_INTERVAL: "" (zero), a Go duration, or
// a number of seconds; from 10 ms to an hour.
func ParseInterval(text string) (time.Duration, bool) {
	if text == "" {
		return 0, true
	}
	d, err := time.ParseDuration(text)
	if n, nerr := strconv.ParseFloat(text, 64); nerr == nil && n > 0 && n <= 3600 {
		d, err = time.Duration(n*float64(time.Second)), nil
	}
	if err != nil || d < 10*time.Millisecond || d > time.Hour {
		return 0, false
	}
	return d, true
}

// Clean makes text from elsewhere safe for a terminal: control characters,
// among them escape and newline, and characters that reorder what is read
// become U+FFFD.
func Clean(text string) string {
	return strings.Map(func(r rune) rune {
		if hostile(r) || r == '\n' || r == '\t' {
			return '\uFFFD'
		}
		return r
	}, text)
}

// cleanBlock is Clean but keeps newlines and tabs.
func cleanBlock(text string) string {
	return strings.Map(func(r rune) rune {
		if hostile(r) {
			return '\uFFFD'
		}
		return r
	}, text)
}

func hostile(r rune) bool {
	switch {
	case r == '\n' || r == '\t':
		return false
	case r < ' ', r >= 0x7f && r <= 0x9f: // C0, DEL, C1
		return true
	case r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069, r == 0x200e, r == 0x200f, r == 0x2028, r == 0x2029:
		return true // bidirectional controls and line separators
	}
	return false
}
