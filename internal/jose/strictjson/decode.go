package strictjson

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
)

// Decode unmarshals one JSON value into v, a non-nil pointer. It refuses
// member names given twice in one object (at any depth), members a struct does
// not have (names compare exactly, unlike in encoding/json), trailing data,
// invalid UTF-8, lone surrogates and nesting deeper than 64. It does not bound
// the size of data. Errors wrap ErrMalformed.
func Decode(data []byte, v any) error {
	if err := check(data, reflect.TypeOf(v)); err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return malformed("%w", err)
	}
	return nil
}

// check reads data as one JSON value. With a type, members of structs must be
// spelt exactly as the type spells them.
func check(data []byte, t reflect.Type) error {
	s, err := newScanner(data)
	if err != nil {
		return err
	}
	s.space()
	if err := s.value(t); err != nil {
		return err
	}
	return s.end()
}

// deref follows pointers; nil means that any JSON may stand here: there is no
// type, or the type reads its own JSON.
func deref(t reflect.Type) reflect.Type {
	own := reflect.TypeFor[json.Unmarshaler]()
	for t != nil {
		if t.Implements(own) || reflect.PointerTo(t).Implements(own) {
			return nil
		}
		if t.Kind() != reflect.Pointer {
			return t
		}
		t = t.Elem()
	}
	return nil
}

// elemOf is the type of the elements of an array value.
func elemOf(t reflect.Type) reflect.Type {
	t = deref(t)
	if t == nil || t.Kind() != reflect.Slice && t.Kind() != reflect.Array {
		return nil
	}
	return t.Elem()
}

// fieldOf is the type of the member with that name; false means that a struct
// has no such member.
func fieldOf(t reflect.Type, name []byte) (reflect.Type, bool) {
	t = deref(t)
	switch {
	case t == nil:
		return nil, true
	case t.Kind() == reflect.Map:
		return t.Elem(), true
	case t.Kind() != reflect.Struct:
		return nil, true
	}
	for i := range t.NumField() {
		f := t.Field(i)
		tag, tagged := f.Tag.Lookup("json")
		tag, _, _ = strings.Cut(tag, ",")
		if f.Anonymous && tag == "" {
			if e := deref(f.Type); e != nil && e.Kind() == reflect.Struct {
				if ft, ok := fieldOf(e, name); ok {
					return ft, true
				}
				continue
			}
		}
		if !f.IsExported() || tagged && f.Tag.Get("json") == "-" {
			continue
		}
		if tag == "" {
			tag = f.Name
		}
		if tag == string(name) {
			return f.Type, true
		}
	}
	return nil, false
}
