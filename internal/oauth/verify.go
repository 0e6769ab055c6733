package oauth

import (
	"context"
	"errors"
	"slices"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/jose/jwks"
)

// Verified is a token whose signature was checked against the issuer's keys.
type Verified struct {
	Header jose.Header
	Claims *jose.Claims
}

// Verify checks a token against the issuer's published keys: signature,
// issuer, times, audience and binding. It is what a relying service would do,
// so that an operator can see what such a service sees. An opaque token, a
// wrong one and an expired one are of kind Trust.
func (c *Client) Verify(ctx context.Context, t *Token) (*Verified, error) {
	jws, claims, err := t.Unverified()
	if err != nil {
		return nil, fault.Errorf(fault.Trust, "the token is not a JWT that can be verified: %w", err)
	}
	if c.cfg.Offline {
		return nil, offlineError(c.cfg.Issuer)
	}
	md, err := c.Discover(ctx)
	if err != nil {
		return nil, err
	}
	remote := jwks.New(md.JWKSURI, jwks.Options{Client: c.http, RetryDelays: c.ladder.delays, Now: c.cfg.Now})
	key, err := remote.Key(ctx, jws.Header.KeyID)
	if errors.Is(err, jwks.ErrUnknownKey) {
		return nil, fault.Errorf(fault.Trust, "the token is signed by key %.80q, which %s does not publish", jws.Header.KeyID, md.JWKSURI).
			Hint("the key may have been revoked; get a new token: stella auth login --force")
	}
	if err != nil {
		return nil, fault.As(kindOrTransient(err), err)
	}
	if _, err := jws.Verify(key); err != nil {
		return nil, fault.Errorf(fault.Trust, "the token does not verify under key %.80q: %w", jws.Header.KeyID, err)
	}
	if claims.Issuer != c.cfg.Issuer {
		return nil, fault.Errorf(fault.Trust, "the token's issuer is %.200q, not %q", claims.Issuer, c.cfg.Issuer)
	}
	if err := claims.ValidAt(c.cfg.Now(), c.cfg.ClockTolerance); err != nil {
		return nil, c.clockHint(fault.Errorf(fault.Trust, "the token is not valid now: %w", err))
	}
	if t.Audience != "" && !slices.Contains(claims.Audience, t.Audience) {
		return nil, fault.Errorf(fault.Trust, "the token is meant for %.200q, not for %q", claims.Audience, t.Audience)
	}
	if err := t.checkBinding(md.TokenEndpoint); err != nil {
		return nil, err
	}
	return &Verified{jws.Header, claims}, nil
}
