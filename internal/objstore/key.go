package objstore

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/stella-ops/stella/internal/fault"
)

// Limits of keys. S3 allows 1,024 bytes, file systems 255 for one element.
const (
	MaxKey     = 1024 // bytes
	MaxElement = 255  // bytes between two slashes
	MaxDepth   = 64   // elements
)

// CheckKey refuses, as ErrKey of kind Input, what some store would take for
// another key or could not hold: an empty key or element, "." and "..", a
// leading or trailing slash, control and other unprintable characters, bytes
// that are no UTF-8, and anything beyond the limits above.
func CheckKey(key string) error {
	if why := keyFlaw(key); why != "" {
		return fault.Errorf(fault.Input, "key %s: %w: %s", quoted(key), ErrKey, why)
	}
	return nil
}

// CheckListed is CheckKey for a key that a store gave: of kind Trust, since
// somebody put it there.
func CheckListed(place, key string) error {
	if why := keyFlaw(key); why != "" {
		return fault.Errorf(fault.Trust, "listing %s: %w: %s: %s", place, ErrKey, quoted(key), why).
			Hint("no object of a release has such a name: find out who put it there, then remove it")
	}
	return nil
}

// Check refuses a Get that asks for nothing sensible.
func (g Get) Check() error {
	if g.Offset < 0 || g.Length < 0 || g.Offset+g.Length < 0 {
		return errors.New("offset and length of a range must not be negative")
	}
	for _, tag := range []string{g.IfMatch, g.IfNoneMatch} {
		if tag != "" && !validETag(tag) {
			return fmt.Errorf("%.80q is no entity tag", tag)
		}
	}
	return nil
}

// validETag accepts the entity-tag of RFC 9110 section 8.8.3: nothing else may
// go into a header.
func validETag(tag string) bool {
	tag = strings.TrimPrefix(tag, "W/")
	if len(tag) < 2 || len(tag) > MaxETag || tag[0] != '"' || tag[len(tag)-1] != '"' {
		return false
	}
	for _, c := range []byte(tag[1 : len(tag)-1]) {
		if c < 0x21 || c == '"' || c == 0x7f {
			return false
		}
	}
	return true
}

// MaxETag bounds an entity tag, in bytes; a longer one counts as none.
const MaxETag = 256

// CleanETag returns a store's entity tag, or "" if it is none that could be
// sent back.
func CleanETag(tag string) string {
	if !validETag(tag) {
		return ""
	}
	return tag
}

func keyFlaw(key string) string {
	switch {
	case key == "":
		return "it is empty"
	case len(key) > MaxKey:
		return fmt.Sprintf("it has %d bytes, more than %d", len(key), MaxKey)
	case !utf8.ValidString(key):
		return "it is not UTF-8"
	}
	for _, r := range key {
		if !unicode.IsPrint(r) {
			return fmt.Sprintf("it holds the unprintable character %U", r)
		}
	}
	elements := strings.Split(key, "/")
	if len(elements) > MaxDepth {
		return fmt.Sprintf("it has %d elements, more than %d", len(elements), MaxDepth)
	}
	for _, e := range elements {
		switch {
		case e == "":
			return "it has an empty path element"
		case e == "." || e == "..":
			return "it has the path element " + e
		case len(e) > MaxElement:
			return fmt.Sprintf("it has a path element of %d bytes, more than %d", len(e), MaxElement)
		}
	}
	return ""
}

func quoted(key string) string {
	if len(key) > shown {
		return fmt.Sprintf("%.*q…", shown, key)
	}
	return fmt.Sprintf("%q", key)
}
