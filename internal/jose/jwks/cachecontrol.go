package jwks

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxSeconds is the largest delta-seconds (RFC 9111 section 1.2.2).
const maxSeconds = 1<<31 - 1

// cacheControl is what Cache-Control says to a private cache.
type cacheControl struct {
	present bool          // there is a Cache-Control header
	maxAge  time.Duration // -1 when absent; 0 when unreadable, as RFC 9111 section 4.2.1 advises
	noStore bool          // no-store or no-cache
	bad     bool          // something was unreadable or contradicts itself
}

// parseCacheControl reads every Cache-Control line. Of several max-age the
// smallest counts; s-maxage is for shared caches and does not.
func parseCacheControl(lines []string) cacheControl {
	c := cacheControl{present: len(lines) > 0, maxAge: -1}
	for _, d := range directives(strings.Join(lines, ",")) {
		name, value, hasValue := strings.Cut(d, "=")
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "no-store", "no-cache":
			c.noStore = true
		case "max-age":
			age, ok := deltaSeconds(strings.Trim(strings.TrimSpace(value), `"`))
			if !hasValue || !ok || c.maxAge >= 0 && c.maxAge != age {
				c.bad = true
			}
			if c.maxAge < 0 || age < c.maxAge {
				c.maxAge = age
			}
		}
	}
	return c
}

// directives splits at commas outside quoted strings.
func directives(s string) []string {
	var out []string
	start, quoted := 0, false
	for i := 0; i < len(s); i++ {
		switch {
		case quoted && s[i] == '\\':
			i++
		case s[i] == '"':
			quoted = !quoted
		case s[i] == ',' && !quoted:
			out = append(out, s[start:i])
			start = i + 1
		}
	}
	return append(out, s[start:])
}

// deltaSeconds reads a non-negative number of seconds, bounded at 2^31-1.
func deltaSeconds(s string) (time.Duration, bool) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n > maxSeconds {
		n = maxSeconds
	}
	return time.Duration(n) * time.Second, true
}

// age reads the Age header; an absent or unreadable one counts as zero.
func age(h http.Header) (time.Duration, bool) {
	lines := h.Values("Age")
	if len(lines) == 0 {
		return 0, true
	}
	return deltaSeconds(strings.TrimSpace(lines[0]))
}
