package authority

import (
	"context"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/stella-ops/stella/internal/authority/clientauth"
	"github.com/stella-ops/stella/internal/authority/lifecycle"
	"github.com/stella-ops/stella/internal/authority/token"
	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/secret"
)

// adopt makes cfg the settings in effect.
func (s *Server) adopt(cfg *Config, sec *secrets) {
	tenants := slices.Clone(cfg.Tenants)
	d := cfg.Security.DPoP
	urls := []string{s.issuer + pathToken}
	if s.mtlsURL != "" {
		urls = append(urls, s.mtlsURL+pathToken)
	}
	s.set.Store(&settings{
		cfg: cfg, secrets: sec,
		token: &token.Settings{
			URLs: urls, RefreshLifetime: cfg.RefreshTokenLifetime.Std(), Skew: cfg.Signing.ClockSkew.Std(),
			ProofAge: d.ProofLifetime.Std(), RequireNonce: d.RequireNonce, NonceAudiences: d.RequireNonceAudiences,
			KnownTenant: func(id string) bool { return len(tenants) == 0 || slices.Contains(tenants, id) },
		},
		auth:    &clientauth.Settings{Audiences: append([]string{s.issuer}, urls...), Skew: cfg.Signing.ClockSkew.Std()},
		rates:   cfg.Security.RateLimiting.rules(),
		proxies: prefixes(cfg.Security.TrustedProxies),
		bypass:  prefixes(cfg.BypassNetworks),
	})
	s.renewNonces()
}

func (s *Server) points() []lifecycle.Point {
	var points []lifecycle.Point
	for _, p := range s.set.Load().cfg.Signing.VantagePoints {
		points = append(points, lifecycle.Point{Name: p.Name, URL: p.URL})
	}
	return points
}

func (s *Server) bootstrapHeader() string    { return s.set.Load().cfg.Bootstrap.Header }
func (s *Server) bootstrapKey() secret.Bytes { return s.set.Load().secrets.bootstrap }

// reload takes in a changed configuration, or refuses it as a whole.
func (s *Server) reload(ctx context.Context) error {
	if s.auditFile != nil { // first: who rotates files does not care about the rest
		if err := s.auditFile.Reopen(ctx); err != nil {
			return err
		}
	}
	if s.deps.Reload == nil {
		return nil
	}
	cfg, err := s.deps.Reload()
	if err != nil {
		return err
	}
	if changed := unreloadable(s.cfg, cfg); len(changed) > 0 {
		return fault.Errorf(fault.Config, "changed, but read at start only: %s", strings.Join(changed, ", ")).
			Hint("restart the service to take it in")
	}
	sec, err := loadSecrets(cfg)
	old := s.set.Load()
	if ref := cfg.Bootstrap.APIKey; err != nil && ref == old.cfg.Bootstrap.APIKey && !rereadable(ref) {
		sec, err = old.secrets, nil
	}
	if err != nil {
		return err
	}
	s.adopt(cfg, sec)
	s.log.InfoContext(ctx, "configuration reloaded")
	return nil
}

// rereadable reports whether a secret can be read a second time.
func rereadable(ref secret.Ref) bool {
	return ref != "stdin" && !strings.HasPrefix(string(ref), "fd:")
}

// unreloadable lists the keys that differ and are read at start only.
func unreloadable(old, now *Config) []string {
	a, b := old.Signing, now.Signing
	a.VantagePoints, b.VantagePoints = nil, nil
	var changed []string
	for _, f := range []struct {
		key      string
		old, now any
	}{
		{"issuer", old.Issuer, now.Issuer},
		{"listen", old.Listen, now.Listen},
		{"insecureHttp", old.InsecureHTTP, now.InsecureHTTP},
		{"replica", old.Replica, now.Replica},
		{"tls", old.TLS, now.TLS},
		{"admin", old.Admin, now.Admin},
		{"mtls", old.MTLS, now.MTLS},
		{"redis", old.Redis, now.Redis},
		{"audit", old.Audit, now.Audit},
		{"security.dpop.replayStore", old.Security.DPoP.ReplayStore, now.Security.DPoP.ReplayStore},
		{"plugins", old.Plugins, now.Plugins},
		{"storage", old.Storage, now.Storage},
		{"signing (other than vantagePoints)", a, b},
	} {
		if !reflect.DeepEqual(f.old, f.now) {
			changed = append(changed, f.key)
		}
	}
	if now.Security.DPoP.ReplayStore == replayRedis && now.Security.DPoP.ProofLifetime > old.Security.DPoP.ProofLifetime {
		changed = append(changed, "security.dpop.proofLifetime (upwards, with replayStore: redis)")
	}
	if now.AccessTokenLifetime > old.AccessTokenLifetime {
		changed = append(changed, "accessTokenLifetime (upwards)")
	}
	return changed
}

// maxLifetime is the longest life that the keyring's timetable counts with.
func (s *Server) maxLifetime() time.Duration {
	if ring := s.keys.Ring(); ring != nil {
		return ring.Policy.TokenLifetime.Duration()
	}
	return 0
}
