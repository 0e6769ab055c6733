package dpop

import (
	"fmt"
	"strings"
)

// sameURL compares htu with the request's URL: RFC 9449 section 4.3 point 9.
func sameURL(htu, url string) error {
	if htu == url && htu != "" {
		return nil
	}
	have, err := normalURL(htu)
	if err != nil {
		return invalid("htu: %w", err)
	}
	want, err := normalURL(url)
	if err != nil {
		return invalid("request URL: %w", err)
	}
	if have != want {
		return invalid("htu is %q, the request is for %q", have, want)
	}
	return nil
}

// normalURL is an absolute http or https URL without its query and fragment
// after the syntax and scheme normalisations of RFC 3986 sections 6.2.2 and
// 6.2.3. It never decodes a reserved character: %2F stays different from "/".
func normalURL(s string) (string, error) {
	if i := strings.IndexAny(s, "?#"); i >= 0 {
		s = s[:i]
	}
	scheme, rest, ok := strings.Cut(s, "://")
	scheme = strings.ToLower(scheme)
	if !ok || scheme != "https" && scheme != "http" {
		return "", fmt.Errorf("%q is not an absolute http or https URL", s)
	}
	authority, path := rest, "/"
	if i := strings.IndexByte(rest, '/'); i >= 0 {
		authority, path = rest[:i], rest[i:]
	}
	host, err := normalHost(scheme, authority)
	if err != nil {
		return "", err
	}
	if path, err = normalEscapes(path, "!$&'()*+,;=:@/[]"); err != nil {
		return "", err
	}
	return scheme + "://" + host + removeDotSegments(path), nil
}

// normalHost lowers the host and drops the scheme's default port.
func normalHost(scheme, authority string) (string, error) {
	if strings.Contains(authority, "@") {
		return "", fmt.Errorf("user information in %q", authority)
	}
	host, port := authority, ""
	if i := strings.LastIndexByte(authority, ':'); i >= 0 && i > strings.LastIndexByte(authority, ']') {
		host, port = authority[:i], authority[i+1:]
	}
	allowed := "!$&'()*+,;="
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		allowed += ":[]"
	}
	host, err := normalEscapes(host, allowed)
	if err != nil {
		return "", err
	}
	if host == "" || strings.Trim(port, "0123456789") != "" {
		return "", fmt.Errorf("%q is not a host with an optional port", authority)
	}
	host = lowerHost(host)
	if port == "" || scheme == "https" && port == "443" || scheme == "http" && port == "80" {
		return host, nil
	}
	return host + ":" + port, nil
}

// lowerHost lowers letters but not the hex digits of escapes, which stay upper.
func lowerHost(s string) string {
	b := []byte(s)
	for i := 0; i < len(b); i++ {
		if b[i] == '%' {
			i += 2
		} else if 'A' <= b[i] && b[i] <= 'Z' {
			b[i] += 'a' - 'A'
		}
	}
	return string(b)
}

// normalEscapes decodes the escapes of unreserved characters, writes the others
// in upper case and refuses every byte that is neither unreserved nor allowed.
func normalEscapes(s, allowed string) (string, error) {
	var b strings.Builder
	b.Grow(len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c != '%' {
			if !unreserved(c) && strings.IndexByte(allowed, c) < 0 {
				return "", fmt.Errorf("byte %q has no place in %q", c, s)
			}
			b.WriteByte(c)
			continue
		}
		if i+2 >= len(s) {
			return "", fmt.Errorf("escape cut short in %q", s)
		}
		hi, lo := fromHex(s[i+1]), fromHex(s[i+2])
		if hi < 0 || lo < 0 {
			return "", fmt.Errorf("bad escape in %q", s)
		}
		i += 2
		if c = byte(hi<<4 | lo); unreserved(c) {
			b.WriteByte(c)
		} else {
			const upper = "0123456789ABCDEF"
			b.WriteByte('%')
			b.WriteByte(upper[hi])
			b.WriteByte(upper[lo])
		}
	}
	return b.String(), nil
}

func unreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~", c) >= 0
}

func fromHex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// removeDotSegments is RFC 3986 section 5.2.4 for a path that begins with "/".
func removeDotSegments(path string) string {
	if !strings.Contains(path, "/.") {
		return path
	}
	var out []string
	segments := strings.Split(path, "/")[1:]
	for i, s := range segments {
		last := i == len(segments)-1
		switch s {
		case ".", "..":
			if s == ".." && len(out) > 0 {
				out = out[:len(out)-1]
			}
			if last {
				out = append(out, "")
			}
		default:
			out = append(out, s)
		}
	}
	return "/" + strings.Join(out, "/")
}
