package config

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/stella-ops/stella/internal/secret"
	"github.com/stella-ops/stella/internal/strictyaml"
)

// Key describes one key for manuals and completion.
type Key struct {
	Key, Env, Type, Default, Doc string
	FileOnly                     bool // cannot be set by the environment
}

// Value is one key with its value as text and its origin.
type Value struct {
	Key    string `json:"key"`
	Value  string `json:"value"`
	Origin string `json:"origin"`
}

// scalar is one settable field of a Config.
type scalar struct {
	key   string
	field reflect.Value
	tag   reflect.StructTag
}

// objects is a list of objects, which only the file can hold.
type objects struct {
	key   string
	field reflect.Value
}

// fieldsOf lists the fields of c in the order of the type.
func fieldsOf(c *Config) (single []scalar, lists []objects) {
	var walk func(prefix string, v reflect.Value)
	walk = func(prefix string, v reflect.Value) {
		for i := range v.NumField() {
			f := v.Type().Field(i)
			name, tagged := f.Tag.Lookup("yaml")
			if !tagged {
				continue
			}
			key := strings.TrimPrefix(prefix+"."+name, ".")
			switch {
			case f.Type.Kind() == reflect.Struct:
				walk(key, v.Field(i))
			case f.Type.Kind() == reflect.Slice && f.Type.Elem().Kind() == reflect.Struct:
				lists = append(lists, objects{key, v.Field(i)})
			default:
				single = append(single, scalar{key, v.Field(i), f.Tag})
			}
		}
	}
	walk("", reflect.ValueOf(c).Elem())
	return single, lists
}

// scalars lists what the environment can set.
func scalars(c *Config) []scalar {
	single, _ := fieldsOf(c)
	return single
}

// everything lists the scalars and then the members of all objects.
func everything(c *Config) []scalar {
	all, lists := fieldsOf(c)
	for _, l := range lists {
		for i := range l.field.Len() {
			item := l.field.Index(i)
			for j := range item.NumField() {
				tag := item.Type().Field(j).Tag
				all = append(all, scalar{itemKey(l.key, i, tag.Get("yaml")), item.Field(j), tag})
			}
		}
	}
	return all
}

// itemKey is the key of one member of an object in a list.
func itemKey(list string, i int, member string) string {
	return fmt.Sprintf("%s.%d.%s", list, i, member)
}

// text returns the value as the environment would spell it.
func (s scalar) text() string {
	if list, ok := s.field.Interface().([]string); ok {
		return strings.Join(list, " ")
	}
	return fmt.Sprint(s.field.Interface())
}

// path returns the path that the field holds, nil if it is for something else.
// read says that the file must be there before a command runs.
func (s scalar) path() (path *string, read bool) {
	kind, ok := s.tag.Lookup("path")
	if !ok {
		return nil, false
	}
	path, _ = s.field.Addr().Interface().(*string)
	return path, kind == "read"
}

// ref returns the reference to a secret that the field is, or nil.
func (s scalar) ref() *secret.Ref {
	ref, _ := s.field.Addr().Interface().(*secret.Ref)
	return ref
}

// Values lists every key with its value and origin. Secrets are references
// and safe to print; STELLA_TOKEN shows as redacted.
func (c *Config) Values() []Value {
	var out []Value
	for _, s := range everything(c) {
		out = append(out, Value{s.key, s.text(), c.Origin(s.key)})
	}
	if c.token != "" {
		value := "[redacted]"
		if tokenRef(c.token) {
			value = c.token
		}
		out = append(out, Value{"token", value, "env STELLA_TOKEN"})
	}
	return out
}

// Keys lists the manual of the configuration file.
func Keys() []Key {
	def := Defaults(func(string) string { return "" })
	def.Auth.TokenCache = "$XDG_STATE_HOME/stella/tokens"
	var out []Key
	single, lists := fieldsOf(def)
	for _, s := range single {
		out = append(out, Key{Key: s.key, Env: EnvName(s.key), Type: typeName(s.field.Type()), Default: s.text(), Doc: s.tag.Get("doc")})
	}
	for _, l := range lists {
		t := l.field.Type().Elem()
		for i := range t.NumField() {
			f := t.Field(i)
			out = append(out, Key{Key: l.key + "[]." + f.Tag.Get("yaml"), Type: typeName(f.Type), Doc: f.Tag.Get("doc"), FileOnly: true})
		}
	}
	return out
}

func typeName(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[strictyaml.Duration]():
		return "duration"
	case t.Implements(reflect.TypeFor[strictyaml.Enum]()):
		return strings.Join(reflect.Zero(t).Interface().(strictyaml.Enum).Allowed(), " or ")
	case t.Implements(reflect.TypeFor[strictyaml.Checker]()):
		return "secret reference"
	case t.Kind() == reflect.Bool:
		return "true or false"
	case t.Kind() == reflect.Int:
		return "whole number"
	case t.Kind() == reflect.Slice:
		return "list of text"
	}
	return "text"
}

// OtherNames lists the STELLA_ variables that are not keys.
func OtherNames() []string {
	return []string{"STELLA_CONFIG", "STELLA_TOKEN", "STELLA_LOG_LEVEL", "STELLA_PROGRESS_INTERVAL"}
}
