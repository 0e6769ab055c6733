package httpget

import (
	"net/url"
	"testing"
)

// FuzzContentRange: what is accepted is spelled in one way and makes sense.
func FuzzContentRange(f *testing.F) {
	for _, s := range []string{"bytes 0-9/10", "bytes 5-9/*", "bytes */10", "bytes 9-5/10", "bytes 00-1/2", "bytes 0-9/9", "lines 0-1/2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := parseContentRange(s)
		if err != nil {
			return
		}
		if r.String() != s || r.first < 0 || r.last < r.first || r.size >= 0 && r.size <= r.last {
			t.Errorf("%q is %+v, %s", s, r, r)
		}
	})
}

// FuzzEscape: a path that is escaped leads to itself.
func FuzzEscape(f *testing.F) {
	f.Add("/a b/ä+%2F?#")
	f.Fuzz(func(t *testing.T, path string) {
		got, err := url.PathUnescape(escape(path))
		if err != nil || got != path {
			t.Errorf("%q: %q, %v", path, got, err)
		}
		if u := (&url.URL{Path: path, RawPath: escape(path)}); u.EscapedPath() != escape(path) && path != "*" {
			t.Errorf("%q goes out as %q", path, u.EscapedPath())
		}
	})
}
