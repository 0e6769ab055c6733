package strictyaml

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/secret"
)

type color string

func (color) Allowed() []string { return []string{"red", "green"} }

type inner struct {
	PermitLimit int      `yaml:"permitLimit"`
	Window      Duration `yaml:"window"`
	On          bool     `yaml:"on"`
}

type shared struct {
	Region string `yaml:"region"`
}

type sample struct {
	Issuer  string           `yaml:"issuer"`
	Rate    inner            `yaml:"rateLimiting"`
	More    *inner           `yaml:"more"`
	Dirs    []string         `yaml:"pluginDirectories"`
	Items   []inner          `yaml:"items"`
	Labels  map[string]int   `yaml:"labels"`
	Color   color            `yaml:"color"`
	Key     secret.Ref       `yaml:"signing_key"`
	Ratio   float64          `yaml:"ratio"`
	Small   uint8            `yaml:"small"`
	Free    map[string]any   `yaml:"free"`
	At      time.Time        `yaml:"at"`
	Nested  map[string]inner `yaml:"nested"`
	Shared  shared           `yaml:",inline"`
	Skipped int              `yaml:"-"`
}

func TestDecodeAccepts(t *testing.T) {
	text := `
issuer: https://a.example
rateLimiting: {permitLimit: 30, window: 00:01:00, on: true}
more:
  permitLimit: 5
pluginDirectories: [a, b]
items:
- permitLimit: 1
labels: {x: 1}
color: green
signing_key: file:/k
ratio: 0.5
small: 255
free: {any: [1, {b: c}]}
at: 2026-11-01T00:00:00Z
region: north
`
	var got sample
	got.Rate.Window = Duration(time.Hour)
	if err := Decode("a.yaml", []byte(text), &got); err != nil {
		t.Fatal(err)
	}
	want := sample{
		Issuer: "https://a.example", Rate: inner{30, Duration(time.Minute), true}, More: &inner{PermitLimit: 5},
		Dirs: []string{"a", "b"}, Items: []inner{{PermitLimit: 1}}, Labels: map[string]int{"x": 1}, Color: "green",
		Key: "file:/k", Ratio: 0.5, Small: 255, Free: map[string]any{"any": []any{1, map[string]any{"b": "c"}}},
		At: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), Shared: shared{"north"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestDecodeKeepsDefaults(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", "---\n", "null\n", "issuer:\nrateLimiting:\n", "rateLimiting: {}\n"} {
		got := sample{Issuer: "def", Rate: inner{PermitLimit: 7}}
		if err := Decode("a.yaml", []byte(text), &got); err != nil || got.Issuer != "def" || got.Rate.PermitLimit != 7 {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	bomb := "free:\n  a: &a [x,x]\n  b: &b [*a,*a]\n  c: [*b,*b]\n"
	for name, c := range map[string]struct{ text, want, hint string }{
		"unknown key":    {"issuer: x\nisuer: y\n", `f.yaml:2: unknown key "isuer"; allowed keys: issuer, rateLimiting, more,`, "did you mean issuer?"},
		"nested key":     {"rateLimiting:\n  permitlimit: 1\n", `f.yaml:2: rateLimiting: unknown key "permitlimit"; allowed keys: permitLimit, window, on`, "did you mean permitLimit?"},
		"in a list":      {"items:\n- on: true\n- off: 1\n", `f.yaml:3: items.1: unknown key "off"`, ""},
		"in a map":       {"nested:\n  a:\n    bad: 1\n", `f.yaml:3: nested.a: unknown key "bad"`, ""},
		"repeated":       {"issuer: x\nissuer: y\n", "f.yaml:2: issuer: repeated key; first on line 1", ""},
		"repeated free":  {"free:\n  a: 1\n  a: 2\n", "f.yaml:3: free.a: repeated key", ""},
		"repeated map":   {"labels: {a: 1, a: 2}\n", "labels.a: repeated key", ""},
		"wrong type":     {"rateLimiting:\n  permitLimit: many\n", `f.yaml:2: rateLimiting.permitLimit: found "many" where a whole number that fits int belongs`, ""},
		"too big":        {"small: 256\n", `small: found "256" where a whole number that is not negative and fits uint8 belongs`, ""},
		"negative":       {"small: -1\n", "fits uint8", ""},
		"bool":           {"rateLimiting: {on: maybe}\n", `found "maybe" where true or false belongs`, ""},
		"float":          {"ratio: much\n", "where a number belongs", ""},
		"list for text":  {"issuer: [a]\n", "issuer: found a list where one value belongs", ""},
		"text for list":  {"pluginDirectories: a\n", `found "a" where a list belongs`, ""},
		"text for block": {"rateLimiting: 3\n", `found "3" where a block of keys belongs`, ""},
		"root list":      {"- a\n", "f.yaml:1: found a list where a block of keys belongs", ""},
		"enum":           {"color: gren\n", `f.yaml:1: color: found "gren"; allowed values: red, green`, "did you mean green?"},
		"empty enum":     {"color: ''\n", `found ""; allowed values: red, green`, ""},
		"duration":       {"rateLimiting: {window: 10}\n", `rateLimiting.window: "10" is not a duration; allowed: hh:mm:ss`, ""},
		"block duration": {"rateLimiting: {window: {a: b}}\n", "where one value belongs", ""},
		"time":           {"at: yesterday\n", "f.yaml:1: at:", ""},
		"alias bomb":     {bomb, "anchors and aliases are not allowed", ""},
		"anchor":         {"issuer: &x y\n", "f.yaml:1: issuer: anchors and aliases are not allowed", ""},
		"merge":          {"rateLimiting:\n  <<: {on: true}\n", "a key must be plain text", ""},
		"tag":            {"issuer: !!binary aGk=\n", `tag "!!binary" is not allowed`, ""},
		"complex key":    {"? [a]\n: b\n", "a key must be plain text", ""},
		"second":         {"issuer: x\n---\nissuer: y\n", "f.yaml:2: a second document", ""},
		"second broken":  {"issuer: x\n---\n[\n", "f.yaml:", ""},
		"syntax":         {"issuer: [\n", "f.yaml:", ""},
		"tab":            {"issuer:\n\t- x\n", "f.yaml:2:", ""},
		"bad utf8":       {"issuer: \xff\n", "f.yaml", ""},
		"huge":           {"#" + strings.Repeat("x", MaxBytes), "larger than 1048576 bytes", ""},
		"skipped field":  {"Skipped: 1\n", "unknown key", ""},
		"private field":  {"private: 1\n", "unknown key", ""},
	} {
		t.Run(name, func(t *testing.T) {
			var v sample
			err := Decode("f.yaml", []byte(c.text), &v)
			if fault.KindOf(err) != fault.Config || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is (%v) %v, want to find %q", fault.KindOf(err), err, c.want)
			}
			if c.hint != "" && !strings.Contains(strings.Join(fault.HintsOf(err), "\n"), c.hint) {
				t.Errorf("hints are %q, want %q", fault.HintsOf(err), c.hint)
			}
		})
	}
}

func TestDecodeTellsAllProblems(t *testing.T) {
	var v sample
	err := Decode("f.yaml", []byte("a: 1\nb: 2\ncolor: x\n"), &v)
	if err == nil || !strings.HasPrefix(err.Error(), "3 problems in f.yaml:\n  f.yaml:1: ") || strings.Count(err.Error(), "\n") != 3 {
		t.Errorf("got %v", err)
	}
	var many strings.Builder
	for i := range 500 {
		fmt.Fprintf(&many, "k%d: 1\n", i)
	}
	err = Decode("f.yaml", []byte(many.String()), &v)
	if err == nil || strings.Count(err.Error(), "\n") != maxProblems {
		t.Errorf("%d lines", strings.Count(err.Error(), "\n"))
	}
}

func TestDecodeWithholdsSecrets(t *testing.T) {
	var v sample
	for _, text := range []string{"signing_key: hunter2\n", "signing_key: [hunter2]\n", "signing_key: {a: hunter2}\n"} {
		if err := Decode("f.yaml", []byte(text), &v); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", text, err)
		}
	}
	type s struct {
		Password int `yaml:"password"`
	}
	if err := Decode("f.yaml", []byte("password: hunter2\n"), &s{}); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v", err)
	}
}

func TestDecodeWantsStructPointer(t *testing.T) {
	for _, v := range []any{nil, sample{}, new(int)} {
		if err := Decode("f.yaml", []byte("a: 1"), v); err == nil {
			t.Errorf("%T accepted", v)
		}
	}
}

func TestDecodeFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "c.yaml")
	if err := os.WriteFile(path, []byte("issuer: x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var v sample
	if err := DecodeFile(path, &v); err != nil || v.Issuer != "x" {
		t.Errorf("%+v, %v", v, err)
	}
	for _, p := range []string{dir, filepath.Join(dir, "missing"), "/dev/zero"} {
		if err := DecodeFile(p, &v); fault.KindOf(err) != fault.Config {
			t.Errorf("%s: %v", p, err)
		}
	}
	if _, err := ReadFile(filepath.Join(dir, "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file is %v", err)
	}
	if err := os.WriteFile(path, []byte("issuer: x\n"+strings.Repeat("#", MaxBytes)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := DecodeFile(path, &v); err == nil || !strings.Contains(err.Error(), "larger") {
		t.Errorf("a huge file is %v", err)
	}
}

func TestLocate(t *testing.T) {
	got := Locate([]byte("issuer: x\nitems:\n- on: true\n  permitLimit: 1\n"))
	want := map[string]int{"issuer": 1, "items": 2, "items.0": 3, "items.0.on": 3, "items.0.permitLimit": 4}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if got := Locate([]byte("[")); len(got) != 0 {
		t.Errorf("a broken document has lines %v", got)
	}
}

func TestNearest(t *testing.T) {
	names := []string{"issuer", "signing", "storage"}
	for word, want := range map[string]string{
		"isuer": "issuer", "ISSUER": "issuer", "sinning": "signing", "x": "", "": "", strings.Repeat("a", 5000): "",
	} {
		if got := Nearest(word, names); got != want {
			t.Errorf("Nearest(%.20q) = %q, want %q", word, got, want)
		}
	}
}
