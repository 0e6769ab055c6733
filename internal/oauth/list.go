package oauth

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/lock"
)

// Cached tokens are listed across scopes, audiences and tenants, for one
// issuer and one client.

// CachedToken is one token in the cache directory, or a file that should be
// one.
type CachedToken struct {
	*Token        // nil when Damaged is set
	File   string // name in the cache directory

	Requested []string // the scopes that were asked for, sorted
	Damaged   string   // why the file cannot be used
}

// List returns the cached tokens of this client's issuer and client id, the
// one that lives longest first, damaged files last. It writes nothing and opens no socket. A
// missing directory is an empty list; one that others can reach is of kind
// Config.
func (c *Client) List() ([]CachedToken, error) {
	list := []CachedToken{}
	if c.cfg.CacheDir == "" {
		return list, nil
	}
	d, err := openCache(c.cfg.CacheDir, false)
	if errors.Is(err, fs.ErrNotExist) {
		return list, nil
	}
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Names()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if !isTokenName(name) {
			continue
		}
		id, t, damaged, err := readRecord(d, name)
		switch {
		case err != nil:
			return nil, err
		case damaged == nil && t == nil: // gone meanwhile
		case damaged == nil && id.name()+tokenSuffix != name:
			list = append(list, CachedToken{File: name, Damaged: "it is the token of something else"})
		case damaged != nil:
			list = append(list, CachedToken{File: name, Damaged: damaged.Error()})
		case id.Issuer == c.cfg.Issuer && id.ClientID == c.cfg.ClientID:
			list = append(list, CachedToken{Token: t, File: name, Requested: id.Requested})
		}
	}
	slices.SortFunc(list, func(a, b CachedToken) int {
		if a.Token == nil || b.Token == nil {
			if a.Token == b.Token {
				return strings.Compare(a.File, b.File)
			}
			return map[bool]int{true: 1, false: -1}[a.Token == nil]
		}
		if n := b.ExpiresAt.Compare(a.ExpiresAt); n != 0 {
			return n
		}
		return strings.Compare(a.File, b.File)
	})
	return list, nil
}

// Sweep removes what crashed writers left in the cache directory: it may hold
// tokens. A live writer needs far less than a minute.
func (c *Client) Sweep() error {
	if c.cfg.CacheDir == "" {
		return nil
	}
	d, err := openCache(c.cfg.CacheDir, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sweep(time.Minute)
}

// Locked calls do with the entry of t as it is now (nil: gone), while no other
// process refreshes it.
func (c *Client) Locked(ctx context.Context, t CachedToken, do func(*Token) error) error {
	d, err := openCache(c.cfg.CacheDir, false)
	if err != nil {
		return err
	}
	defer d.Close()
	held, err := lock.Acquire(ctx, filepath.Join(d.Path(), strings.TrimSuffix(t.File, tokenSuffix)+".lock"), "stella, logging out", c.cfg.LockWait)
	if err != nil {
		return err
	}
	defer func() { _ = held.Release() }()
	_, now, _, err := readRecord(d, t.File)
	if err != nil {
		return err
	}
	return do(now)
}

// Forget removes one cached token.
func (c *Client) Forget(t CachedToken) error {
	d, err := openCache(c.cfg.CacheDir, false)
	if err != nil {
		return err
	}
	defer d.Close()
	if !isTokenName(t.File) {
		return fault.Errorf(fault.Unclassified, "internal error: %q is no token file", t.File)
	}
	if err := d.Remove(t.File); err != nil {
		return fmt.Errorf("dropping a cached token: %w", err)
	}
	return nil
}
