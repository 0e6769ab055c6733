package strictyaml

import (
	"reflect"
	"slices"
	"strings"

	"github.com/stella-ops/stella/internal/fault"
)

// field is one settable key of a struct.
type field struct {
	Index []int // for reflect.Value.FieldByIndex
	Type  reflect.Type
	order int
}

type fields map[string]field

// fieldsOf lists the keys of struct type t as the YAML library sees them:
// the tag's name, else the lower-cased field name; inline structs flattened.
func fieldsOf(t reflect.Type) fields {
	all := fields{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, opts, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if !f.IsExported() || name == "-" {
			continue
		}
		if slices.Contains(strings.Split(opts, ","), "inline") && f.Type.Kind() == reflect.Struct {
			for sub, g := range fieldsOf(f.Type) {
				all[sub] = field{append([]int{i}, g.Index...), g.Type, i<<8 + g.order}
			}
			continue
		}
		if name == "" {
			name = strings.ToLower(f.Name)
		}
		all[name] = field{[]int{i}, f.Type, i << 8}
	}
	return all
}

// names lists the keys in the order of the struct.
func (fs fields) names() []string {
	names := make([]string, 0, len(fs))
	for name := range fs {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		if d := fs[a].order - fs[b].order; d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	return names
}

func firstHint(err error) string {
	if hints := fault.HintsOf(err); len(hints) > 0 {
		return hints[0]
	}
	return ""
}
