package token

import (
	"encoding/base64"
	"encoding/json"
	"net/url"
	"testing"
	"time"
	"unicode/utf8"
)

func TestNonces(t *testing.T) {
	now := time.Date(2026, 11, 22, 4, 0, 0, 0, time.UTC)
	n := NewNonces([]byte("secret"), "https://a", time.Minute)
	nonce := n.New(now)
	if nonce == n.New(now) {
		t.Error("the same nonce twice")
	}
	for age, good := range map[time.Duration]bool{0: true, 29 * time.Second: true, -29 * time.Second: true, time.Minute: false, -time.Minute: false} {
		if err := n.Check(nonce, now.Add(age)); (err == nil) != good {
			t.Errorf("after %s: %v", age, err)
		}
	}
	for name, other := range map[string]*Nonces{
		"other secret": NewNonces([]byte("secreT"), "https://a", time.Minute),
		"other issuer": NewNonces([]byte("secret"), "https://b", time.Minute),
	} {
		if other.Check(nonce, now) == nil {
			t.Errorf("%s accepts it", name)
		}
	}
	for i := range len(nonce) {
		changed := []byte(nonce)
		changed[i] ^= 1
		if n.Check(string(changed), now) == nil {
			t.Errorf("accepted with character %d changed", i)
		}
	}
}

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

// What is accepted is decoded as the standard library decodes it, and no
// parameter is there twice.
func FuzzForm(f *testing.F) {
	f.Add("grant_type=client_credentials&scope=a+b&audience=api%3A%2F%2Fx")
	f.Add("a=1&a=2")
	f.Add("&&=&x")
	f.Fuzz(func(t *testing.T, body string) {
		got, err := parseForm(body)
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
			if p := got.field(name); p != nil && (*p != values[0] || !utf8.ValidString(*p)) {
				t.Fatalf("%q: %q is %q, not %q", body, name, *p, values[0])
			}
		}
	})
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

// appendString writes what encoding/json reads back.
func FuzzString(f *testing.F) {
	f.Add("plain")
	f.Add("\"\\\x00\x1f\u2028é\xff")
	f.Fuzz(func(t *testing.T, s string) {
		var back string
		if err := json.Unmarshal(appendString(nil, s), &back); err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		if utf8.ValidString(s) && back != s {
			t.Fatalf("%q became %q", s, back)
		}
	})
}
