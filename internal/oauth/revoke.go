package oauth

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/secret"
)

// Revoke asks the issuer to revoke t (RFC 7009), the refresh token before the
// access token, each once and without retries: a logout should not wait for a
// server that is down. An access token that has expired is left out. offered
// is false, with no error, when the issuer has no revocation endpoint.
func (c *Client) Revoke(ctx context.Context, t *Token) (offered bool, err error) {
	if err := c.mayAsk(); err != nil {
		return false, err
	}
	md, err := c.discover(ctx, ladder{events: c.emit}, false)
	if err != nil {
		return false, err
	}
	if md.RevocationEndpoint == "" {
		return false, nil
	}
	where, err := c.endpoint(md.RevocationEndpoint, md.Aliases.RevocationEndpoint)
	if err != nil {
		return false, err
	}
	if !t.RefreshToken.Empty() {
		if err := c.revokeOne(ctx, where, "refresh_token", t.RefreshToken); err != nil {
			return true, err
		}
	}
	if !t.Valid(c.cfg.Now()) {
		return true, nil
	}
	return true, c.revokeOne(ctx, where, "access_token", t.AccessToken)
}

func (c *Client) revokeOne(ctx context.Context, where, hint string, token secret.Bytes) error {
	form := url.Values{"token": {string(token.Reveal())}, "token_type_hint": {hint}}
	r, err := c.post(ctx, where, form, nil)
	if err != nil {
		return fault.As(kindOrTransient(err), fmt.Errorf("revoking a token at %s: %w", where, err))
	}
	if r.status != http.StatusOK {
		return c.refusal(r, "revoking a token")
	}
	return nil
}

func kindOrTransient(err error) fault.Kind {
	if k := fault.KindOf(err); k != fault.Unclassified {
		return k
	}
	return fault.Transient
}
