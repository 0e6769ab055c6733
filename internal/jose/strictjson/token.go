package strictjson

import (
	"unicode/utf16"
	"unicode/utf8"
)

// str reads a string and returns what it says. Lone surrogates have no UTF-8
// form and are refused (RFC 7493 section 2.1).
func (s *scanner) str() ([]byte, error) {
	start := s.pos + 1
	for i := start; i < len(s.data); i++ {
		switch c := s.data[i]; {
		case c == '"':
			s.pos = i + 1
			return s.data[start:i:i], nil
		case c == '\\':
			return s.escaped(start, i)
		case c < ' ':
			s.pos = i
			return nil, s.unexpected()
		}
	}
	s.pos = len(s.data)
	return nil, s.unexpected()
}

// escaped reads the rest of a string that has its first escape at i.
func (s *scanner) escaped(start, i int) ([]byte, error) {
	out := append(make([]byte, 0, 2*(i-start)+16), s.data[start:i]...)
	s.pos = i
	for s.pos < len(s.data) {
		c := s.data[s.pos]
		switch {
		case c == '"':
			s.pos++
			return out, nil
		case c < ' ':
			return nil, s.unexpected()
		case c != '\\':
			out = append(out, c)
			s.pos++
			continue
		}
		r, ok := s.escape()
		if !ok {
			return nil, s.unexpected()
		}
		out = utf8.AppendRune(out, r)
	}
	return nil, s.unexpected()
}

// escape reads one escape sequence, or the two of a surrogate pair.
func (s *scanner) escape() (rune, bool) {
	if s.pos+1 >= len(s.data) {
		return 0, false
	}
	c := s.data[s.pos+1]
	if c == 'u' {
		r, ok := s.hex4(s.pos + 2)
		if !ok {
			return 0, false
		}
		s.pos += 6
		if !utf16.IsSurrogate(r) {
			return r, true
		}
		if s.pos+1 >= len(s.data) || s.data[s.pos] != '\\' || s.data[s.pos+1] != 'u' {
			return 0, false
		}
		low, ok := s.hex4(s.pos + 2)
		pair := utf16.DecodeRune(r, low)
		if !ok || pair == utf8.RuneError {
			return 0, false
		}
		s.pos += 6
		return pair, true
	}
	const from, to = `"\/bfnrt`, "\"\\/\b\f\n\r\t"
	for i := range len(from) {
		if from[i] == c {
			s.pos += 2
			return rune(to[i]), true
		}
	}
	return 0, false
}

func (s *scanner) hex4(at int) (rune, bool) {
	if at+4 > len(s.data) {
		return 0, false
	}
	var r rune
	for _, c := range s.data[at : at+4] {
		switch {
		case '0' <= c && c <= '9':
			r = r<<4 | rune(c-'0')
		case 'a' <= c && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case 'A' <= c && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			return 0, false
		}
	}
	return r, true
}

func (s *scanner) digits() bool {
	start := s.pos
	for s.pos < len(s.data) && '0' <= s.data[s.pos] && s.data[s.pos] <= '9' {
		s.pos++
	}
	return s.pos > start
}

func (s *scanner) number() error {
	if s.peek() == '-' {
		s.pos++
	}
	if s.peek() == '0' {
		s.pos++
	} else if !s.digits() {
		return s.unexpected()
	}
	if s.peek() == '.' {
		s.pos++
		if !s.digits() {
			return s.unexpected()
		}
	}
	if c := s.peek(); c == 'e' || c == 'E' {
		s.pos++
		if c := s.peek(); c == '+' || c == '-' {
			s.pos++
		}
		if !s.digits() {
			return s.unexpected()
		}
	}
	return nil
}
