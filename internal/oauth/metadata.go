package oauth

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stella-ops/stella/internal/fault"
)

// Metadata is what an issuer says about itself (RFC 8414, OpenID Connect
// Discovery 1.0).
type Metadata struct {
	Issuer             string
	TokenEndpoint      string
	JWKSURI            string
	RevocationEndpoint string // empty when not offered
	DeviceEndpoint     string // empty when not offered (RFC 8628 section 4)
	Aliases            Aliases
	AuthMethods        []string
	GrantTypes         []string
	DPoPAlgs           []string
	Scopes             []string

	FetchedAt time.Time
	Life      time.Duration // how long it may be used without asking again

	raw []byte
}

// Aliases are endpoints for clients that present a certificate (RFC 8705
// section 5); an empty one is where it is for all others. They are judged when
// they are used.
type Aliases struct {
	TokenEndpoint      string
	RevocationEndpoint string
	DeviceEndpoint     string
}

// wellKnown is where the metadata of issuer is (OpenID Connect Discovery 1.0
// section 4.1).
func wellKnown(issuer string) string {
	return strings.TrimSuffix(issuer, "/") + "/.well-known/openid-configuration"
}

// parseMetadata reads metadata that must come from issuer; origins are those
// on which its endpoints may lie. Every refusal is of kind Trust.
func parseMetadata(data []byte, issuer string, origins map[string]bool) (*Metadata, error) {
	where := wellKnown(issuer)
	m, err := parseMembers(data)
	if err != nil {
		return nil, fault.Errorf(fault.Trust, "%s does not answer with metadata: %w", where, err)
	}
	md := &Metadata{raw: data}
	var aliases members
	err = m.all(map[string]any{
		"issuer": &md.Issuer, "token_endpoint": &md.TokenEndpoint, "jwks_uri": &md.JWKSURI,
		"revocation_endpoint": &md.RevocationEndpoint, "grant_types_supported": &md.GrantTypes,
		"device_authorization_endpoint": &md.DeviceEndpoint, "mtls_endpoint_aliases": &aliases,
		"token_endpoint_auth_methods_supported": &md.AuthMethods,
		"dpop_signing_alg_values_supported":     &md.DPoPAlgs, "scopes_supported": &md.Scopes,
	})
	if err == nil {
		err = aliases.all(map[string]any{
			"token_endpoint": &md.Aliases.TokenEndpoint, "revocation_endpoint": &md.Aliases.RevocationEndpoint,
			"device_authorization_endpoint": &md.Aliases.DeviceEndpoint,
		})
	}
	if err != nil {
		return nil, fault.Errorf(fault.Trust, "%s does not answer with metadata: %w", where, err)
	}
	if md.Issuer != issuer {
		// RFC 8414 section 3.3: the values must be identical, to the slash.
		return nil, fault.Errorf(fault.Trust, "discovery at %s names another issuer: %.200q instead of %q", where, md.Issuer, issuer).
			Hint("if that is the Authority you mean, set authority.url to exactly what it names")
	}
	return md, md.checkEndpoints(origins)
}

// checkEndpoints judges every endpoint that a credential could be sent to.
func (md *Metadata) checkEndpoints(origins map[string]bool) error {
	for _, e := range []struct {
		name, url string
		required  bool
	}{
		{"token_endpoint", md.TokenEndpoint, true},
		{"jwks_uri", md.JWKSURI, true},
		{"revocation_endpoint", md.RevocationEndpoint, false},
		{"device_authorization_endpoint", md.DeviceEndpoint, false},
	} {
		if e.url == "" && !e.required {
			continue
		}
		if err := checkEndpoint(e.name, e.url, origins); err != nil {
			return err
		}
	}
	return nil
}

// checkEndpoint refuses an endpoint that would carry a credential elsewhere.
func checkEndpoint(name, raw string, origins map[string]bool) error {
	if raw == "" {
		return fault.Errorf(fault.Trust, "the metadata has no %s", name)
	}
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" {
		return fault.Errorf(fault.Trust, "the metadata's %s is not a plain absolute URL", name)
	}
	if err := checkScheme(u); err != nil {
		return fault.Errorf(fault.Trust, "the metadata's %s: %w", name, err)
	}
	if !origins[originOf(raw)] {
		return fault.Errorf(fault.Trust, "the metadata's %s lies on another origin, %s", name, originOf(raw))
	}
	return nil
}

// supports refuses early what the issuer says it does not do. A list that is
// absent forbids nothing.
func (c *Client) supports(md *Metadata, grant string) error {
	lacks := func(list []string, v string) bool { return len(list) > 0 && !slices.Contains(list, v) }
	switch {
	case lacks(md.GrantTypes, grant):
		return fault.Errorf(fault.Config, "%s does not offer the grant %s", md.Issuer, grant)
	case c.cfg.Credential != nil && lacks(md.AuthMethods, c.cfg.Credential.Method()):
		return fault.Errorf(fault.Config, "%s does not offer %s; it offers %.200q", md.Issuer, c.cfg.Credential.Method(), md.AuthMethods)
	case !c.cfg.Bearer && lacks(md.DPoPAlgs, "ES256"):
		return fault.Errorf(fault.Config, "%s does not take DPoP proofs signed with ES256; it takes %.200q", md.Issuer, md.DPoPAlgs)
	}
	return nil
}

// metadataLife reads the life of an answer from Cache-Control; no-store and
// no-cache mean zero.
func metadataLife(h http.Header) time.Duration {
	life := DefaultMetadataLife
	for _, part := range strings.Split(h.Get("Cache-Control"), ",") {
		name, value, _ := strings.Cut(strings.ToLower(strings.TrimSpace(part)), "=")
		switch name {
		case "no-store", "no-cache":
			return 0
		case "max-age":
			if n, err := strconv.Atoi(strings.Trim(value, `"`)); err == nil && n >= 0 {
				life = min(time.Duration(min(n, 86400))*time.Second, time.Hour)
			}
		}
	}
	return life
}
