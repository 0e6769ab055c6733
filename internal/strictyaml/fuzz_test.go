package strictyaml

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/stella-ops/stella/internal/fault"
)

// FuzzDecode: a refusal is of kind Config, and what is accepted means the same
// when it is written out and read again.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		"", "issuer: x\n", "rateLimiting: {permitLimit: 1, window: 00:01:00}\n", "items: [{on: true}]\n", "a: &a [*a]\n",
		"free: {a: [1, 2.5, null, x]}\n", "labels: {x: 1}\ncolor: red\nat: 2026-01-01\n", "? a\n: b\n", "--- |\n x\n", "nested: {a: {on: no}}\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var first, second sample
		if err := Decode("f", data, &first); err != nil {
			if fault.KindOf(err) != fault.Config {
				t.Fatalf("kind %v: %v", fault.KindOf(err), err)
			}
			return
		}
		out, err := yaml.Marshal(first)
		if err != nil {
			t.Fatalf("writing out: %v", err)
		}
		var plain, again any
		if yaml.Unmarshal(out, &plain) != nil {
			t.Skip("the library cannot read its own output")
		}
		// Fields that were not set marshal as empty values, which an enumeration
		// refuses; they are left out as an operator would.
		text := strings.ReplaceAll(string(out), "color: \"\"\n", "")
		if err := Decode("f", []byte(text), &second); err != nil {
			t.Skipf("%v", err) // large numbers and times that YAML cannot carry
		}
		out2, err := yaml.Marshal(second)
		if err != nil || yaml.Unmarshal(out2, &again) != nil {
			t.Fatalf("writing out again: %v", err)
		}
		if d := cmp.Diff(string(out), string(out2)); d != "" {
			t.Fatal(d)
		}
	})
}

// FuzzDuration: what is accepted is not negative and survives its own text.
func FuzzDuration(f *testing.F) {
	for _, seed := range []string{"00:02:00", "30.00:00:00", "00:00:00.5", "2m", "-1s", "9999999999h", "1.2.3:4:5", ":::"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := ParseDuration(text)
		if err != nil {
			return
		}
		again, err := ParseDuration(d.String())
		if d < 0 || err != nil || again != d {
			t.Fatalf("%q became %d, %s, %d (%v)", text, d, d, again, err)
		}
	})
}

// FuzzOverlay: no name or value panics, and a refusal is of kind Config.
func FuzzOverlay(f *testing.F) {
	for _, seed := range []string{"__ISSUER=x", "__ITEMS__0__ON=true", "__LABELS__A__B=1", "__ITEMS__99999999999999999999=1", "_X=", "__MORE__WINDOW=1s", "__FREE__A=1", "__AT=2026-01-01T00:00:00Z"} {
		f.Add(seed, "__PLUGINDIRECTORIES__0=a")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		var v sample
		if err := Overlay("APP", []string{"APP" + a, "APP" + b}, &v); err != nil && fault.KindOf(err) != fault.Config {
			t.Fatalf("kind %v: %v", fault.KindOf(err), err)
		}
	})
}
