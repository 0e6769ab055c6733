package clientauth

import (
	"encoding/base64"
	"net/url"
	"testing"
)

func TestParseBasic(t *testing.T) {
	header := func(text string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(text)) }
	for in, want := range map[string][2]string{
		header("id:secret"):          {"id", "secret"},
		header("a%3Ab:c+d%25"):       {"a:b", "c d%"},
		header("id:with:colon"):      {"id", "with:colon"},
		"bAsIc " + header("i:s")[6:]: {"i", "s"},
	} {
		if id, secret, ok := parseBasic(in); !ok || id != want[0] || secret != want[1] {
			t.Errorf("%q: %q %q %v", in, id, secret, ok)
		}
	}
	for _, in := range []string{
		"", "Basic", "Basic ", "Bearer abc", header("nocolon"), header(":s"), header("i:"), header("i:%zz"),
		"Basic  " + header("i:s")[6:], header("i:s") + "=", "Basic aTpz\n",
	} {
		if id, secret, ok := parseBasic(in); ok {
			t.Errorf("%q accepted: %q %q", in, id, secret)
		}
	}
}

// What is accepted encodes back to the same header.
func FuzzBasic(f *testing.F) {
	f.Add("Basic aWQ6c2VjcmV0")
	f.Add("basic YSUzQWI6Yw==")
	f.Fuzz(func(t *testing.T, header string) {
		id, secret, ok := parseBasic(header)
		if !ok {
			return
		}
		again := "Basic " + base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(id)+":"+url.QueryEscape(secret)))
		if id2, secret2, ok := parseBasic(again); len(again) < maxBasic && (!ok || id2 != id || secret2 != secret) {
			t.Fatalf("%q: %q %q, then %q %q", header, id, secret, id2, secret2)
		}
	})
}
