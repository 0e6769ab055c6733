package config

import (
	"fmt"
	"reflect"
	"strings"

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
	doc   string
}

// scalars lists the fields of c in the order of the type, without the lists of
// objects.
func scalars(c *Config) []scalar {
	var out []scalar
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
			default:
				out = append(out, scalar{key, v.Field(i), f.Tag.Get("doc")})
			}
		}
	}
	walk("", reflect.ValueOf(c).Elem())
	return out
}

// text returns the value as the environment would spell it.
func (s scalar) text() string {
	if list, ok := s.field.Interface().([]string); ok {
		return strings.Join(list, " ")
	}
	return fmt.Sprint(s.field.Interface())
}

// Values lists every key with its value and origin. Secrets are references
// and safe to print; STELLA_TOKEN shows as redacted.
func (c *Config) Values() []Value {
	var out []Value
	for _, s := range scalars(c) {
		out = append(out, Value{s.key, s.text(), c.Origin(s.key)})
	}
	for i, p := range c.VantagePoints {
		for _, m := range []struct{ name, value string }{{"name", p.Name}, {"url", p.URL}, {"ca_file", p.CAFile}} {
			key := vantageKey(i, m.name)
			out = append(out, Value{key, m.value, c.Origin(key)})
		}
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
	for _, s := range scalars(def) {
		out = append(out, Key{Key: s.key, Env: EnvName(s.key), Type: typeName(s.field.Type()), Default: s.text(), Doc: s.doc})
	}
	t := reflect.TypeFor[VantagePoint]()
	for i := range t.NumField() {
		f := t.Field(i)
		out = append(out, Key{Key: "vantage_points[]." + f.Tag.Get("yaml"), Type: "text", Doc: f.Tag.Get("doc"), FileOnly: true})
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
	case t.Kind() == reflect.Slice:
		return "list of text"
	}
	return "text"
}

// OtherNames lists the STELLA_ variables that are not keys.
func OtherNames() []string {
	return []string{"STELLA_CONFIG", "STELLA_TOKEN", "STELLA_LOG_LEVEL", "STELLA_PROGRESS_INTERVAL"}
}
