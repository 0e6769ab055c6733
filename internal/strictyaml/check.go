package strictyaml

import (
	"encoding"
	"errors"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// checker walks a document beside the type it is meant for.
type checker struct {
	name     string
	problems []problem
}

var (
	textType = reflect.TypeFor[encoding.TextUnmarshaler]()
	yamlType = reflect.TypeFor[yaml.Unmarshaler]()
)

func (c *checker) node(n *yaml.Node, t reflect.Type, path string) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		c.add(n.Line, path, "", "anchors and aliases are not allowed: write the value out")
		return
	case n.Style&yaml.TaggedStyle != 0:
		c.add(n.Line, path, "", "tag %s is not allowed", show("", n.Tag))
		return
	case n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null":
		return // as if the key were absent
	}
	switch p := reflect.PointerTo(t); {
	case p.Implements(yamlType):
		c.decode(n, t, path)
	case p.Implements(textType):
		if c.kind(n, yaml.ScalarNode, path, "one value") {
			c.decode(n, t, path)
		}
	default:
		c.plain(n, t, path)
	}
}

func (c *checker) plain(n *yaml.Node, t reflect.Type, path string) {
	switch t.Kind() {
	case reflect.Struct:
		if c.kind(n, yaml.MappingNode, path, "a block of keys") {
			c.structure(n, t, path)
		}
	case reflect.Map:
		if c.kind(n, yaml.MappingNode, path, "a block of keys") {
			c.pairs(n, path, func(_ *yaml.Node, value *yaml.Node, sub string) { c.node(value, t.Elem(), sub) })
		}
	case reflect.Slice, reflect.Array:
		if c.kind(n, yaml.SequenceNode, path, "a list") {
			for i, item := range n.Content {
				c.node(item, t.Elem(), join(path, strconv.Itoa(i)))
			}
		}
	case reflect.Interface:
		c.free(n, t, path)
	default:
		if c.kind(n, yaml.ScalarNode, path, "one value") {
			c.decode(n, t, path)
		}
	}
}

// free walks a value of no declared shape for repeated keys and aliases.
func (c *checker) free(n *yaml.Node, t reflect.Type, path string) {
	switch n.Kind {
	case yaml.MappingNode:
		c.pairs(n, path, func(_ *yaml.Node, value *yaml.Node, sub string) { c.node(value, t, sub) })
	case yaml.SequenceNode:
		for i, item := range n.Content {
			c.node(item, t, join(path, strconv.Itoa(i)))
		}
	}
}

func (c *checker) structure(n *yaml.Node, t reflect.Type, path string) {
	known := fieldsOf(t)
	names := known.names()
	c.pairs(n, path, func(key, value *yaml.Node, sub string) {
		f, ok := known[key.Value]
		if !ok {
			c.add(key.Line, path, didYouMean(key.Value, names),
				"unknown key %s; allowed keys: %s", show("", key.Value), strings.Join(names, ", "))
			return
		}
		c.node(value, f.Type, sub)
	})
}

// pairs calls visit for each pair of a mapping and refuses repeated keys and
// keys that are not plain text.
func (c *checker) pairs(n *yaml.Node, path string, visit func(key, value *yaml.Node, sub string)) {
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode || key.Anchor != "" || key.Style&yaml.TaggedStyle != 0 || key.ShortTag() == "!!merge" {
			c.add(key.Line, path, "", "a key must be plain text, without anchor, tag or merge")
			continue
		}
		if first, dup := seen[key.Value]; dup {
			c.add(key.Line, join(path, key.Value), "", "repeated key; first on line %d", first)
			continue
		}
		seen[key.Value] = key.Line
		visit(key, value, join(path, key.Value))
	}
}

func (c *checker) kind(n *yaml.Node, want yaml.Kind, path, text string) bool {
	if n.Kind == want {
		return true
	}
	c.add(n.Line, path, "", "found %s where %s belongs", describe(n, path), text)
	return false
}

func describe(n *yaml.Node, path string) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a block of keys"
	case yaml.SequenceNode:
		return "a list"
	}
	return show(path, n.Value)
}

// decode tries one value alone, so that its mistake gets its own address.
func (c *checker) decode(n *yaml.Node, t reflect.Type, path string) {
	v := reflect.New(t)
	if err := n.Decode(v.Interface()); err != nil {
		if textual(t) {
			c.add(n.Line, path, "", "%v", unwrapAll(err))
			return
		}
		c.add(n.Line, path, "", "found %s where %s belongs", describe(n, path), expected(t))
		return
	}
	if text, hint := verdict(v, path); text != "" {
		c.add(n.Line, path, hint, "%s", text)
	}
}

// verdict applies Enum and Checker to the value that v points to; an empty
// text means that it is fine.
func verdict(v reflect.Value, path string) (text, hint string) {
	if e, ok := v.Interface().(Enum); ok && v.Elem().Kind() == reflect.String {
		if allowed := e.Allowed(); !slices.Contains(allowed, v.Elem().String()) {
			found := v.Elem().String()
			return "found " + show(path, found) + "; allowed values: " + strings.Join(allowed, ", "), didYouMean(found, allowed)
		}
	}
	if k, ok := v.Interface().(Checker); ok && !v.Elem().IsZero() {
		if err := k.Check(); err != nil {
			return err.Error(), firstHint(err)
		}
	}
	return "", ""
}

func textual(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(yamlType) || p.Implements(textType)
}

func unwrapAll(err error) error {
	for next := errors.Unwrap(err); next != nil; next = errors.Unwrap(err) {
		err = next
	}
	return err
}

func expected(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "a whole number that is not negative and fits " + t.Kind().String()
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return "a whole number that fits " + t.Kind().String()
	}
	return "text"
}
