package ui

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/stella-ops/stella/internal/fault"
)

const evil = "a\x1b[2Jb\r\n\u202ec\x9b"

func TestRender(t *testing.T) {
	type result struct {
		Name string `json:"name"`
		N    int    `json:"n"`
	}
	page := func(p *Page) {
		p.Heading("Title")
		p.Pairs(Pair{"name", C("x")}, Pair{"long key", T(Good, "%d", 3)}, Pair{"none", C("")})
		p.Heading("Table")
		p.Table([]string{"id", "state"}, [][]Cell{{C("k1"), T(Bad, "revoked")}, {C("longer")}, {C("ü"), C("x"), C("dropped")}})
		p.Line("%s", evil)
		p.Block("two\nlines\n\n")
	}
	want := "Title\nname      x\nlong key  3\nnone      -\n\nTable\nID      STATE\nk1      revoked\nlonger  -\nü       x\n" +
		"a\uFFFD[2Jb\uFFFD\uFFFD\uFFFDc\uFFFD\ntwo\nlines\n"
	s, out, _ := Buffers("")
	if err := s.Render("stella.x/v1", result{"x", 3}, page); err != nil || out.String() != want {
		t.Errorf("%v\n%s\nwant\n%s", err, out, want)
	}
	s, out, _ = Buffers("")
	s.Format = JSON
	if err := s.Render("stella.x/v1", result{"<x>", 3}, page); err != nil {
		t.Fatal(err)
	}
	if want := "{\n  \"schema\": \"stella.x/v1\",\n  \"name\": \"<x>\",\n  \"n\": 3\n}\n"; out.String() != want {
		t.Errorf("got %s", out)
	}
}

func TestColour(t *testing.T) {
	page := func(p *Page) { p.Table([]string{"s"}, [][]Cell{{T(Bad, "revoked")}}) }
	for name, set := range map[string]func(*Streams){
		"no terminal": func(s *Streams) { s.OutTTY = false },
		"no colour":   func(s *Streams) { s.NoColor = true },
	} {
		s, out, _ := Buffers("")
		s.OutTTY = true
		set(s)
		if err := s.Render("x", nil, page); err != nil || strings.Contains(out.String(), "\x1b") {
			t.Errorf("%s: %q", name, out)
		}
	}
	s, out, _ := Buffers("")
	s.OutTTY = true
	if err := s.Render("x", nil, page); err != nil || !strings.Contains(out.String(), "\x1b[1;31mrevoked\x1b[0m") {
		t.Errorf("%q", out)
	}
	if columns("\x1b[1;31mab\x1b[0m") != 2 || columns("日本") != 4 {
		t.Error("columns counts wrongly")
	}
}

func TestObject(t *testing.T) {
	for want, v := range map[string]any{
		`{"schema":"s"}`:                 struct{}{},
		`{"schema":"s","a":1}`:           map[string]int{"a": 1},
		`{"schema":"own","a":1}`:         json.RawMessage(`{"schema":"own","a":1}`),
		"the result is not an object":    []int{1},
		"the result is not an object ":   nil,
		"printing JSON: json: unsupport": func() {},
	} {
		got, err := object("s", v)
		if err != nil {
			if !strings.Contains(err.Error(), strings.TrimSpace(want)) {
				t.Errorf("%v: %v", v, err)
			}
		} else if string(got) != want {
			t.Errorf("%v: %s, want %s", v, got, want)
		}
	}
}

func TestError(t *testing.T) {
	err := fmt.Errorf("top: %w", fault.Errorf(fault.Trust, "bad %s\nsecond", "\x1b[2J").Hint("do %s", "this\nerror: forged").Hint("same").Hint("same"))
	s, out, e := Buffers("")
	s.Error(err)
	if want := "error: top: bad \uFFFD[2J\n  second\nhint: do this\uFFFDerror: forged\nhint: same\n"; e.String() != want || out.Len() != 0 {
		t.Errorf("%q", e)
	}
	s, _, e = Buffers("")
	s.Format = JSON
	s.Error(errors.New("x"))
	if want := `{"schema":"stella.error/v1","error":{"code":"unclassified","exit_code":1,"message":"x","hints":[]}}` + "\n"; e.String() != want {
		t.Errorf("%s", e)
	}
	nothing := fault.Errorf(fault.NothingToDo, "all is done")
	for format, want := range map[Format]string{Text: "all is done\n", JSON: ""} {
		s, _, e = Buffers("")
		s.Format = format
		s.Error(nothing)
		s.Error(nil)
		if e.String() != want {
			t.Errorf("%s: %q", format, e)
		}
	}
}

func TestWarnAndNote(t *testing.T) {
	s, out, e := Buffers("")
	s.Warn("w %s", "\x1b")
	s.Note("n")
	s.Quiet = true
	s.Note("silent")
	s.Warn("loud")
	s.Format = JSON
	s.Note("silent")
	s.Warn("w")
	want := "warning: w \uFFFD\nn\nwarning: loud\n{\"schema\":\"stella.warning/v1\",\"warning\":{\"message\":\"w\"}}\n"
	if e.String() != want || out.Len() != 0 {
		t.Errorf("%q", e)
	}
}

func TestConfirm(t *testing.T) {
	for answer, want := range map[string]bool{"y\n": true, "YES\n": true, "yes": true, "n\n": false, "\n": false, "": false, "yeah\n": false} {
		s, out, e := Buffers(answer)
		s.InTTY, s.ErrTTY = true, true
		got, err := s.Confirm("Revoke?", "--yes")
		if err != nil || got != want || e.String() != "Revoke? [y/N] " || out.Len() != 0 {
			t.Errorf("%q: %v, %v, %q", answer, got, err, e)
		}
	}
	s, _, _ := Buffers("y\n")
	if ok, err := s.Confirm("Revoke?", "--yes"); ok || fault.KindOf(err) != fault.Input || fault.HintsOf(err)[0] != "answer with --yes" {
		t.Errorf("without a terminal: %v, %v", ok, err)
	}
	s.InTTY, s.ErrTTY, s.In = true, true, broken{}
	if ok, err := s.Confirm("Revoke?", "--yes"); ok || err == nil {
		t.Errorf("a broken terminal: %v, %v", ok, err)
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error)  { return 0, io.ErrNoProgress }
func (broken) Write([]byte) (int, error) { return 0, io.ErrShortWrite }

func TestWriteErrorsAreTold(t *testing.T) {
	for _, f := range []Format{Text, JSON} {
		s := &Streams{Out: broken{}, Err: new(bytes.Buffer), Format: f}
		if err := s.Render("x", struct{}{}, func(p *Page) { p.Line("x") }); !errors.Is(err, io.ErrShortWrite) {
			t.Errorf("%s: %v", f, err)
		}
	}
}

func TestSystem(t *testing.T) {
	env := map[string]string{"NO_COLOR": "1", "COLUMNS": "123", "STELLA_PROGRESS_INTERVAL": "2"}
	s := System(func(n string) string { return env[n] })
	if !s.NoColor || s.Width != 123 || s.Interval.Seconds() != 2 || s.Now == nil || s.Format != Text {
		t.Errorf("%+v", s)
	}
	env = map[string]string{"TERM": "dumb"}
	if s := System(func(n string) string { return env[n] }); !s.NoColor {
		t.Error("TERM=dumb has colour")
	}
}

func TestParseInterval(t *testing.T) {
	for text, want := range map[string]string{"": "0s", "1": "1s", "0.5": "500ms", "2m": "2m0s", "3600": "1h0m0s"} {
		if d, ok := ParseInterval(text); !ok || d.String() != want {
			t.Errorf("%q: %v %v", text, d, ok)
		}
	}
	for _, text := range []string{"x", "0", "-1", "1ms", "2h", "NaN", "Inf", "1e9"} {
		if d, ok := ParseInterval(text); ok || d != 0 {
			t.Errorf("%q: %v", text, d)
		}
	}
}

func FuzzClean(f *testing.F) {
	f.Add(evil)
	f.Fuzz(func(t *testing.T, text string) {
		got := Clean(text)
		if strings.ContainsAny(got, "\x1b\r\n\t\a\b\u202e\u009b") || Clean(got) != got {
			t.Fatalf("%q became %q", text, got)
		}
	})
}

func TestJSONShowsNoControls(t *testing.T) {
	const text = "a\x7fb\u009b31m\u202ec\u2066d\u200eü"
	s, out, e := Buffers("")
	s.Format = JSON
	if err := s.Render("stella.x/v1", map[string]string{"text": text}, nil); err != nil {
		t.Fatal(err)
	}
	s.Error(errors.New(text))
	s.Warn("%s", text)
	for _, line := range append(strings.Split(strings.TrimSpace(e.String()), "\n"), out.String()) {
		if !strings.Contains(line, `a\u007fb\u009b31m\u202ec\u2066d\u200eü`) || strings.ContainsFunc(line, hostile) {
			t.Errorf("%q", line)
		}
	}
	var back struct{ Text string }
	if err := json.Unmarshal(out.Bytes(), &back); err != nil || back.Text != text {
		t.Errorf("%v: %q came back", err, back.Text)
	}
}

func TestNotedTable(t *testing.T) {
	p := &Page{}
	p.NotedTable([]string{"a"}, [][]Cell{{C("x")}, {C("y")}}, map[int][]string{0: {"one\nhint: forged", "two"}})
	if want := "A\nx\n    one\uFFFDhint: forged\n    two\ny\n"; p.b.String() != want {
		t.Errorf("%q", p.b.String())
	}
}
