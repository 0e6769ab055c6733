package authority

import (
	"fmt"
	"net/netip"
	"net/url"
	"time"

	"github.com/stella-ops/stella/internal/authority/clients"
	"github.com/stella-ops/stella/internal/authority/limit"
	"github.com/stella-ops/stella/internal/secret"
	"github.com/stella-ops/stella/internal/strictyaml"
)

// SecurityConfig groups what is demanded of clients.
type SecurityConfig struct {
	// DPoP holds the rules for DPoP proofs (RFC 9449).
	DPoP DPoPConfig `yaml:"dpop"`
	// RateLimiting holds the limits.
	RateLimiting RateLimitingConfig `yaml:"rateLimiting"`
	// TrustedProxies are networks (CIDR) whose X-Forwarded-For is believed, the
	// rightmost entry that is not one of them. Default: none.
	TrustedProxies []Network `yaml:"trustedProxies"`
}

// DPoPConfig holds the rules for DPoP proofs.
type DPoPConfig struct {
	// RequireNonce demands a nonce of ours in every proof, default true.
	RequireNonce bool `yaml:"requireNonce"`
	// RequireNonceAudiences demand one even if requireNonce is false.
	RequireNonceAudiences []string `yaml:"requireNonceAudiences"`
	// NonceLifetime is how long a nonce is good at most, and at least half
	// of: 10 s to 1 h, default 00:05:00.
	NonceLifetime strictyaml.Duration `yaml:"nonceLifetime"`
	// ProofLifetime is the age at which a proof is too old: 1 s to 5 min,
	// default 00:00:30.
	ProofLifetime strictyaml.Duration `yaml:"proofLifetime"`
	// ReplayStore is where used proofs are remembered: database (default),
	// redis, or memory, for one replica only.
	ReplayStore ReplayStore `yaml:"replayStore"`
}

// ReplayStore is a place for single-use identifiers.
type ReplayStore string

// The replay stores.
const (
	replayDatabase ReplayStore = "database"
	replayRedis    ReplayStore = "redis"
	replayMemory   ReplayStore = "memory"
)

// Allowed implements strictyaml.Enum.
func (ReplayStore) Allowed() []string {
	return []string{string(replayDatabase), string(replayRedis), string(replayMemory)}
}

// RateLimitingConfig holds one limit for each group of endpoints. A caller is
// an address together with the client it names, if there is one.
type RateLimitingConfig struct {
	// Token is about /token, /introspect and /revoke: on, 30 in 00:01:00, no
	// queue.
	Token RateConfig `yaml:"token"`
	// Authorize is about /device_authorization and the device page: on, 60 in
	// 00:01:00, a queue of 10.
	Authorize RateConfig `yaml:"authorize"`
	// Internal is about /internal: off, 5 in 00:01:00, no queue.
	Internal RateConfig `yaml:"internal"`
}

// RateConfig is one limit, in fixed windows.
type RateConfig struct {
	// Enabled turns it on.
	Enabled bool `yaml:"enabled"`
	// PermitLimit is how many requests of one caller a window has room for.
	PermitLimit int `yaml:"permitLimit"`
	// Window is how long a window is, in whole seconds.
	Window strictyaml.Duration `yaml:"window"`
	// QueueLimit is how many more may wait for the next window.
	QueueLimit int `yaml:"queueLimit"`
}

func (r RateConfig) rule() limit.Rule {
	return limit.Rule{Enabled: r.Enabled, PermitLimit: r.PermitLimit, Window: r.Window.Std(), QueueLimit: r.QueueLimit}
}

func (r RateLimitingConfig) rules() limit.Rules {
	return limit.Rules{limit.Token: r.Token.rule(), limit.Authorize: r.Authorize.rule(), limit.Internal: r.Internal.rule()}
}

func defaultRates() RateLimitingConfig {
	rate := func(e limit.Endpoint) RateConfig {
		r := limit.Defaults()[e]
		return RateConfig{r.Enabled, r.PermitLimit, strictyaml.Duration(r.Window), r.QueueLimit}
	}
	return RateLimitingConfig{Token: rate(limit.Token), Authorize: rate(limit.Authorize), Internal: rate(limit.Internal)}
}

// Network is an address or a network in CIDR notation.
type Network string

// Check implements strictyaml.Checker.
func (n Network) Check() error {
	_, err := n.prefix()
	return err
}

func (n Network) prefix() (netip.Prefix, error) {
	if a, err := netip.ParseAddr(string(n)); err == nil && a.Zone() == "" && !a.Is4In6() {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(string(n))
	switch {
	case err != nil || p.Addr().Is4In6():
		return p, fmt.Errorf("%q is not an address or a network like 10.1.0.0/16 or fd00::/8", string(n))
	case p != p.Masked():
		return p, fmt.Errorf("%q has bits behind its prefix; did you mean %s?", string(n), p.Masked())
	case p.Bits() == 0:
		return p, fmt.Errorf("%q is everybody", string(n))
	}
	return p, nil
}

func prefixes(networks []Network) []netip.Prefix {
	all := make([]netip.Prefix, 0, len(networks))
	for _, n := range networks {
		if p, err := n.prefix(); err == nil { // checked with the file
			all = append(all, p)
		}
	}
	return all
}

// MTLSConfig is a second listener, for clients that authenticate by
// certificate or want tokens bound to one (RFC 8705). It uses the certificate
// of tls.
type MTLSConfig struct {
	// Listen is its address; empty (the default): no such listener.
	Listen string `yaml:"listen"`
	// URL is how clients know it, default: the issuer's host with the port of
	// listen.
	URL string `yaml:"url"`
	// Tenants says whom each tenant trusts to vouch for its clients.
	Tenants []TenantTrustConfig `yaml:"tenants"`
}

// TenantTrustConfig is what one tenant trusts. Files are followed when they
// change; a bad one leaves the last good state.
type TenantTrustConfig struct {
	// Tenant is the tenant's id.
	Tenant string `yaml:"tenant"`
	// Roots is a PEM file with the CA certificates to which client certificates
	// must lead.
	Roots string `yaml:"roots"`
	// CRL is a file with the lists of revoked certificates of those CAs, PEM or
	// DER. Optional.
	CRL string `yaml:"crl"`
}

// RedisConfig is a Redis or Valkey server that replicas share for limits and,
// with security.dpop.replayStore: redis, for used proofs.
type RedisConfig struct {
	// URL is redis:// or rediss:// without password; empty (the default): none.
	URL string `yaml:"url"`
	// Password is a secret reference.
	Password secret.Ref `yaml:"password"`
	// CAFile holds the roots for rediss://; default: the system's.
	CAFile string `yaml:"caFile"`
	// Prefix begins every key, default stella-authority:
	Prefix string `yaml:"prefix"`
	// Timeout bounds each operation: 10 ms to 10 s, default 00:00:01.
	Timeout strictyaml.Duration `yaml:"timeout"`
}

// AuditConfig says where audit records go.
type AuditConfig struct {
	// Log writes them to the log, as lines of the logger
	// StellaOps.Authority.Audit; default true.
	Log bool `yaml:"log"`
	// File is a file of JSON lines that they are appended to; opened again on
	// SIGHUP. Empty (the default): none.
	File string `yaml:"file"`
}

// PluginsConfig says where the manifests of plug-ins are.
type PluginsConfig struct {
	// ConfigurationDirectory holds them: standard.yaml. Empty (the default):
	// the standard plug-in with its defaults.
	ConfigurationDirectory string `yaml:"configurationDirectory"`
}

// logins judges what is about people, clients with certificates and limits.
func (c *checks) logins(conf *Config) {
	c.span("refreshTokenLifetime", conf.RefreshTokenLifetime, time.Minute, 90*24*time.Hour)
	c.span("deviceCodeLifetime", conf.DeviceCodeLifetime, time.Minute, time.Hour)
	c.span("redis.timeout", conf.Redis.Timeout, 10*time.Millisecond, 10*time.Second)
	for name, r := range map[string]RateConfig{
		"token": conf.Security.RateLimiting.Token, "authorize": conf.Security.RateLimiting.Authorize, "internal": conf.Security.RateLimiting.Internal,
	} {
		if err := r.rule().Check(); err != nil {
			c.bad("security.rateLimiting."+name, "%v", err)
		}
	}
	if conf.Redis.URL == "" && (conf.Redis.Password != "" || conf.Redis.CAFile != "") {
		c.bad("redis.url", "is required with the rest of redis")
	}
	if u, err := url.Parse(conf.Redis.URL); err == nil && u.User != nil {
		c.bad("redis.url", "holds credentials (value withheld)").Hint("put the password in a file with mode 600 and write redis.password: file:PATH")
	}
	if conf.Security.DPoP.ReplayStore == replayRedis && conf.Redis.URL == "" {
		c.bad("security.dpop.replayStore", "redis is not configured").Hint("set redis.url")
	}
	c.mtls(conf)
}

func (c *checks) mtls(conf *Config) {
	m := conf.MTLS
	switch {
	case m.Listen == "" && (m.URL != "" || len(m.Tenants) > 0):
		c.bad("mtls.listen", "is required with the rest of mtls")
	case m.Listen != "" && conf.InsecureHTTP:
		c.bad("mtls.listen", "needs tls, and insecureHttp is on")
	}
	if u, err := url.Parse(m.URL); m.URL != "" && (err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Path != "") {
		c.bad("mtls.url", "want https://HOST:PORT without path")
	}
	seen := map[string]bool{}
	for i, t := range m.Tenants {
		at := fmt.Sprintf("mtls.tenants.%d", i)
		switch {
		case !clients.ValidTenant(t.Tenant) || seen[t.Tenant]:
			c.bad(at+".tenant", "want the id of a tenant, each one time")
		case t.Roots == "":
			c.bad(at+".roots", "is required")
		}
		seen[t.Tenant] = true
	}
}
