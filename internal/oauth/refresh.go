package oauth

import (
	"context"
	"net/url"
	"time"

	"github.com/stella-ops/stella/internal/durable"
	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/secret"
)

// renew gets the token that follows last: by its refresh token where it has
// one, else by client_credentials. A person who is not logged in has neither.
// keep stores a token durably, and is called before that token is returned:
// a refresh token that was rotated and not kept is lost, and its use would
// look like theft (RFC 9700 section 4.14.2).
func (c *Client) renew(ctx context.Context, last *Token, keep func(*Token) error) (*Token, error) {
	if !c.cfg.Device {
		key, err := c.keyFor(last)
		if err != nil {
			return nil, err
		}
		fresh, err := c.grant(ctx, key)
		if err != nil {
			return nil, err
		}
		return fresh, keep(fresh)
	}
	if last == nil || last.RefreshToken.Empty() {
		return nil, fault.Errorf(fault.Denied, "nobody is logged in to %s as client %q", c.cfg.Issuer, c.cfg.ClientID).
			Hint("stella auth login")
	}
	fresh, err := c.refreshGrant(ctx, last)
	if ErrorCode(err) == "invalid_grant" {
		ended := *last
		ended.RefreshToken, ended.RefreshUntil = secret.Bytes{}, time.Time{}
		if err := keep(&ended); err != nil {
			c.warn(c.cfg.Issuer, "the refresh token is refused and could not be dropped: %v", err)
		}
		return nil, c.clockHint(fault.Errorf(fault.Denied, "the login has ended: %w", err).Hint("log in again: stella auth login"))
	}
	if err != nil {
		return nil, err
	}
	return fresh, keep(fresh)
}

// refreshGrant uses the refresh token of last (RFC 6749 section 6), with the
// key that it is bound to.
func (c *Client) refreshGrant(ctx context.Context, last *Token) (*Token, error) {
	form := url.Values{"grant_type": {grantRefresh}, "refresh_token": {string(last.RefreshToken.Reveal())}}
	fresh, err := c.ask(ctx, form, last.key, "refreshing the token of "+c.cfg.ClientID)
	if err != nil {
		return nil, err
	}
	if fresh.RefreshToken.Empty() { // it stays as it was
		fresh.RefreshToken, fresh.RefreshUntil = last.RefreshToken, last.RefreshUntil
	}
	return fresh, nil
}

// keeper stores tokens in d; without one they are kept in memory only.
func (c *Client) keeper(d *durable.Dir) func(*Token) error {
	return func(t *Token) error {
		if d == nil {
			c.token = t
			return nil
		}
		return c.saveToken(d, t)
	}
}
