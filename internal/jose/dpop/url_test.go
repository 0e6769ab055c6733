package dpop

import (
	"net/url"
	"strings"
	"testing"
)

// FuzzNormalURL: normalising twice changes nothing, and net/url reads the same
// scheme and host from what is left.
func FuzzNormalURL(f *testing.F) {
	for _, s := range []string{"https://a.example/token", "HTTP://A:80/%7e/../x?y#z", "https://[::1]:443/%2f", "https://a/..//b/.", "https://%41%2e:1/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		once, err := normalURL(s)
		if err != nil {
			return
		}
		twice, err := normalURL(once)
		if err != nil || once != twice {
			t.Fatalf("%q, then %q (%v)", once, twice, err)
		}
		if strings.ContainsAny(once, "?# \\\r\n\t@") && !strings.Contains(once[8:], "@") {
			t.Fatalf("%q", once)
		}
		path, _, _ := strings.Cut(s, "?")
		path, _, _ = strings.Cut(path, "#")
		if have, want := strings.Count(once, "%2F"), strings.Count(strings.ToUpper(path), "%2F"); have != want && !strings.Contains(once+s, ".") {
			t.Fatalf("%q has %d escaped slashes, %q %d", s, want, once, have)
		}
		u, err := url.Parse(once)
		if err != nil {
			return // net/url knows more about hosts
		}
		if u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			t.Fatalf("%q is %+v", once, u)
		}
	})
}
