package ui

import (
	"fmt"
	"strings"
)

// Page is the text form of a result. It is collected in memory and written at
// once, so a failure leaves no half of it.
type Page struct {
	b     strings.Builder
	paint paint
	width int
}

// Line adds one line. Arguments that are strings or errors may hold anything:
// the line is cleaned as a whole.
func (p *Page) Line(format string, args ...any) {
	p.b.WriteString(Clean(fmt.Sprintf(format, args...)))
	p.b.WriteByte('\n')
}

// Verdict adds the line that says how things stand, and an empty one.
func (p *Page) Verdict(tone Tone, text string) {
	p.b.WriteString(p.paint.text(tone, Clean(text)) + "\n\n")
}

// Block adds text of several lines; newlines and tabs in it stay.
func (p *Page) Block(text string) {
	p.b.WriteString(cleanBlock(strings.TrimRight(text, "\n")))
	p.b.WriteByte('\n')
}

// Heading adds a title line, after an empty line unless it is the first.
func (p *Page) Heading(text string) {
	if p.b.Len() > 0 {
		p.b.WriteByte('\n')
	}
	p.b.WriteString(p.paint.text(Strong, Clean(text)) + "\n")
}

// Cell is one value with its tone.
type Cell struct {
	Text string
	Tone Tone
}

// C makes a plain cell from any value.
func C(v any) Cell { return Cell{Text: fmt.Sprint(v)} }

// T makes a cell with a tone.
func T(tone Tone, format string, args ...any) Cell {
	return Cell{Text: fmt.Sprintf(format, args...), Tone: tone}
}

// Pair is one line of a key/value block.
type Pair struct {
	Key   string
	Value Cell
}

// Pairs adds a block of aligned keys and values. Empty values show as "-".
func (p *Page) Pairs(pairs ...Pair) {
	widest := 0
	for _, kv := range pairs {
		widest = max(widest, columns(Clean(kv.Key)))
	}
	for _, kv := range pairs {
		key := Clean(kv.Key)
		p.b.WriteString(p.paint.text(Faint, key) + strings.Repeat(" ", widest-columns(key)+2))
		p.b.WriteString(p.cell(kv.Value) + "\n")
	}
}

// Table adds aligned columns under an upper-case header line. A row with fewer
// cells than the header is filled up; more are dropped.
func (p *Page) Table(header []string, rows [][]Cell) { p.NotedTable(header, rows, nil) }

// NotedTable is Table with lines of their own, indented, below some rows: what
// is too long for a column. notes has the lines by the index of the row.
func (p *Page) NotedTable(header []string, rows [][]Cell, notes map[int][]string) {
	widths := make([]int, len(header))
	for i, h := range header {
		widths[i] = columns(Clean(h))
	}
	for _, row := range rows {
		for i := range min(len(row), len(widths)) {
			widths[i] = max(widths[i], columns(plain(row[i])))
		}
	}
	head := make([]Cell, len(header))
	for i, h := range header {
		head[i] = Cell{strings.ToUpper(h), Faint}
	}
	for n, row := range append([][]Cell{head}, rows...) {
		var line strings.Builder
		for i, w := range widths {
			c := Cell{}
			if i < len(row) {
				c = row[i]
			}
			line.WriteString(p.cell(c))
			if i < len(widths)-1 {
				line.WriteString(strings.Repeat(" ", w-columns(plain(c))+2))
			}
		}
		p.b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
		for _, note := range notes[n-1] {
			p.b.WriteString("    " + Clean(note) + "\n")
		}
	}
}

func (p *Page) cell(c Cell) string { return p.paint.text(c.Tone, plain(c)) }

func plain(c Cell) string {
	if c.Text == "" {
		return "-"
	}
	return Clean(c.Text)
}
