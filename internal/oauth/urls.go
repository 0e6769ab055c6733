package oauth

import (
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/stella-ops/stella/internal/fault"
)

// checkIssuer refuses what cannot be an issuer: RFC 8414 section 2 wants an
// https URL without query and fragment. Plain http is for loopback only.
func checkIssuer(raw string) error {
	if raw == "" {
		return fault.Errorf(fault.Config, "no Authority is configured").
			Hint("set authority.url, or STELLA_AUTHORITY_URL=https://…")
	}
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		return fault.Errorf(fault.Config, "the Authority's URL is not an absolute URL")
	}
	if u.User != nil {
		return fault.Errorf(fault.Config, "the Authority's URL (host %s) carries a user name; that is not allowed", u.Host)
	}
	if u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return fault.Errorf(fault.Config, "the Authority's URL %q has a query or a fragment", raw)
	}
	return checkScheme(u)
}

func checkScheme(u *url.URL) error {
	if u.Scheme == "https" || u.Scheme == "http" && isLoopback(u.Hostname()) {
		return nil
	}
	return fault.Errorf(fault.Config, "%s://%s is not https; plain http is accepted on loopback only", u.Scheme, u.Host)
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// originOf returns scheme://host:port in lower case with the port filled in,
// or "" when raw is not an absolute URL.
func originOf(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		return ""
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"https": "443", "http": "80"}[u.Scheme]
	}
	return u.Scheme + "://" + net.JoinHostPort(strings.ToLower(u.Hostname()), port)
}

// hostOf returns the host of an https URL in lower case, without its port, or
// "" for another URL.
func hostOf(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "https" {
		return ""
	}
	return strings.ToLower(u.Hostname())
}

// hostsOf returns the hosts of origins that are https.
func hostsOf(origins map[string]bool) map[string]bool {
	hosts := map[string]bool{}
	for origin := range origins {
		if host := hostOf(origin); host != "" {
			hosts[host] = true
		}
	}
	return hosts
}

// normalScopes returns the scopes sorted and each once.
func normalScopes(scopes []string) []string {
	out := []string{}
	for _, s := range scopes {
		out = append(out, strings.Fields(s)...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// isScopeToken reports whether s is a scope-token of RFC 6749 section 3.3.
func isScopeToken(s string) bool {
	for _, r := range s {
		if r < 0x21 || r > 0x7e || r == '"' || r == '\\' {
			return false
		}
	}
	return s != ""
}
