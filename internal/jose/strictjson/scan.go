package strictjson

import (
	"bytes"
	"reflect"
	"unicode/utf8"
)

// maxDepth bounds the nesting of JSON values.
const maxDepth = 64

// fewNames is up to how many members an object is searched for duplicates in
// order; above it a map is used, so that the cost stays linear.
const fewNames = 16

// scanner walks one JSON text (RFC 8259) and refuses what has two readings.
type scanner struct {
	data  []byte
	pos   int
	depth int
	names [][]byte // member names of the objects being read, innermost last
}

func newScanner(data []byte) (*scanner, error) {
	if !utf8.Valid(data) {
		return nil, malformed("JSON is not valid UTF-8")
	}
	return &scanner{data: data}, nil
}

func (s *scanner) end() error {
	s.space()
	if s.pos != len(s.data) {
		return malformed("data after the JSON value at byte %d", s.pos)
	}
	return nil
}

func (s *scanner) space() {
	for s.pos < len(s.data) {
		switch s.data[s.pos] {
		case ' ', '\t', '\r', '\n':
			s.pos++
		default:
			return
		}
	}
}

// peek returns the next byte, or 0 at the end (which no JSON token begins with).
func (s *scanner) peek() byte {
	if s.pos < len(s.data) {
		return s.data[s.pos]
	}
	return 0
}

func (s *scanner) unexpected() error {
	return malformed("unexpected JSON at byte %d", s.pos)
}

func (s *scanner) value(t reflect.Type) error {
	switch c := s.peek(); {
	case c == '{':
		return s.object(t, nil)
	case c == '[':
		return s.array(elemOf(t))
	case c == '"':
		_, err := s.str()
		return err
	case c == '-' || '0' <= c && c <= '9':
		return s.number()
	}
	for _, word := range []string{"true", "false", "null"} {
		if bytes.HasPrefix(s.data[s.pos:], []byte(word)) {
			s.pos += len(word)
			return nil
		}
	}
	return s.unexpected()
}

func (s *scanner) object(t reflect.Type, each func(name, raw []byte)) error {
	if s.depth++; s.depth > maxDepth {
		return malformed("JSON nested deeper than %d", maxDepth)
	}
	base := len(s.names)
	var many map[string]bool
	s.pos++
	for s.space(); s.peek() != '}'; s.space() {
		if len(s.names) > base {
			if s.peek() != ',' {
				return s.unexpected()
			}
			s.pos++
			s.space()
		}
		name, err := s.name()
		if err != nil {
			return err
		}
		if many, err = s.unique(base, name, many); err != nil {
			return err
		}
		field, known := fieldOf(t, name)
		if !known {
			return malformed("unknown member %q", name)
		}
		start := s.pos
		if err := s.value(field); err != nil {
			return err
		}
		if each != nil {
			each(name, s.data[start:s.pos:s.pos])
		}
	}
	s.pos++
	s.names = s.names[:base]
	s.depth--
	return nil
}

// name reads a member name, the colon and the space around it.
func (s *scanner) name() ([]byte, error) {
	if s.peek() != '"' {
		return nil, s.unexpected()
	}
	name, err := s.str()
	if err != nil {
		return nil, err
	}
	s.space()
	if s.peek() != ':' {
		return nil, s.unexpected()
	}
	s.pos++
	s.space()
	return name, nil
}

// unique records a name of the object whose names begin at base.
func (s *scanner) unique(base int, name []byte, many map[string]bool) (map[string]bool, error) {
	known := s.names[base:]
	dup := false
	if len(known) < fewNames {
		for _, n := range known {
			dup = dup || bytes.Equal(n, name)
		}
	} else {
		if many == nil {
			many = make(map[string]bool, 4*fewNames)
			for _, n := range known {
				many[string(n)] = true
			}
		}
		dup = many[string(name)]
		many[string(name)] = true
	}
	if dup {
		return many, malformed("member %q twice", name)
	}
	s.names = append(s.names, name)
	return many, nil
}

func (s *scanner) array(t reflect.Type) error {
	if s.depth++; s.depth > maxDepth {
		return malformed("JSON nested deeper than %d", maxDepth)
	}
	s.pos++
	for first := true; ; first = false {
		s.space()
		if s.peek() == ']' {
			break
		}
		if !first {
			if s.peek() != ',' {
				return s.unexpected()
			}
			s.pos++
			s.space()
		}
		if err := s.value(t); err != nil {
			return err
		}
	}
	s.pos++
	s.depth--
	return nil
}
