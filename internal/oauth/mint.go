package oauth

import (
	"context"
	"crypto/ecdsa"

	"github.com/stella-ops/stella/internal/fault"
)

// Mint fetches a token for one use: it is neither taken from the cache nor
// stored there. It is bound to a key that nobody keeps, so that it shows what
// would be granted and is of no other use, unless the client asks for bearer
// tokens.
func (c *Client) Mint(ctx context.Context) (*Token, error) { return c.MintFor(ctx, nil) }

// MintFor is Mint with the token bound to key. A client that asks for bearer
// tokens takes no key.
func (c *Client) MintFor(ctx context.Context, key *ecdsa.PrivateKey) (*Token, error) {
	if err := c.mayAsk(); err != nil {
		return nil, err
	}
	if c.cfg.Device {
		return nil, fault.Errorf(fault.Input, "client %q gets tokens of the person who logged in only, and makes none of its own", c.cfg.ClientID)
	}
	if key != nil && c.cfg.Bearer {
		return nil, fault.Errorf(fault.Input, "a bearer token is bound to no key")
	}
	if key == nil {
		var err error
		if key, err = c.keyFor(nil); err != nil {
			return nil, err
		}
	}
	return c.grant(ctx, key)
}

// keyFor keeps the key of an earlier token, so that a cache entry has one key
// for life; nil for bearer tokens.
func (c *Client) keyFor(earlier *Token) (*ecdsa.PrivateKey, error) {
	switch {
	case c.cfg.Bearer:
		return nil, nil
	case earlier != nil && earlier.key != nil:
		return earlier.key, nil
	}
	return newKey()
}

// static wraps a ready token. Its life is read from it where it is a JWT.
func (c *Client) static() *Token {
	t := &Token{AccessToken: c.cfg.StaticToken, Type: TypeBearer, Issuer: c.cfg.Issuer, ClientID: c.cfg.ClientID}
	if _, claims, err := t.Unverified(); err == nil {
		t.IssuedAt, t.ExpiresAt = claims.IssuedAt, claims.Expiry
		var scope string
		if ok, err := claims.Decode("scope", &scope); ok && err == nil {
			t.Scopes = normalScopes([]string{scope})
		}
	}
	return t
}
