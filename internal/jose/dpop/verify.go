package dpop

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stella-ops/stella/internal/jose"
)

// Verify checks the DPoP header values of one request, r.Header.Values("DPoP"),
// in the order of RFC 9449 section 4.3. Replay is the caller's to check, with
// ReplayKey. Errors wrap ErrInvalidProof, or ErrUseNonce when only the nonce is
// missing or refused; where the proof is not a good JWS they wrap the error of
// package jose too.
func Verify(values []string, c Check) (*Proof, error) {
	if len(values) != 1 || strings.Contains(values[0], ",") {
		return nil, invalid("need exactly one DPoP header with one proof, have %d", len(values))
	}
	j, err := jose.Parse(values[0], jose.Rules{Algs: c.algs(), AllowJWK: true, MaxBytes: MaxProofBytes})
	if err != nil {
		return nil, invalid("%w", err)
	}
	if j.Header.Type != Type {
		return nil, invalid("typ is %q, not %q", j.Header.Type, Type)
	}
	if j.Header.JWK == nil {
		return nil, invalid("header has no jwk")
	}
	payload, err := j.Verify(*j.Header.JWK)
	if err != nil {
		return nil, invalid("%w", err)
	}
	claims, err := jose.ParseClaims(payload)
	if err != nil {
		return nil, invalid("%w", err)
	}
	p := &Proof{Key: *j.Header.JWK, ID: claims.ID, IssuedAt: claims.IssuedAt}
	if p.JKT, err = p.Key.Thumbprint(); err != nil {
		return nil, invalid("%w", err)
	}
	if err := c.judge(p, claims); err != nil {
		return nil, err
	}
	p.ReplayKey = replayKey(p.JKT, p.ID)
	p.ReplayBy = p.IssuedAt.Add(window(c.MaxAge) + window(c.MaxAhead))
	return p, nil
}

// algs are the algorithms accepted; symmetric ones cannot prove possession.
func (c Check) algs() []jose.Alg {
	if len(c.Algs) == 0 {
		return []jose.Alg{jose.ES256, jose.EdDSA}
	}
	for _, a := range c.Algs {
		if strings.HasPrefix(string(a), "HS") {
			return slices.DeleteFunc(slices.Clone(c.Algs), func(a jose.Alg) bool { return strings.HasPrefix(string(a), "HS") })
		}
	}
	return c.Algs
}

func window(d time.Duration) time.Duration {
	if d == 0 {
		return DefaultWindow
	}
	return max(d, 0)
}

// judge holds the claims to the check: RFC 9449 section 4.3, points 3 and 8 to 12.
func (c Check) judge(p *Proof, claims *jose.Claims) error {
	if n := len(p.ID); n == 0 || n > MaxIDBytes {
		return invalid("jti has %d bytes, need 1 to %d", n, MaxIDBytes)
	}
	if p.IssuedAt.IsZero() {
		return invalid("no iat")
	}
	htm, err := required(claims, "htm")
	if err != nil {
		return err
	}
	htu, err := required(claims, "htu")
	if err != nil {
		return err
	}
	if htm != c.Method {
		return invalid("htm is %q, the request's method is %q", htm, c.Method)
	}
	if err := sameURL(htu, c.URL); err != nil {
		return err
	}
	if age := c.Now.Sub(p.IssuedAt); age > window(c.MaxAge) {
		return invalid("iat is %s ago, more than %s", age, window(c.MaxAge))
	} else if -age > window(c.MaxAhead) {
		return invalid("iat is %s ahead, more than %s", -age, window(c.MaxAhead))
	}
	if err := c.judgeToken(claims); err != nil {
		return err
	}
	if c.JKT != "" && p.JKT != c.JKT {
		return invalid("%w: thumbprint %s, need %s", ErrWrongKey, p.JKT, c.JKT)
	}
	var nonce string
	if _, err := claims.Decode("nonce", &nonce); err != nil {
		return invalid("%w", err)
	}
	if c.Nonce != nil {
		if err := c.Nonce(nonce); err != nil {
			return fmt.Errorf("%w: %w", ErrUseNonce, err)
		}
	}
	return nil
}

// judgeToken checks ath, which is read even where no token is to be matched.
func (c Check) judgeToken(claims *jose.Claims) error {
	var ath string
	present, err := claims.Decode("ath", &ath)
	switch {
	case err != nil:
		return invalid("%w", err)
	case c.AccessToken == "":
		return nil
	case !present:
		return invalid("no ath")
	case ath != hash(c.AccessToken):
		return invalid("ath is of another access token")
	}
	return nil
}

func required(claims *jose.Claims, name string) (string, error) {
	var s string
	present, err := claims.Decode(name, &s)
	if err != nil {
		return "", invalid("%w", err)
	}
	if !present || s == "" {
		return "", invalid("no %s", name)
	}
	return s, nil
}

// hash is base64url(SHA-256(s)), the form of ath.
func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// replayDomain separates replay keys from every other hash.
const replayDomain = "stella/dpop/replay/v1"

// replayKey depends on the key and the jti alone: the same proof dressed up
// with another method, URL or time is still the same. A jkt has a fixed length,
// so that two pairs never run together.
func replayKey(jkt, id string) string {
	return hash(replayDomain + "\n" + jkt + "\n" + id)
}
