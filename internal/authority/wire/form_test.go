package wire

import (
	"net/url"
	"testing"
	"unicode/utf8"
)

// What is accepted is decoded as the standard library decodes it, and no
// parameter is there twice.
func FuzzForm(f *testing.F) {
	f.Add("grant_type=client_credentials&scope=a+b&audience=api%3A%2F%2Fx")
	f.Add("a=1&a=2")
	f.Add("&&=&x")
	f.Fuzz(func(t *testing.T, body string) {
		got, err := ParseForm(body)
		if err != nil {
			return
		}
		want, err := url.ParseQuery(body)
		if err != nil {
			return // a semicolon, which only we take for what it is
		}
		for name, values := range want {
			if len(values) != 1 {
				t.Fatalf("%q accepted with %q twice", body, name)
			}
			if v := got.Get(name); v != values[0] || !utf8.ValidString(v) {
				t.Fatalf("%q: %q is %q, not %q", body, name, v, values[0])
			}
		}
	})
}
