package clients

import (
	"net/url"
	"strings"
)

// ValidScope reports whether s is one scope-token of RFC 6749 section 3.3, at
// most 128 bytes, and no wildcard.
func ValidScope(s string) bool {
	if s == "" || len(s) > maxToken {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c > '~' || c == '"' || c == '\\' || c == '*' {
			return false
		}
	}
	return true
}

// ValidTenant reports whether s is a tenant id: lower-case letters, digits and
// ._- , at most 64, beginning with a letter or digit.
func ValidTenant(s string) bool {
	return len(s) <= 64 && s == strings.ToLower(s) && wellFormed(s, "._-") && !strings.ContainsAny(s[:1], "._-")
}

// validAudience reports whether s is an absolute URI of at most 256 bytes
// without wildcard, fragment or space.
func validAudience(s string) bool {
	if len(s) > 256 || strings.ContainsAny(s, "* #\"\\<>") {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	u, err := url.Parse(s)
	return err == nil && u.Scheme != "" && (u.Host != "" || u.Opaque != "")
}

func wellFormed(s, punctuation string) bool {
	if s == "" || len(s) > maxToken {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte(punctuation, c) >= 0) {
			return false
		}
	}
	return true
}

// cleanPath reports whether an id can stand in the path of a URL as it is:
// clients and proxies remove parts like .. from paths.
func cleanPath(id string) bool {
	for part := range strings.SplitSeq(id, "/") {
		if part == "" || part == "." || part == ".." {
			return false
		}
	}
	return true
}
