// Package strictyaml reads configuration so that a mistake in it is an error
// with an address, never a silent default.
//
// It guarantees that a document is accepted only as a whole: an unknown or
// repeated key, a value of the wrong type or outside its enumeration, a second
// document, an anchor, an alias or a tag are refused, and that every refusal
// is of kind fault.Config and names the file, the line, the key as a dotted
// path, what was found and what is allowed. Fields are found by their yaml
// tags. The same rules hold for values that arrive by the environment
// (Overlay).
package strictyaml

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/stella-ops/stella/internal/fault"
)

// MaxBytes bounds a document; larger ones are refused.
const MaxBytes = 1 << 20

// Enum is implemented by string types whose values form a closed list.
type Enum interface{ Allowed() []string }

// Checker is implemented by value types with rules of their own, such as
// secret.Ref. Check is called for each value that is set.
type Checker interface{ Check() error }

// Decode decodes the YAML document data, which came from name, into v, a
// pointer to a struct. Keys that are absent or null leave what v holds, so
// defaults are set before the call. On error v may be partly filled and must
// not be used. An empty document is valid.
func Decode(name string, data []byte, v any) error {
	root, err := parse(name, data)
	if err != nil || root == nil {
		return err
	}
	t := reflect.TypeOf(v)
	if t == nil || t.Kind() != reflect.Pointer || t.Elem().Kind() != reflect.Struct {
		return fmt.Errorf("decoding %q: want a pointer to a struct, have %T", name, v)
	}
	c := checker{name: name}
	c.node(root, t.Elem(), "")
	if err := c.err(); err != nil {
		return err
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true) // the walk above has better messages; this is the second opinion
	if err := dec.Decode(v); err != nil {
		return syntaxError(name, err)
	}
	return nil
}

// DecodeFile is Decode of the file at path, which must be a regular file of at
// most MaxBytes. A missing or unreadable file is of kind Config too.
func DecodeFile(path string, v any) error {
	data, err := ReadFile(path)
	if err != nil {
		return err
	}
	return Decode(path, data, v)
}

// ReadFile reads a configuration file within the bounds of DecodeFile. The
// error wraps that of the operating system, so fs.ErrNotExist can be told.
func ReadFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("not a regular file")
	}
	if err != nil {
		return nil, fault.Errorf(fault.Config, "reading configuration %q: %w", path, err)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fault.Errorf(fault.Config, "reading configuration %q: %w", path, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxBytes+1))
	if err != nil {
		return nil, fault.Errorf(fault.Config, "reading configuration %q: %w", path, err)
	}
	return data, nil // Decode refuses what is over the limit
}

// Locate returns the line of every key and list item of a document that
// Decode has accepted, by dotted path ("auth.scopes.0").
func Locate(data []byte) map[string]int {
	lines := map[string]int{}
	if root, err := parse("", data); err == nil && root != nil {
		locate(root, "", lines)
	}
	return lines
}

func locate(n *yaml.Node, path string, lines map[string]int) {
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := join(path, n.Content[i].Value)
			lines[key] = n.Content[i].Line
			locate(n.Content[i+1], key, lines)
		}
	case yaml.SequenceNode:
		for i, item := range n.Content {
			key := join(path, fmt.Sprint(i))
			lines[key] = item.Line
			locate(item, key, lines)
		}
	}
}

// parse returns the root node, or nil for an empty document.
func parse(name string, data []byte) (*yaml.Node, error) {
	if len(data) > MaxBytes {
		return nil, fault.Errorf(fault.Config, "%s: larger than %d bytes", name, MaxBytes)
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil, nil
	case err != nil:
		return nil, syntaxError(name, err)
	}
	switch err := dec.Decode(&second); {
	case err == nil:
		return nil, fault.Errorf(fault.Config, "%s:%d: a second document: only one is allowed in a file", name, second.Line)
	case !errors.Is(err, io.EOF):
		return nil, syntaxError(name, err)
	}
	if len(doc.Content) == 0 {
		return nil, nil
	}
	root := doc.Content[0]
	if root.Kind == yaml.ScalarNode && root.ShortTag() == "!!null" {
		return nil, nil
	}
	return root, nil
}

// syntaxError rewrites the parser's "yaml: line 3: text" to "file:3: text".
func syntaxError(name string, err error) error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	var line int
	if n, _ := fmt.Sscanf(text, "line %d:", &line); n == 1 {
		_, text, _ = strings.Cut(text, ": ")
		return fault.Errorf(fault.Config, "%s:%d: %s", name, line, text)
	}
	return fault.Errorf(fault.Config, "%s: %s", name, strings.ReplaceAll(text, "\n", " "))
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
