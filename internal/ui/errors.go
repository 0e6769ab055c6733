package ui

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/stella-ops/stella/internal/fault"
)

// SchemaError is the schema of the object that a failure prints in JSON mode.
const SchemaError = "stella.error/v1"

// ErrorDetail is the member "error" of that object.
type ErrorDetail struct {
	Code     string   `json:"code"` // the kind's name in docs/exit-codes.md
	ExitCode int      `json:"exit_code"`
	Message  string   `json:"message"`
	Hints    []string `json:"hints"`
}

// Error prints err on standard error: "error: " and the message, then one
// "hint: " line each; in JSON mode one object on one line. NothingToDo is no
// failure: as text it is a plain line, as JSON it is silent, for the result
// has said it.
func (s *Streams) Error(err error) {
	kind := fault.KindOf(err)
	if err == nil || kind == fault.NothingToDo && (s.Format == JSON || s.Quiet) {
		return
	}
	hints := fault.HintsOf(err)
	if s.Format == JSON {
		if hints == nil {
			hints = []string{}
		}
		detail := ErrorDetail{kind.String(), kind.ExitCode(), err.Error(), hints}
		if data, encErr := object(SchemaError, map[string]ErrorDetail{"error": detail}); encErr == nil {
			_, _ = s.Err.Write(append(data, '\n'))
		}
		return
	}
	p := s.errPaint()
	label := p.text(Bad, "error:") + " "
	if kind == fault.NothingToDo {
		label = ""
	}
	fmt.Fprintf(s.Err, "%s%s\n", label, folded(err.Error()))
	seen := map[string]bool{}
	for _, h := range hints {
		if !seen[h] {
			seen[h] = true
			fmt.Fprintf(s.Err, "%s %s\n", p.text(Good, "hint:"), Clean(h))
		}
	}
}

// Warn prints a warning on standard error, also with Quiet: it is for what an
// operator must not miss. In JSON mode it is an object on one line.
func (s *Streams) Warn(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if s.Format == JSON {
		v := map[string]map[string]string{"warning": {"message": text}}
		if data, err := object("stella.warning/v1", v); err == nil {
			_, _ = s.Err.Write(append(data, '\n'))
		}
		return
	}
	fmt.Fprintf(s.Err, "%s %s\n", s.errPaint().text(Warn, "warning:"), folded(text))
}

// folded is cleanBlock with every line but the first indented: what looks like
// a line of ours inside a message, "hint: …", is then seen not to be one.
func folded(text string) string {
	lines := strings.Split(strings.TrimRight(cleanBlock(text), "\n"), "\n")
	for i, line := range lines {
		if i > 0 && !strings.HasPrefix(line, "  ") {
			lines[i] = "  " + line
		}
	}
	return strings.Join(lines, "\n")
}

// Note prints a remark on standard error as text; Quiet and JSON silence it.
func (s *Streams) Note(format string, args ...any) {
	if s.Quiet || s.Format == JSON {
		return
	}
	fmt.Fprintln(s.Err, cleanBlock(fmt.Sprintf(format, args...)))
}

// CanPrompt reports whether a person can be asked: standard input and standard
// error are terminals, output is text.
func (s *Streams) CanPrompt() bool { return s.InTTY && s.ErrTTY && s.Format == Text }

// Confirm asks a yes/no question; anything but "y" or "yes" means no. Where
// nobody can be asked the error is of kind Input and names the flag that
// answers instead.
func (s *Streams) Confirm(question, flag string) (bool, error) {
	if !s.CanPrompt() {
		return false, fault.Errorf(fault.Input, "%s needs a yes, and there is no terminal to ask on", strings.TrimRight(question, "? ")).
			Hint("answer with %s", flag)
	}
	fmt.Fprintf(s.Err, "%s [y/N] ", Clean(question))
	line, err := bufio.NewReader(io.LimitReader(s.In, 1024)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return false, fmt.Errorf("reading the answer: %w", err)
	}
	answer := strings.ToLower(strings.TrimSpace(line))
	return answer == "y" || answer == "yes", nil
}
