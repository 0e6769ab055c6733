package jose

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/stella-ops/stella/internal/jose/strictjson"
)

// MaxClaimsBytes bounds a claims set.
const MaxClaimsBytes = 64 << 10

// maxDate is 2200-01-01: a later NumericDate is a mistake (milliseconds, mostly).
const maxDate = 7258118400

// Claims is a strictly parsed JWT claims set: no duplicate names, NumericDate
// whole seconds above 0 and before the year 2200.
type Claims struct {
	Issuer    string
	Subject   string
	Audience  []string
	Expiry    time.Time // zero when absent, likewise below; UTC
	NotBefore time.Time
	IssuedAt  time.Time
	ID        string
	Raw       map[string]json.RawMessage
}

// ParseClaims parses a JWT payload (RFC 7519 section 4) of at most
// MaxClaimsBytes. NumericDates must be plain integers: no fraction, exponent,
// sign or quotes. Errors wrap ErrMalformed or ErrTooLarge.
func ParseClaims(payload []byte) (*Claims, error) {
	if len(payload) > MaxClaimsBytes {
		return nil, tooLarge("claims set", len(payload), MaxClaimsBytes)
	}
	list, err := strictjson.Members(payload)
	if err != nil {
		return nil, fmt.Errorf("claims: %w", err)
	}
	c := &Claims{Raw: make(map[string]json.RawMessage, len(list))}
	for _, m := range list {
		c.Raw[m.Name] = m.Raw
		if err := c.add(m); err != nil {
			return nil, fmt.Errorf("claims: %w", err)
		}
	}
	return c, nil
}

func (c *Claims) add(m strictjson.Member) (err error) {
	switch m.Name {
	case "iss":
		c.Issuer, err = strictjson.Text(m.Name, m.Raw)
	case "sub":
		c.Subject, err = strictjson.Text(m.Name, m.Raw)
	case "jti":
		c.ID, err = strictjson.Text(m.Name, m.Raw)
	case "aud":
		if m.Raw[0] == '[' {
			c.Audience, err = strictjson.Texts(m.Name, m.Raw)
			break
		}
		var s string
		s, err = strictjson.Text(m.Name, m.Raw)
		c.Audience = []string{s}
	case "exp":
		c.Expiry, err = numericDate(m)
	case "nbf":
		c.NotBefore, err = numericDate(m)
	case "iat":
		c.IssuedAt, err = numericDate(m)
	}
	return err
}

func numericDate(m strictjson.Member) (time.Time, error) {
	n, err := strconv.ParseInt(string(m.Raw), 10, 64)
	if err != nil || n <= 0 || n >= maxDate {
		return time.Time{}, malformed("%q is not a time in whole seconds between 1970 and 2200", m.Name)
	}
	return time.Unix(n, 0).UTC(), nil
}

// Decode unmarshals one claim into v as DecodeStrict does; false when absent.
func (c *Claims) Decode(name string, v any) (bool, error) {
	raw, ok := c.Raw[name]
	if !ok {
		return false, nil
	}
	if p, ok := v.(*string); ok { // the hot path of token servers
		s, err := strictjson.Text(name, raw)
		*p = s
		return true, err
	}
	if err := DecodeStrict(raw, v); err != nil {
		return true, fmt.Errorf("claim %q: %w", name, err)
	}
	return true, nil
}

// ValidAt checks exp (required), nbf and iat against now with the allowed skew:
// valid while nbf-skew <= now < exp+skew and iat-skew <= now. Errors wrap
// ErrMalformed when exp is absent, else ErrExpired or ErrNotYet.
func (c *Claims) ValidAt(now time.Time, skew time.Duration) error {
	switch {
	case c.Expiry.IsZero():
		return malformed("claims: no exp")
	case !now.Before(c.Expiry.Add(skew)):
		return fmt.Errorf("%w at %s", ErrExpired, c.Expiry.Format(time.RFC3339))
	case now.Add(skew).Before(c.NotBefore):
		return fmt.Errorf("%w: nbf is %s", ErrNotYet, c.NotBefore.Format(time.RFC3339))
	case now.Add(skew).Before(c.IssuedAt):
		return fmt.Errorf("%w: iat is %s", ErrNotYet, c.IssuedAt.Format(time.RFC3339))
	}
	return nil
}
