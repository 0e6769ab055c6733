package ui

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"time"
	"unicode/utf8"
)

// Render prints one result: as JSON, v with "schema" in front, indented; as
// text, what text adds to the page. V must encode as a JSON object. An error
// means that standard output could not be written.
func (s *Streams) Render(schema string, v any, text func(*Page)) error {
	if s.Format == JSON {
		data, err := object(schema, v)
		if err != nil {
			return err
		}
		var out bytes.Buffer
		if err := json.Indent(&out, data, "", "  "); err != nil {
			return fmt.Errorf("printing %s: %w", schema, err)
		}
		out.WriteByte('\n')
		return write(s.Out, out.Bytes())
	}
	p := &Page{paint: s.outPaint(), width: s.Width}
	text(p)
	return write(s.Out, []byte(p.b.String()))
}

// EventType is the type of a line in a stream of events.
type EventType string

// The events. A stream has one Started, any number of the middle ones, and
// ends with one Summary unless the command failed.
const (
	Started  EventType = "started"
	Progress EventType = "progress"
	Item     EventType = "item"
	Warning  EventType = "warning"
	Summary  EventType = "summary"
)

// Events prints the events of one long command: as JSON lines on standard
// output, or as text. It is for one goroutine.
type Events struct {
	s      *Streams
	schema string
	line   *Line
}

// Events starts a stream of events with the given schema.
func (s *Streams) Events(schema string) *Events {
	return &Events{s: s, schema: schema, line: s.Line()}
}

// Emit prints one event. As JSON it is an object with schema, type, time
// (RFC 3339, UTC) and the members of v, which must encode as an object or be
// nil. As text it is the line text: items and the summary go to standard
// output, a warning, the start and progress to standard error; an empty text
// prints nothing.
func (e *Events) Emit(typ EventType, v any, text string) error {
	if e.s.Format == JSON {
		head := struct {
			Type EventType `json:"type"`
			Time string    `json:"time"`
		}{typ, e.s.Now().UTC().Format(time.RFC3339Nano)}
		data, err := object(e.schema, head)
		if err == nil && v != nil {
			data, err = merge(data, v)
		}
		if err != nil {
			return err
		}
		return write(e.s.Out, append(data, '\n'))
	}
	if text == "" {
		return nil
	}
	switch typ {
	case Item, Summary:
		e.line.Clear()
		return write(e.s.Out, []byte(cleanBlock(text)+"\n"))
	case Warning:
		e.line.Clear()
		e.s.Warn("%s", text)
	default:
		e.line.Set(text)
	}
	return nil
}

// Line is the progress line between the events; an event removes it.
func (e *Events) Line() *Line { return e.line }

// Close removes the progress line.
func (e *Events) Close() { e.line.Clear() }

// object encodes v as a JSON object whose first member is the schema.
func object(schema string, v any) ([]byte, error) {
	body, err := encode(v)
	if err != nil {
		return nil, err
	}
	if bytes.HasPrefix(body, []byte(`{"schema":`)) {
		return body, nil
	}
	head, err := encode(struct {
		Schema string `json:"schema"`
	}{schema})
	if err != nil {
		return nil, err
	}
	return splice(head, body)
}

func merge(head []byte, v any) ([]byte, error) {
	body, err := encode(v)
	if err != nil {
		return nil, err
	}
	return splice(head, body)
}

// splice joins two encoded objects.
func splice(a, b []byte) ([]byte, error) {
	if len(b) < 2 || b[0] != '{' {
		return nil, fmt.Errorf("printing JSON: the result is not an object")
	}
	if len(b) == 2 {
		return a, nil
	}
	out := append(bytes.Clone(a[:len(a)-1]), ',')
	return append(out, b[1:]...), nil
}

// encode is json.Marshal without the escapes meant for HTML.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("printing JSON: %w", err)
	}
	return visible(bytes.TrimRight(b.Bytes(), "\n")), nil
}

// visible escapes what a terminal would obey or reorder by: DEL, C1 and
// bidirectional controls. They occur inside strings only.
func visible(data []byte) []byte {
	if !bytes.ContainsFunc(data, hostile) {
		return data
	}
	out := make([]byte, 0, len(data)+16)
	for _, r := range string(data) {
		if hostile(r) {
			out = fmt.Appendf(out, `\u%04x`, r)
		} else {
			out = utf8.AppendRune(out, r)
		}
	}
	return out
}

func write(w io.Writer, data []byte) error {
	if _, err := w.Write(data); err != nil {
		return fmt.Errorf("writing the result: %w", err)
	}
	return nil
}
