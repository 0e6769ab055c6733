package oauth

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/stella-ops/stella/internal/fault"
)

// Revoke asks the issuer to revoke t (RFC 7009), once and without retries: a
// logout should not wait for a server that is down. offered is false, with no
// error, when the issuer has no revocation endpoint.
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
	form := url.Values{"token": {string(t.AccessToken.Reveal())}, "token_type_hint": {"access_token"}}
	r, err := c.post(ctx, md.RevocationEndpoint, form, nil)
	if err != nil {
		return true, fault.As(kindOrTransient(err), fmt.Errorf("revoking a token at %s: %w", md.RevocationEndpoint, err))
	}
	if r.status != http.StatusOK {
		return true, c.refusal(r, "revoking a token")
	}
	return true, nil
}

func kindOrTransient(err error) fault.Kind {
	if k := fault.KindOf(err); k != fault.Unclassified {
		return k
	}
	return fault.Transient
}
