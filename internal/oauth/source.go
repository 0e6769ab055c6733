package oauth

import (
	"context"
	"path/filepath"
	"time"

	"github.com/stella-ops/stella/internal/durable"
	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/lock"
	"github.com/stella-ops/stella/internal/secret"
)

// Token returns a token that is good for a while: from memory, from the cache
// directory, else from the Authority. When a refresh fails in passing while
// the last good token is still valid, that one is returned, with a warning.
// Errors are of kind Denied (the Authority refuses the client), Transient
// (down, after the retries), Trust (the answer cannot be trusted), Offline,
// Config, or Locked (another process has been refreshing for too long).
func (c *Client) Token(ctx context.Context) (*Token, error) {
	return c.obtain(ctx, nil)
}

// Login returns a fresh token even when the one at hand is good, after having
// asked the issuer for its metadata anew. What is cached stays as it was if
// that fails. A person logs in by Device instead.
func (c *Client) Login(ctx context.Context) (*Token, error) {
	if err := c.mayAsk(); err != nil {
		return nil, err
	}
	if _, err := c.Rediscover(ctx); err != nil {
		return nil, err
	}
	have, err := c.Cached()
	if err != nil {
		return nil, err
	}
	if have == nil {
		if err := enter(ctx, c.tokenSem); err != nil {
			return nil, err
		}
		have = c.token
		leave(c.tokenSem)
	}
	return c.obtain(ctx, have)
}

// Cached returns the token in the cache directory, expired or not, without
// touching the network; nil when there is none.
func (c *Client) Cached() (*Token, error) {
	if !c.cfg.StaticToken.Empty() {
		return c.static(), nil
	}
	return c.loadToken()
}

func (c *Client) mayAsk() error {
	switch {
	case !c.cfg.StaticToken.Empty():
		return fault.Errorf(fault.Input, "a ready token is set, so none is asked for").Hint("unset STELLA_TOKEN")
	case c.cfg.Offline:
		return offlineError(c.cfg.Issuer)
	}
	return c.needClient()
}

func (c *Client) needClient() error {
	if c.cfg.ClientID == "" {
		return fault.Errorf(fault.Config, "no client is configured for %s", c.cfg.Issuer).
			Hint("set auth.client_id and auth.client_secret (a reference: %s)", secret.Schemes)
	}
	return nil
}

// obtain returns a token other than unwanted (nil: any good one).
func (c *Client) obtain(ctx context.Context, unwanted *Token) (*Token, error) {
	if !c.cfg.StaticToken.Empty() {
		return c.static(), nil
	}
	if err := c.needClient(); err != nil {
		return nil, err
	}
	if err := enter(ctx, c.tokenSem); err != nil {
		return nil, err
	}
	defer leave(c.tokenSem)
	if c.good(c.token, unwanted) {
		return c.token, nil
	}
	stored, err := c.loadToken()
	if err != nil {
		return nil, err
	}
	if c.good(stored, unwanted) {
		c.token = stored
		return stored, nil
	}
	if c.token == nil {
		c.token = stored
	}
	now := c.cfg.Now()
	if last := c.token; unwanted == nil && last != nil && last.Valid(now) && now.Before(c.pauseTo) {
		return last, nil
	}
	fresh, err := c.refresh(ctx, unwanted)
	if err == nil {
		c.token = fresh
		return fresh, nil
	}
	last := c.token
	if unwanted != nil || last == nil || !last.Valid(c.cfg.Now()) || !passes(err) {
		return nil, err
	}
	if c.cfg.Offline {
		return last, nil
	}
	c.pauseTo = c.cfg.Now().Add(refreshPause)
	c.warn(c.cfg.Issuer, "keeping the token that expires at %s; refreshing it: %v", last.ExpiresAt.Format(time.RFC3339), err)
	return last, nil
}

// good reports whether t needs no refresh and is not the one to replace.
func (c *Client) good(t, unwanted *Token) bool {
	if t == nil || t.due(c.cfg.Now()) {
		return false
	}
	return unwanted == nil || string(t.AccessToken.Reveal()) != string(unwanted.AccessToken.Reveal())
}

// passes reports whether err says nothing against the last good token.
func passes(err error) bool {
	switch fault.KindOf(err) {
	case fault.Transient, fault.Offline, fault.Locked:
		return true
	}
	return false
}

// refresh gets a new token, as the only process that does so for this cache
// entry. A process that comes second takes what the first one stored.
func (c *Client) refresh(ctx context.Context, unwanted *Token) (*Token, error) {
	if c.cfg.Offline {
		return nil, offlineError(c.cfg.Issuer)
	}
	if c.cfg.CacheDir == "" {
		return c.renew(ctx, c.token, c.keeper(nil))
	}
	var fresh *Token
	err := c.withEntry(ctx, func(d *durable.Dir) error {
		stored, err := c.loadToken()
		if err != nil {
			return err
		}
		if c.good(stored, unwanted) {
			fresh = stored
			return nil
		}
		if stored != nil && !stored.RefreshToken.Empty() {
			// What cannot be stored must not be asked for: the answer uses up
			// the refresh token.
			if err := c.saveToken(d, stored); err != nil {
				return err
			}
		}
		fresh, err = c.renew(ctx, stored, c.keeper(d))
		return err
	})
	return fresh, err
}

// withEntry calls do with the cache directory, while no other process changes
// this client's entry in it.
func (c *Client) withEntry(ctx context.Context, do func(*durable.Dir) error) error {
	d, err := openCache(c.cfg.CacheDir, true)
	if err != nil {
		return err
	}
	defer d.Close()
	held, err := lock.Acquire(ctx, filepath.Join(d.Path(), c.identity().name()+".lock"), "stella, refreshing a token", c.cfg.LockWait)
	if err != nil {
		return err
	}
	defer func() { _ = held.Release() }()
	return do(d)
}
