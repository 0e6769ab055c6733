package oauth

import (
	"context"
	"net/http"

	"github.com/stella-ops/stella/internal/fault"
)

// Discover returns the issuer's metadata: from memory or the cache directory
// while it lives, else from the issuer. While the issuer is down, metadata
// that has outlived its life by less than DefaultOffline still serves, with a
// warning.
func (c *Client) Discover(ctx context.Context) (*Metadata, error) {
	return c.discover(ctx, c.ladder, false)
}

// Rediscover asks the issuer even when the metadata at hand is fresh.
func (c *Client) Rediscover(ctx context.Context) (*Metadata, error) {
	return c.discover(ctx, c.ladder, true)
}

func (c *Client) discover(ctx context.Context, l ladder, always bool) (*Metadata, error) {
	if err := enter(ctx, c.metaSem); err != nil {
		return nil, err
	}
	defer leave(c.metaSem)
	if c.metadata == nil {
		c.metadata = c.loadMetadata()
	}
	have, now := c.metadata, c.cfg.Now()
	age := DefaultOffline
	if have != nil {
		age = now.Sub(have.FetchedAt) - have.Life
	}
	// A life that lies in the future was stamped by a clock gone wrong.
	if have != nil && !always && age < 0 && !have.FetchedAt.After(now) {
		return have, nil
	}
	md, err := c.fetchMetadata(ctx, l)
	if err == nil {
		c.metadata = md
		c.saveMetadata(md)
		return md, nil
	}
	kind := fault.KindOf(err)
	if have != nil && !always && age < DefaultOffline && (kind == fault.Transient || kind == fault.Offline) {
		if kind == fault.Transient {
			c.warn(wellKnown(c.cfg.Issuer), "%s does not answer; using its metadata of %s", c.cfg.Issuer, have.FetchedAt.UTC().Format("15:04:05Z"))
		}
		return have, nil
	}
	return nil, err
}

func (c *Client) fetchMetadata(ctx context.Context, l ladder) (*Metadata, error) {
	where := wellKnown(c.cfg.Issuer)
	if c.cfg.Offline {
		return nil, offlineError(where)
	}
	return climb(ctx, l, "asking "+c.cfg.Issuer+" for its metadata", where, func(ctx context.Context) (*Metadata, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, where, nil)
		if err != nil {
			return nil, fault.As(fault.Config, err)
		}
		req.Header.Set("Accept", "application/json")
		r, err := c.send(ctx, req, maxMetadataBytes)
		if err != nil {
			return nil, err
		}
		if r.status == http.StatusNotFound || r.status == http.StatusGone {
			return nil, fault.Errorf(fault.NotFound, "%s answers %d: no Authority is there", where, r.status).
				Hint("check authority.url: stella config show --origin")
		}
		if r.status != http.StatusOK {
			return nil, fault.Errorf(fault.Unclassified, "%s answers %d", where, r.status)
		}
		if err := r.json(); err != nil {
			return nil, err
		}
		md, err := parseMetadata(r.body, c.cfg.Issuer, c.origins)
		if err != nil {
			return nil, err
		}
		md.FetchedAt, md.Life = c.cfg.Now().UTC(), metadataLife(r.header)
		return md, nil
	})
}

// enter takes a semaphore unless ctx ends first.
func enter(ctx context.Context, sem chan struct{}) error {
	select {
	case sem <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func leave(sem chan struct{}) { <-sem }
