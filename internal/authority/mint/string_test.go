package mint

import (
	"encoding/json"
	"testing"
	"unicode/utf8"
)

// AppendString writes what encoding/json reads back.
func FuzzString(f *testing.F) {
	f.Add("plain")
	f.Add("\"\\\x00\x1f\u2028é\xff")
	f.Fuzz(func(t *testing.T, s string) {
		var back string
		if err := json.Unmarshal(AppendString(nil, s), &back); err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		if utf8.ValidString(s) && back != s {
			t.Fatalf("%q became %q", s, back)
		}
	})
}
