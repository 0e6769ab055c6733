package optok

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/stella-ops/stella/internal/jose"
)

// token checks the token itself: everything but its sender.
func (v *Verifier) token(ctx context.Context, token string, bound bool, now time.Time) (*Principal, error) {
	algs := v.Algs
	if len(algs) == 0 {
		algs = []jose.Alg{jose.ES256, jose.EdDSA}
	}
	j, err := jose.Parse(token, jose.Rules{Algs: algs, Types: []string{"at+jwt"}})
	if err != nil {
		return nil, invalidToken(bound, "the token is malformed or of the wrong kind", err)
	}
	key, err := v.key(ctx, j.Header.KeyID, bound)
	if err != nil {
		return nil, err
	}
	payload, err := j.Verify(key)
	if err != nil {
		return nil, invalidToken(bound, "the signature does not verify", err)
	}
	claims, err := jose.ParseClaims(payload)
	if err != nil {
		return nil, invalidToken(bound, "the claims are malformed", err)
	}
	p := &Principal{
		Subject: claims.Subject, TokenID: claims.ID, KID: j.Header.KeyID,
		IssuedAt: claims.IssuedAt, Expiry: claims.Expiry,
	}
	if why := v.judge(claims, p, now); why != "" {
		return nil, invalidToken(bound, why, nil)
	}
	return p, nil
}

// judge checks verified claims and completes p; it returns why not, or "".
func (v *Verifier) judge(c *jose.Claims, p *Principal, now time.Time) string {
	switch {
	case c.Issuer == "" || c.Issuer != v.Issuer:
		return "the token is of another issuer"
	case v.Audience == "" || !slices.Contains(c.Audience, v.Audience):
		return "the token is for another audience"
	case c.Subject == "" || c.ID == "" || c.IssuedAt.IsZero() || c.Expiry.IsZero():
		return "a required claim is missing"
	}
	if err := c.ValidAt(now, v.Skew); err != nil {
		return "the token is expired or not yet valid"
	}
	if ok, err := c.Decode("client_id", &p.ClientID); err != nil || !ok || p.ClientID == "" {
		return "client_id is missing"
	}
	ok := false
	if p.Scopes, ok = scopes(c); !ok {
		return "the scopes are malformed"
	}
	if p.JKT, p.X5T, ok = binding(c); !ok {
		return "the token is bound in a way that is not understood"
	}
	var act struct {
		Subject string `json:"sub"`
	}
	if _, err := c.Decode("act", &act); err != nil {
		return "act is malformed"
	}
	p.Actor = act.Subject
	found, err := c.Decode("stellaops:tenant", &p.Tenant)
	if err == nil && !found {
		_, err = c.Decode("tid", &p.Tenant)
	}
	var allowed string
	if err == nil {
		_, err = c.Decode("stellaops:allowed_tenants", &allowed)
	}
	if err != nil {
		return "the tenant is malformed"
	}
	p.AllowedTenants = strings.Fields(allowed)
	return ""
}

// scopes reads scope (text) and scp (list, or text as some issuers write it).
func scopes(c *jose.Claims) ([]string, bool) {
	var all []string
	for _, name := range []string{"scope", "scp"} {
		raw, ok := c.Raw[name]
		if !ok {
			continue
		}
		var text string
		var list []string
		if json.Unmarshal(raw, &text) == nil {
			list = strings.Fields(text)
		} else if json.Unmarshal(raw, &list) != nil {
			return nil, false
		}
		all = append(all, list...)
	}
	slices.Sort(all)
	return slices.Compact(all), true
}
