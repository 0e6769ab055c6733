package authority

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/stella-ops/stella/internal/authority/clients"
	"github.com/stella-ops/stella/internal/authority/lifecycle"
	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/strictyaml"
)

// maxAccessTokenLifetime is the most that accessTokenLifetime may be.
const maxAccessTokenLifetime = time.Hour

// memoryStore is the connection string of a store in this process.
const memoryStore = "memory"

// checks collects what is wrong with a Config; the first is told.
type checks struct {
	name  string
	lines map[string]int
	err   *fault.Error
}

// bad notes a mistake at a key, with its line if the file has it.
func (c *checks) bad(path, format string, args ...any) *fault.Error {
	where := c.name
	if line := c.lines[path]; line > 0 {
		where = fmt.Sprintf("%s:%d", c.name, line)
	}
	e := fault.Errorf(fault.Config, "%s: %s: %s", where, path, fmt.Sprintf(format, args...))
	if c.err == nil {
		c.err = e
	}
	return e
}

func (c *checks) span(path string, d strictyaml.Duration, low, high time.Duration) {
	if d.Std() < low || d.Std() > high {
		c.bad(path, "%s is not between %s and %s", d, strictyaml.Duration(low), strictyaml.Duration(high))
	}
}

// timetable is span for what becomes part of the keys' timetable, which the
// history keeps in milliseconds: a finer value would never equal what was
// recorded, and each start would record it again.
func (c *checks) timetable(path string, d strictyaml.Duration, low, high time.Duration) {
	c.span(path, d, low, high)
	if d.Std()%time.Millisecond != 0 {
		c.bad(path, "%s is not a whole number of milliseconds", d)
	}
}

// check judges a decoded Config beyond the types of its values.
func check(name string, c *Config, lines map[string]int) error {
	k := &checks{name: name, lines: lines}
	if c.SchemaVersion != 1 {
		k.bad("schemaVersion", "must be 1")
	}
	k.issuer(c)
	k.listeners(c)
	k.storage(&c.Storage)
	k.signing(&c.Signing)
	k.logins(c)
	k.timetable("accessTokenLifetime", c.AccessTokenLifetime, 5*time.Second, maxAccessTokenLifetime)
	k.span("security.dpop.nonceLifetime", c.Security.DPoP.NonceLifetime, 10*time.Second, time.Hour)
	k.span("security.dpop.proofLifetime", c.Security.DPoP.ProofLifetime, time.Second, 5*time.Minute)
	if !regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`).MatchString(c.Replica) {
		k.bad("replica", "use 1 to 64 letters, digits, dots, underscores and hyphens")
	}
	if !regexp.MustCompile(`^[A-Za-z0-9-]{1,64}$`).MatchString(c.Bootstrap.Header) || strings.EqualFold(c.Bootstrap.Header, "authorization") {
		k.bad("bootstrap.header", "is not the name of a header for this purpose")
	}
	for i, t := range c.Tenants {
		if !clients.ValidTenant(t) {
			k.bad(fmt.Sprintf("tenants.%d", i), "want lower-case letters, digits and ._-, at most 64")
		}
	}
	if k.err != nil {
		return k.err
	}
	return nil
}

func (c *checks) issuer(conf *Config) {
	u, err := url.Parse(conf.Issuer)
	switch {
	case conf.Issuer == "":
		c.bad("issuer", "is required").Hint("issuer: https://authority.example.org")
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.ForceQuery ||
		strings.HasSuffix(conf.Issuer, "/") || strings.ToLower(u.Host) != u.Host || u.String() != conf.Issuer:
		c.bad("issuer", "want an absolute URL in lower case without query, fragment or slash at the end")
	case u.Scheme != "https" && (u.Scheme != "http" || !conf.InsecureHTTP):
		c.bad("issuer", "must be an https URL (http only with insecureHttp)")
	case u.Port() == "0" && !strings.HasSuffix(conf.Listen, ":0"):
		c.bad("issuer", "port 0 needs listen on port 0")
	}
}

func (c *checks) listeners(conf *Config) {
	host, _, err := net.SplitHostPort(conf.Listen)
	if err != nil {
		c.bad("listen", "want HOST:PORT")
	}
	switch {
	case conf.InsecureHTTP && !loopback(host):
		c.bad("insecureHttp", "is for loopback addresses only, and listen is %q", conf.Listen)
	case conf.InsecureHTTP && (conf.TLS.Certificate != "" || conf.TLS.Key != ""):
		c.bad("insecureHttp", "and tls contradict each other")
	case !conf.InsecureHTTP && (conf.TLS.Certificate == "" || conf.TLS.Key == ""):
		c.bad("tls", "certificate and key are required")
	}
	if a := conf.Admin.Listen; a != "" {
		if host, _, err := net.SplitHostPort(a); err != nil || !loopback(host) {
			c.bad("admin.listen", "want a loopback HOST:PORT")
		}
	}
}

func loopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

func (c *checks) storage(s *StorageConfig) {
	c.span("storage.commandTimeout", s.CommandTimeout, 100*time.Millisecond, 5*time.Minute)
	c.span("storage.clientCache", s.ClientCache, 0, 5*time.Second)
	if !regexp.MustCompile(`^[A-Za-z0-9_-]{1,63}$`).MatchString(s.DatabaseName) {
		c.bad("storage.databaseName", "use 1 to 63 letters, digits, underscores and hyphens")
	}
	if s.ConnectionStringFrom != "" {
		return
	}
	switch text := s.ConnectionString; {
	case text == memoryStore && !s.AcceptDataLoss:
		c.bad("storage.connectionString", "memory forgets every client at the end of the process").
			Hint("for a throw-away lab: storage.acceptDataLoss: true")
	case text == memoryStore:
	case hasPassword(text):
		c.bad("storage.connectionString", "holds a password (value withheld)").
			Hint("put the whole string in a file with mode 600 and write storage.connectionStringFrom: file:PATH")
	case !strings.HasPrefix(text, "mongodb://") && !strings.HasPrefix(text, "mongodb+srv://"):
		c.bad("storage.connectionString", "want a mongodb:// or mongodb+srv:// URI (value withheld)")
	}
}

// hasPassword reports whether a connection string carries a password. When in
// doubt it says yes: an @ of its own belongs to credentials only.
func hasPassword(uri string) bool {
	_, rest, _ := strings.Cut(uri, "://")
	at := strings.LastIndexByte(rest, '@')
	return at >= 0 && strings.ContainsRune(rest[:at], ':')
}

func (c *checks) signing(s *SigningConfig) {
	const hint = "take a key in with POST /internal/signing/rotate; this server keeps which key is active in its keyring"
	switch {
	case !s.Enabled:
		c.bad("signing.enabled", "must be true: a token server that signs nothing has no purpose")
	case s.ActiveKeyID != "":
		c.bad("signing.activeKeyId", "is not used here: leave it out").Hint(hint)
	case s.KeyPath != "":
		c.bad("signing.keyPath", "is not used here: leave it out, and set signing.keyDirectory").Hint(hint)
	case len(s.AdditionalKeys) > 0:
		c.bad("signing.additionalKeys", "is not used here: leave it out").Hint(hint)
	case s.KeyDirectory == "":
		c.bad("signing.keyDirectory", "is required").Hint("install -d -m 700 /var/lib/stellaops/authority/keys")
	}
	c.providers(s)
	c.timetable("signing.jwksCacheLifetime", s.JWKSCacheLifetime, time.Second, 24*time.Hour)
	c.timetable("signing.clockSkew", s.ClockSkew, 0, 5*time.Minute)
	c.span("signing.pollInterval", s.PollInterval, 10*time.Millisecond, time.Minute)
	c.timetable("signing.signLease", s.SignLease, s.PollInterval.Std()+time.Millisecond, 5*time.Minute)
	seen := map[string]bool{}
	for i, p := range s.VantagePoints {
		at := fmt.Sprintf("signing.vantagePoints.%d", i)
		if !lifecycle.ValidPoint(p.Name) || seen[p.Name] {
			c.bad(at+".name", "want a name of its own: 1 to 64 letters, digits and ._:-")
		}
		seen[p.Name] = true
		if err := lifecycle.CheckPointURL(p.URL); err != nil {
			c.bad(at, "%v", err)
		}
	}
}
