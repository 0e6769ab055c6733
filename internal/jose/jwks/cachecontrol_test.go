package jwks

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestParseCacheControl(t *testing.T) {
	for _, r := range []struct {
		lines []string
		want  cacheControl
	}{
		{nil, cacheControl{maxAge: -1}},
		{[]string{""}, cacheControl{present: true, maxAge: -1}},
		{[]string{"public, max-age=60"}, cacheControl{present: true, maxAge: time.Minute}},
		{[]string{"PUBLIC , Max-Age = 60"}, cacheControl{present: true, maxAge: time.Minute}},
		{[]string{`max-age="60"`}, cacheControl{present: true, maxAge: time.Minute}},
		{[]string{"public", "max-age=60"}, cacheControl{present: true, maxAge: time.Minute}},
		{[]string{"max-age=60", "max-age=60"}, cacheControl{present: true, maxAge: time.Minute}},
		{[]string{"max-age=60", "max-age=30"}, cacheControl{present: true, maxAge: 30 * time.Second, bad: true}},
		{[]string{`x="a, max-age=5", max-age=60`}, cacheControl{present: true, maxAge: time.Minute}},
		{[]string{`x="a\", max-age=5", max-age=60`}, cacheControl{present: true, maxAge: time.Minute}},
		{[]string{"max-age=-1"}, cacheControl{present: true, bad: true}},
		{[]string{"max-age=1.5"}, cacheControl{present: true, bad: true}},
		{[]string{"max-age"}, cacheControl{present: true, bad: true}},
		{[]string{"max-age="}, cacheControl{present: true, bad: true}},
		{[]string{"max-age=99999999999999999999999"}, cacheControl{present: true, maxAge: maxSeconds * time.Second}},
		{[]string{"s-maxage=5"}, cacheControl{present: true, maxAge: -1}},
		{[]string{"No-Store"}, cacheControl{present: true, maxAge: -1, noStore: true}},
		{[]string{`no-cache="set-cookie", max-age=1`}, cacheControl{present: true, maxAge: time.Second, noStore: true}},
	} {
		if got := parseCacheControl(r.lines); got != r.want {
			t.Errorf("%q: %+v, want %+v", r.lines, got, r.want)
		}
	}
}

func FuzzParseCacheControl(f *testing.F) {
	for _, s := range []string{"public, max-age=60", `x="a, max-age=5", max-age="60"`, "no-store", "max-age=-1,,", `"\`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		c := parseCacheControl([]string{line})
		if !c.present || c.maxAge < -1 || c.maxAge > maxSeconds*time.Second || c.maxAge > 0 && c.maxAge%time.Second != 0 {
			t.Fatalf("%q: %+v", line, c)
		}
		lower := strings.ToLower(line)
		if c.noStore && !strings.Contains(lower, "no-") || c.maxAge >= 0 && !strings.Contains(lower, "max-age") {
			t.Fatalf("%q: %+v from nowhere", line, c)
		}
		// What was understood, written plainly, is understood the same.
		if c.maxAge < 0 || c.bad {
			return
		}
		plain := fmt.Sprintf("max-age=%d", c.maxAge/time.Second)
		if c.noStore {
			plain += ", no-store"
		}
		if again := parseCacheControl([]string{plain}); again != c {
			t.Fatalf("%q: %+v, %q: %+v", line, c, plain, again)
		}
	})
}
