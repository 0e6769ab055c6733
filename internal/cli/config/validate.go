package config

import (
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/ui"
)

const maxTimeout = 10 * time.Minute

func itoa(i int) string { return strconv.Itoa(i) }

func fileOrigin(path string, line int) string { return fmt.Sprintf("file %s:%d", path, line) }

// Validate checks what types alone cannot say. Errors are of kind Config and
// name the origin of the value. Nothing is opened.
func (c *Config) Validate() error {
	for _, check := range []func() error{c.checkAuthority, c.checkAuth, c.checkVantagePoints, c.checkMirror, c.checkOther} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// bad makes an error with the address of a key.
func (c *Config) bad(key, format string, args ...any) *fault.Error {
	origin := c.Origin(key)
	switch where, rest, _ := strings.Cut(origin, " "); where {
	case "file":
		origin = rest // file:line first, as every other message
	case "env":
		origin = "environment " + rest
	}
	return fault.Errorf(fault.Config, "%s: %s: %w", origin, key, fmt.Errorf(format, args...))
}

func (c *Config) checkAuthority() error {
	if c.Authority.URL != "" {
		if err := CheckURL(c.Authority.URL); err != nil {
			return c.bad("authority.url", "%v", err)
		}
	}
	for i, origin := range c.Authority.Origins {
		if err := CheckURL(origin); err != nil {
			return c.bad("authority.origins", "item %d: %v", i, err)
		}
		if u, err := url.Parse(origin); err != nil || strings.Trim(u.Path, "/") != "" {
			return c.bad("authority.origins", "item %d: an origin has no path", i)
		}
	}
	if d := c.Authority.Timeout.Std(); d <= 0 || d > maxTimeout {
		return c.bad("authority.timeout", "found %s; allowed: more than zero, at most %s", d, maxTimeout)
	}
	return nil
}

func (c *Config) checkAuth() error {
	a := c.Auth
	have := map[Method]bool{PrivateKeyJWT: a.PrivateKey != "", ClientSecretBasic: a.ClientSecret != "", TLSClientAuth: a.Certificate != ""}
	key := map[Method]string{PrivateKeyJWT: "auth.private_key", ClientSecretBasic: "auth.client_secret", TLSClientAuth: "auth.certificate"}
	var both []string
	for _, m := range []Method{ClientSecretBasic, PrivateKeyJWT, TLSClientAuth} {
		if have[m] {
			both = append(both, key[m])
		}
	}
	certKey, _, _ := strings.Cut(string(a.CertificateKey), ":")
	switch m := a.EffectiveMethod(); {
	case m != None && !have[m]:
		return c.bad("auth.method", "%s needs %s", m, key[m])
	case len(both) > 1 && a.Method == "":
		return c.bad("auth.method", "not set, though %s are", strings.Join(both[:len(both)-1], ", ")+" and "+both[len(both)-1]).
			Hint("say which one counts: %s", strings.Join(Method("").Allowed()[:3], ", "))
	case (a.Certificate == "") != (a.CertificateKey == ""):
		return c.bad("auth.certificate", "auth.certificate and auth.certificate_key belong together; set both or none")
	case certKey != "" && certKey != "file" && certKey != "cred":
		return c.bad("auth.certificate_key", "only file:PATH and cred:NAME are allowed here")
	}
	if !regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$").MatchString(a.BootstrapHeader) {
		return c.bad("auth.bootstrap_header", "found %q, which is no HTTP header name", a.BootstrapHeader)
	}
	// RFC 6749 section 3.3: visible ASCII without quote and backslash.
	scope := regexp.MustCompile(`^[\x21\x23-\x5B\x5D-\x7E]+$`)
	for i, s := range a.Scopes {
		if !scope.MatchString(s) {
			return c.bad("auth.scopes", "item %d is no scope: %.60q", i, s)
		}
	}
	return nil
}

func (c *Config) checkVantagePoints() error {
	seen := map[string]bool{}
	name := regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
	for i, p := range c.VantagePoints {
		switch key := itemKey("vantage_points", i, "name"); {
		case !name.MatchString(p.Name):
			return c.bad(key, "found %.80q; allowed: 1 to 64 of A-Z a-z 0-9 . _ -", p.Name)
		case seen[p.Name]:
			return c.bad(key, "%q is used twice", p.Name)
		}
		seen[p.Name] = true
		if err := CheckURL(p.URL); err != nil {
			return c.bad(itemKey("vantage_points", i, "url"), "%v", err)
		}
	}
	return nil
}

func (c *Config) checkOther() error {
	if t := c.Tenant; t != "" && !regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`).MatchString(t) {
		return c.bad("tenant", "found %.80q; allowed: 1 to 63 of a-z 0-9 . _ -, in lower case", t)
	}
	if v := c.environ["STELLA_PROGRESS_INTERVAL"]; v != "" {
		if _, ok := ui.ParseInterval(v); !ok {
			return fault.Errorf(fault.Config, "environment STELLA_PROGRESS_INTERVAL: found %.60q; allowed: seconds or a duration, 10ms to 1h", v)
		}
	}
	if v := c.environ["STELLA_LOG_LEVEL"]; v != "" {
		if _, ok := Level(v); !ok {
			return fault.Errorf(fault.Config, "environment STELLA_LOG_LEVEL: found %.60q; allowed: debug, info, warn, error", v)
		}
	}
	return nil
}

// CheckURL checks a base URL: https, or http on loopback; a host; no user, no
// query, no fragment. The text of a bad URL is not repeated whole, for it may
// hold a password.
func CheckURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Opaque != "":
		return fmt.Errorf("not a URL such as https://authority.example")
	case u.User != nil:
		return fmt.Errorf("a URL must not hold a user or a password")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return fmt.Errorf("a URL must not have a query or a fragment here")
	case u.Scheme == "https", u.Scheme == "http" && loopback(u.Hostname()):
		return nil
	}
	return fmt.Errorf("found scheme %q for host %q; allowed: https, or http on loopback", u.Scheme, u.Host)
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
