package oauth

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/jose/dpop"
	"github.com/stella-ops/stella/internal/secret"
)

// The token types (RFC 6750, RFC 9449).
const (
	TypeDPoP   = "DPoP"
	TypeBearer = "Bearer"
)

// Token is an access token and what is known about it. Printing it shows no
// secret.
type Token struct {
	AccessToken secret.Bytes
	Type        string // TypeDPoP or TypeBearer
	Issuer      string
	ClientID    string
	Audience    string
	Tenant      string
	Scopes      []string // granted, sorted
	IssuedAt    time.Time
	ExpiresAt   time.Time // by the local clock; zero: not known (a static token)
	JKT         string    // thumbprint of the key it is bound to (RFC 9449); empty without one
	X5T         string    // x5t#S256 of the certificate it is bound to (RFC 8705); empty without one
	FromCache   bool      // taken from the cache directory, not fetched by this process

	RefreshToken secret.Bytes // RFC 6749 section 1.5; empty: none
	RefreshUntil time.Time    // its end; zero: there is none, or its end is not known

	key   *ecdsa.PrivateKey // proves possession; nil without a DPoP key
	proof *dpop.Prover
}

// Refreshable reports whether t comes with a refresh token that has not ended
// at now, as far as that is known.
func (t *Token) Refreshable(now time.Time) bool {
	return !t.RefreshToken.Empty() && (t.RefreshUntil.IsZero() || now.Before(t.RefreshUntil))
}

// Valid reports whether t has not expired at now.
func (t *Token) Valid(now time.Time) bool {
	return t.ExpiresAt.IsZero() || now.Before(t.ExpiresAt)
}

// refreshMargin is how long before its end a token with the given life is
// replaced: a tenth of the life, at least 10 s, but never more than half.
func refreshMargin(life time.Duration) time.Duration {
	return min(max(life/10, 10*time.Second), life/2)
}

// due reports whether t should be replaced at now. A token from the future
// was stamped by a clock gone wrong.
func (t *Token) due(now time.Time) bool {
	if t.ExpiresAt.IsZero() {
		return false
	}
	life := t.ExpiresAt.Sub(t.IssuedAt)
	return t.IssuedAt.After(now.Add(time.Minute)) || t.ExpiresAt.Sub(now) <= refreshMargin(life)
}

// newKey makes the key that one cache entry is bound to for all its tokens.
func newKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making a DPoP key: %w", err)
	}
	return key, nil
}

// bind gives t its key.
func (t *Token) bind(key *ecdsa.PrivateKey) error {
	p, err := dpop.NewProver(key)
	if err != nil {
		return fmt.Errorf("making a DPoP prover: %w", err)
	}
	t.key, t.proof, t.JKT = key, p, p.Thumbprint()
	return nil
}

// newToken judges a token response: what was asked for must be what came.
func (c *Client) newToken(r *tokenResponse, key *ecdsa.PrivateKey, sent time.Time, url string) (*Token, error) {
	want := TypeDPoP
	if c.cfg.Bearer {
		want = TypeBearer
	}
	if !strings.EqualFold(r.tokenType, want) {
		return nil, fault.Errorf(fault.Trust, "a %s token was asked for, and %s answers with token_type %.40q", want, url, r.tokenType)
	}
	t := &Token{
		AccessToken: secret.New([]byte(r.accessToken)), Type: want,
		Issuer: c.cfg.Issuer, ClientID: c.cfg.ClientID, Audience: c.cfg.Audience, Tenant: c.cfg.Tenant,
		Scopes: r.scopes, IssuedAt: sent.UTC().Truncate(time.Second), ExpiresAt: sent.UTC().Add(r.life).Truncate(time.Second),
	}
	if r.scopes == nil {
		t.Scopes = c.cfg.Scopes
	}
	if r.refreshToken != "" {
		t.RefreshToken = secret.New([]byte(r.refreshToken))
		if r.refreshLife > 0 {
			t.RefreshUntil = sent.UTC().Add(r.refreshLife).Truncate(time.Second)
		}
	}
	var err error
	if t.X5T, err = c.certificate(); err != nil {
		return nil, err
	}
	if key != nil {
		if err := t.bind(key); err != nil {
			return nil, err
		}
	}
	if err := t.checkBinding(url); err != nil {
		return nil, err
	}
	var missing []string
	for _, s := range c.cfg.Scopes {
		if !slices.Contains(t.Scopes, s) {
			missing = append(missing, s)
		}
	}
	if len(missing) > 0 {
		c.warn(url, "the Authority did not grant %s", strings.Join(missing, " "))
	}
	return t, nil
}

// checkBinding looks into a token that is a JWT: it must name the key, and the
// certificate, that it was asked to be bound to. An opaque token cannot be
// looked into.
func (t *Token) checkBinding(url string) error {
	_, claims, err := t.Unverified()
	if err != nil || t.JKT == "" && t.X5T == "" {
		return nil
	}
	var cnf struct {
		JKT string `json:"jkt"`
		X5T string `json:"x5t#S256"`
	}
	_, err = claims.Decode("cnf", &cnf)
	switch {
	case t.JKT != "" && (err != nil || cnf.JKT != t.JKT):
		return fault.Errorf(fault.Trust, "%s says the token is bound to our key, but its cnf.jkt is %.60q instead of %q", url, cnf.JKT, t.JKT)
	case t.X5T != "" && (err != nil || cnf.X5T != t.X5T):
		return fault.Errorf(fault.Trust, "the token of %s is not bound to our certificate: its cnf.x5t#S256 is %.60q instead of %q", url, cnf.X5T, t.X5T)
	}
	return nil
}

// Unverified looks into a token that is a JWT, without any check of its
// signature. ErrMalformed of package jose for an opaque token.
func (t *Token) Unverified() (*jose.JWS, *jose.Claims, error) {
	jws, err := jose.Parse(string(t.AccessToken.Reveal()), tokenRules())
	if err != nil {
		return nil, nil, err
	}
	claims, err := jose.ParseClaims(jws.UnverifiedPayload())
	if err != nil {
		return nil, nil, err
	}
	return jws, claims, nil
}

// tokenRules accept what an Authority may sign access tokens with. The types
// are those of RFC 9068 and of plain JWTs.
func tokenRules() jose.Rules {
	return jose.Rules{
		Algs:     []jose.Alg{jose.ES256, jose.ES384, jose.ES512, jose.PS256, jose.PS384, jose.PS512, jose.RS256, jose.EdDSA},
		MaxBytes: maxTokenBytes,
	}
}
