package ui

import (
	"io"

	"github.com/charmbracelet/lipgloss"
	"github.com/muesli/termenv"
)

// Tone is what a word means; it is always readable without its colour.
type Tone uint8

// The tones.
const (
	Plain Tone = iota
	Good
	Warn
	Bad
	Faint
	Strong
)

// paint colours text for a stream, or returns it as it is.
type paint struct{ styles *[6]lipgloss.Style }

// painter makes a paint. With on false it touches nothing of lipgloss.
func painter(on bool) paint {
	if !on {
		return paint{}
	}
	r := lipgloss.NewRenderer(io.Discard)
	// Both are told, so that neither is asked from the terminal. Sixteen
	// colours only: the operator's own palette decides what they look like.
	r.SetColorProfile(termenv.ANSI)
	r.SetHasDarkBackground(true)
	styles := [6]lipgloss.Style{
		Plain:  r.NewStyle(),
		Good:   r.NewStyle().Foreground(lipgloss.Color("2")),
		Warn:   r.NewStyle().Foreground(lipgloss.Color("3")),
		Bad:    r.NewStyle().Foreground(lipgloss.Color("1")).Bold(true),
		Faint:  r.NewStyle().Faint(true),
		Strong: r.NewStyle().Bold(true),
	}
	return paint{&styles}
}

func (p paint) text(t Tone, text string) string {
	if p.styles == nil || t == Plain || text == "" {
		return text
	}
	return p.styles[t].Inline(true).Render(text)
}

func (s *Streams) outPaint() paint { return painter(s.OutTTY && !s.NoColor && s.Format == Text) }
func (s *Streams) errPaint() paint { return painter(s.ErrTTY && !s.NoColor && s.Format == Text) }

// columns returns how many terminal cells text takes.
func columns(text string) int { return lipgloss.Width(text) }
