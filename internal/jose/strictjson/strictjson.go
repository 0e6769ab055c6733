// Package strictjson reads JSON (RFC 8259) that has one reading only.
//
// It guarantees that no object it accepts has a member name twice at any depth,
// that all text is valid UTF-8 without lone surrogates, that nothing follows the
// value, that nesting ends at 64, and that a struct takes only members spelt
// exactly as its own. It copies nothing and decodes only what is asked for.
package strictjson

import (
	"encoding/json"
	"errors"
	"fmt"
)

// ErrMalformed is wrapped by every error of this package.
var ErrMalformed = errors.New("malformed")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrMalformed}, args...)...)
}

// Member is one member of the outermost object; Raw is a part of the input.
type Member struct {
	Name string
	Raw  json.RawMessage
}

// Members reads data as one object, checks all of it and returns its members in
// the order they have. Errors wrap ErrMalformed.
func Members(data []byte) ([]Member, error) {
	s, err := newScanner(data)
	if err != nil {
		return nil, err
	}
	s.space()
	if s.peek() != '{' {
		return nil, malformed("not a JSON object")
	}
	out := make([]Member, 0, 8)
	err = s.object(nil, func(name, raw []byte) {
		out = append(out, Member{string(name), raw})
	})
	if err != nil {
		return nil, err
	}
	return out, s.end()
}

// Check reads data as one JSON value of any kind. Errors wrap ErrMalformed.
func Check(data []byte) error { return check(data, nil) }

// Text reads a value that Members has checked and that must be a string.
func Text(name string, raw json.RawMessage) (string, error) {
	s := scanner{data: raw}
	if s.peek() != '"' {
		return "", malformed("%q is not a string", name)
	}
	b, err := s.str()
	return string(b), err
}

// Texts reads a value that Members has checked and that must be an array of strings.
func Texts(name string, raw json.RawMessage) ([]string, error) {
	var out []string
	if len(raw) == 0 || raw[0] != '[' {
		return nil, malformed("%q is not an array of strings", name)
	}
	s := scanner{data: raw, pos: 1}
	for s.space(); s.peek() != ']'; s.space() {
		if s.peek() == ',' {
			s.pos++
			s.space()
		}
		if s.peek() != '"' {
			return nil, malformed("%q is not an array of strings", name)
		}
		b, err := s.str()
		if err != nil {
			return nil, err
		}
		out = append(out, string(b))
	}
	return out, nil
}
