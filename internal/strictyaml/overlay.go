package strictyaml

import (
	"cmp"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/stella-ops/stella/internal/fault"
)

// maxItems bounds a list index that comes from the environment.
const maxItems = 1024

// Overlay sets fields of v, a pointer to a struct, from environ ("NAME=value"
// lines as os.Environ returns). A name is prefix, then each segment of the key
// behind two underscores, in any case: with prefix "STELLAOPS_AUTHORITY",
// STELLAOPS_AUTHORITY__PLUGINDIRECTORIES__0 is the first item of the list
// pluginDirectories. One trailing underscore of the prefix is ignored. A list
// may be extended by its next index only.
//
// A name that begins with the prefix and one underscore but is no key is an
// error of kind Config that names the variable and the nearest allowed name;
// so is a bad value. Values are not repeated in errors where the key names a
// secret. On error v may be partly changed and must not be used.
func Overlay(prefix string, environ []string, v any) error {
	prefix = strings.TrimRight(prefix, "_")
	for _, o := range overrides(prefix, environ) {
		if err := o.apply(prefix, v); err != nil {
			return err
		}
	}
	return nil
}

// Set sets one value of v, a pointer to a struct, by its path of yaml keys (in
// any case) and list indexes. Origin ("flag --output", "environment STELLA_X")
// says where the value comes from and begins every error.
func Set(origin string, path []string, value string, v any) error {
	return override{origin: origin, value: value, path: path}.apply("", v)
}

// override is one value from outside the file.
type override struct {
	name   string // of the variable; "" when it is none
	origin string // as errors tell it
	value  string
	path   []string // nil when the name has not the form prefix__segment…
}

func overrides(prefix string, environ []string) []override {
	var all []override
	for _, line := range environ {
		name, value, _ := strings.Cut(line, "=")
		if len(name) <= len(prefix) || !strings.EqualFold(name[:len(prefix)], prefix) || name[len(prefix)] != '_' {
			continue
		}
		o := override{name: name, origin: "environment " + name, value: value}
		if rest, ok := strings.CutPrefix(name[len(prefix):], "__"); ok && rest != "" {
			o.path = strings.Split(rest, "__")
		}
		all = append(all, o)
	}
	// Numeric order of indexes, so that item 10 comes after item 9.
	slices.SortFunc(all, func(a, b override) int {
		return cmp.Or(slices.CompareFunc(a.path, b.path, func(x, y string) int {
			i, err1 := strconv.Atoi(x)
			j, err2 := strconv.Atoi(y)
			if err1 == nil && err2 == nil {
				return cmp.Compare(i, j)
			}
			return strings.Compare(x, y)
		}), strings.Compare(a.name, b.name))
	})
	return all
}

func (o override) apply(prefix string, v any) error {
	if o.path == nil {
		return o.unknown(prefix, v)
	}
	at := reflect.ValueOf(v).Elem()
	for i, segment := range o.path {
		for at.Kind() == reflect.Pointer {
			if at.IsNil() {
				at.Set(reflect.New(at.Type().Elem()))
			}
			at = at.Elem()
		}
		switch {
		case textual(at.Type()):
			return o.unknown(prefix, v)
		case at.Kind() == reflect.Struct:
			f, ok := fieldsOf(at.Type()).fold(segment)
			if !ok {
				return o.unknown(prefix, v)
			}
			at = at.FieldByIndex(f.Index)
		case at.Kind() == reflect.Slice:
			n, err := strconv.Atoi(segment)
			if err != nil || n < 0 || n > at.Len() || n >= maxItems {
				return fault.Errorf(fault.Config, "%s: %q is not an index from 0 to %d",
					o.origin, segment, min(at.Len(), maxItems-1))
			}
			if n == at.Len() {
				at.Set(reflect.Append(at, reflect.Zero(at.Type().Elem())))
			}
			at = at.Index(n)
		case at.Kind() == reflect.Map && i == len(o.path)-1 && at.Type().Key().Kind() == reflect.String:
			return o.setEntry(at, segment)
		default:
			return o.unknown(prefix, v)
		}
	}
	return o.set(at)
}

// setEntry sets one entry of a map; an existing key is matched in any case.
func (o override) setEntry(m reflect.Value, segment string) error {
	key := strings.ToLower(segment)
	for _, k := range m.MapKeys() {
		if strings.EqualFold(k.String(), segment) {
			key = k.String()
		}
	}
	value := reflect.New(m.Type().Elem()).Elem()
	if err := o.set(value); err != nil {
		return err
	}
	if m.IsNil() {
		m.Set(reflect.MakeMap(m.Type()))
	}
	m.SetMapIndex(reflect.ValueOf(key).Convert(m.Type().Key()), value)
	return nil
}

// set decodes the value into at, which must hold one scalar.
func (o override) set(at reflect.Value) error {
	path := strings.Join(o.path, ".")
	t := at.Type()
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if k := t.Kind(); !textual(t) && (k == reflect.Struct || k == reflect.Slice || k == reflect.Map) {
		return fault.Errorf(fault.Config, "%s: names a block or a list, not one value", o.origin).
			Hint("set its parts, each by its own name")
	}
	n := &yaml.Node{Kind: yaml.ScalarNode, Value: o.value}
	if t.Kind() == reflect.String {
		n.Tag = "!!str"
	}
	if n.ShortTag() == "!!null" { // would leave the field as it is, without a word
		return fault.Errorf(fault.Config, "%s: found no value where %s belongs", o.origin, expected(t))
	}
	c := checker{name: o.origin}
	c.node(n, t, path)
	if len(c.problems) > 0 {
		p := c.problems[0]
		e := fault.Errorf(fault.Config, "%s: %s", o.origin, p.text)
		if p.hint != "" {
			e.Hints = append(e.Hints, p.hint)
		}
		return e
	}
	if err := n.Decode(at.Addr().Interface()); err != nil {
		return fault.Errorf(fault.Config, "%s: found %s where %s belongs", o.origin, show(path, o.value), expected(t))
	}
	return nil
}

func (o override) unknown(prefix string, v any) error {
	if o.name == "" {
		return fault.Errorf(fault.Config, "%s: no such key: %s", o.origin, strings.Join(o.path, "."))
	}
	e := fault.Errorf(fault.Config, "%s: unknown name under %s_", o.origin, prefix)
	allowed := Names(prefix, v)
	if near := Nearest(strings.ReplaceAll(o.name, "__", "_"), fold(allowed)); near != "" {
		e = e.Hint("did you mean %s?", allowed[slices.Index(fold(allowed), near)])
	} else if len(allowed) > 0 && len(allowed) <= 24 {
		e = e.Hint("allowed names: %s", strings.Join(allowed, ", "))
	}
	return e
}

// fold removes doubled underscores, so that one of them too few is near.
func fold(names []string) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = strings.ReplaceAll(n, "__", "_")
	}
	return out
}

func (fs fields) fold(segment string) (field, bool) {
	for name, f := range fs {
		if strings.EqualFold(name, segment) {
			return f, true
		}
	}
	return field{}, false
}

// Names lists the variable names that Overlay accepts for v, with index 0 for
// lists and NAME for the keys of maps.
func Names(prefix string, v any) []string {
	var names []string
	listNames(strings.TrimRight(prefix, "_"), reflect.TypeOf(v), 0, &names)
	return names
}

func listNames(prefix string, t reflect.Type, depth int, names *[]string) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch k := t.Kind(); {
	case depth > 16: // a type that contains itself
	case textual(t):
		*names = append(*names, prefix)
	case k == reflect.Struct:
		fs := fieldsOf(t)
		for _, name := range fs.names() {
			listNames(prefix+"__"+strings.ToUpper(name), fs[name].Type, depth+1, names)
		}
	case k == reflect.Slice:
		listNames(prefix+"__0", t.Elem(), depth+1, names)
	case k == reflect.Map:
		listNames(prefix+"__NAME", t.Elem(), depth+1, names)
	default:
		*names = append(*names, prefix)
	}
}
