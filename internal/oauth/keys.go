package oauth

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/jose"
)

const schemaKeys = "stella.cache.jwks/v1"

// keysRecord is the stored form of the issuer's keys: its own bytes, which are
// judged again whenever they are read.
type keysRecord struct {
	Schema    string          `json:"schema"`
	Issuer    string          `json:"issuer"`
	FetchedAt time.Time       `json:"fetched_at"`
	Keys      json.RawMessage `json:"keys"`
}

func keysName(issuer string) string {
	sum := sha256.Sum256([]byte(schemaKeys + "\x00" + issuer))
	return hex.EncodeToString(sum[:16]) + ".jwks"
}

// Keys returns the keys that the issuer publishes now, and keeps them in the
// cache directory. In offline mode it returns those that were kept last, and
// since when: whether one was revoked since then cannot be known. Errors are
// of the kinds of Discover.
func (c *Client) Keys(ctx context.Context) (set jose.Set, at time.Time, err error) {
	if c.cfg.Offline {
		if set, at, err = c.loadKeys(); err != nil {
			return set, at, fault.Errorf(fault.Offline, "the keys of %s are not at hand (%w), and offline mode is on", c.cfg.Issuer, err).
				Hint("name a file that has them; or leave out --offline")
		}
		return set, at, nil
	}
	md, err := c.Discover(ctx)
	if err != nil {
		return set, at, err
	}
	r, err := climb(ctx, c.ladder, "asking for the keys of "+c.cfg.Issuer, md.JWKSURI, func(ctx context.Context) (*reply, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, md.JWKSURI, nil)
		if err != nil {
			return nil, fault.As(fault.Trust, err)
		}
		return c.send(ctx, req, jose.MaxSetBytes)
	})
	if err != nil {
		return set, at, err
	}
	if r.status != http.StatusOK {
		return set, at, fault.Errorf(fault.Trust, "%s answers %d instead of keys", md.JWKSURI, r.status)
	}
	if set, err = jose.ParseSet(r.body); err != nil {
		return set, at, fault.Errorf(fault.Trust, "%s does not answer with keys: %w", md.JWKSURI, err)
	}
	at = c.cfg.Now().UTC().Truncate(time.Second)
	c.saveKeys(r.body, at)
	return set, at, nil
}

func (c *Client) loadKeys() (set jose.Set, at time.Time, err error) {
	if c.cfg.CacheDir == "" {
		return set, at, fmt.Errorf("there is no cache")
	}
	d, err := openCache(c.cfg.CacheDir, false)
	if err != nil {
		return set, at, err
	}
	defer d.Close()
	data, err := readPrivate(d, keysName(c.cfg.Issuer))
	if err != nil {
		return set, at, err
	}
	if data == nil {
		return set, at, fmt.Errorf("none were kept")
	}
	return parseKeysRecord(data, c.cfg.Issuer)
}

func parseKeysRecord(data []byte, issuer string) (set jose.Set, at time.Time, err error) {
	var r keysRecord
	if err := jose.DecodeStrict(data, &r); err != nil || r.Schema != schemaKeys || r.Issuer != issuer {
		return set, at, fmt.Errorf("not the keys of %q", issuer)
	}
	set, err = jose.ParseSet(r.Keys)
	return set, r.FetchedAt.UTC(), err
}

// saveKeys keeps keys for offline runs; a failure costs them those.
func (c *Client) saveKeys(data []byte, at time.Time) {
	if c.cfg.CacheDir == "" {
		return
	}
	record, err := json.Marshal(keysRecord{schemaKeys, c.cfg.Issuer, at, data})
	if err != nil {
		return
	}
	d, err := openCache(c.cfg.CacheDir, true)
	if err != nil {
		return
	}
	defer d.Close()
	_ = d.Write(keysName(c.cfg.Issuer), record, 0o600)
}
