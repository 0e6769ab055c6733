package oauth

import (
	"context"
	"crypto/ecdsa"
	"net/http"
	"net/url"
	"strings"

	"github.com/stella-ops/stella/internal/fault"
)

// The grants (RFC 6749 sections 4.4 and 6, RFC 8628 section 3.4).
const (
	grantClient  = "client_credentials"
	grantRefresh = "refresh_token"
	grantDevice  = "urn:ietf:params:oauth:grant-type:device_code"
)

// grant asks for a new token by client_credentials (RFC 6749 section 4.4),
// bound to key unless key is nil.
func (c *Client) grant(ctx context.Context, key *ecdsa.PrivateKey) (*Token, error) {
	form := c.wishes()
	form.Set("grant_type", grantClient)
	return c.ask(ctx, form, key, "asking for a token as "+c.cfg.ClientID)
}

// wishes are the parameters that say what is asked for.
func (c *Client) wishes() url.Values {
	form := url.Values{}
	for name, v := range map[string]string{
		"scope": strings.Join(c.cfg.Scopes, " "), "audience": c.cfg.Audience, "tenant": c.cfg.Tenant, "reason": c.cfg.Reason,
	} {
		if v != "" {
			form.Set(name, v)
		}
	}
	return form
}

// ask posts form to the token endpoint until it is answered, and judges the
// answer. what completes the sentence "… : no answer".
func (c *Client) ask(ctx context.Context, form url.Values, key *ecdsa.PrivateKey, what string) (*Token, error) {
	md, err := c.Discover(ctx)
	if err != nil {
		return nil, err
	}
	if err := c.supports(md, form.Get("grant_type")); err != nil {
		return nil, err
	}
	where, err := c.endpoint(md.TokenEndpoint, md.Aliases.TokenEndpoint)
	if err != nil {
		return nil, err
	}
	return climb(ctx, c.ladder, what, where, func(ctx context.Context) (*Token, error) {
		return c.askOnce(ctx, where, form, key, what)
	})
}

// askOnce is one attempt of ask.
func (c *Client) askOnce(ctx context.Context, where string, form url.Values, key *ecdsa.PrivateKey, what string) (*Token, error) {
	if form.Get("grant_type") == grantRefresh {
		// Once it is sent the refresh token may be used up: only its answer has
		// the next one. AttemptTimeout still bounds this.
		ctx = context.WithoutCancel(ctx)
	}
	sent := c.cfg.Now()
	r, err := c.postWithNonce(ctx, where, form, key)
	if err != nil {
		return nil, err
	}
	if r.status != http.StatusOK {
		return nil, c.refusal(r, what)
	}
	if err := r.json(); err != nil {
		return nil, err
	}
	resp, err := parseTokenResponse(r.body)
	if err != nil {
		return nil, fault.Errorf(fault.Trust, "%s does not answer with a token response: %w", r.url, err)
	}
	return c.newToken(resp, key, sent, r.url)
}

// endpoint is alias where the client presents a certificate and the issuer has
// another place for that (RFC 8705 section 5). That may be another port of the
// same host: what is sent there is of no use to another program on it, for the
// key of the certificate never leaves.
func (c *Client) endpoint(plain, alias string) (string, error) {
	if !c.usesCertificate() || alias == "" {
		return plain, nil
	}
	allowed := c.origins[originOf(alias)] || hostsOf(c.origins)[hostOf(alias)]
	return alias, checkEndpoint("mtls_endpoint_aliases", alias, map[string]bool{originOf(alias): allowed})
}
