package testenv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/jose/jwks"
)

// Verifier is a relying service as far as key rotation is concerned.
type Verifier interface {
	Name() string
	// Verify reports why the access token is refused, or nil.
	Verify(ctx context.Context, token string) error
}

// keySource finds a verification key.
type keySource interface {
	Key(ctx context.Context, kid string) (jose.Key, error)
}

// jwtVerifier checks access tokens with keys from a source.
type jwtVerifier struct {
	name, issuer, audience string
	keys                   keySource
}

// Name implements Verifier.
func (v *jwtVerifier) Name() string { return v.name }

// Verify implements Verifier, with no allowance for skew: every clock here is
// the same.
func (v *jwtVerifier) Verify(ctx context.Context, token string) error {
	jws, err := jose.Parse(token, jose.Rules{Algs: []jose.Alg{jose.ES256}, Types: []string{"at+jwt"}})
	if err != nil {
		return err
	}
	key, err := v.keys.Key(ctx, jws.Header.KeyID)
	if err != nil {
		return err
	}
	payload, err := jws.Verify(key)
	if err != nil {
		return err
	}
	claims, err := jose.ParseClaims(payload)
	if err != nil {
		return err
	}
	if claims.Issuer != v.issuer || len(claims.Audience) != 1 || claims.Audience[0] != v.audience {
		return fmt.Errorf("issuer %q, audience %q", claims.Issuer, claims.Audience)
	}
	return claims.ValidAt(time.Now(), 0)
}

// NewOurs is our own verifier: it refetches on an unknown kid, with a cooldown.
func NewOurs(name, issuer, audience, jwksURL string, client *http.Client, cooldown time.Duration) Verifier {
	return &jwtVerifier{name, issuer, audience, jwks.New(jwksURL, jwks.Options{Client: client, Cooldown: cooldown})}
}

// NewMaxAgeOnly is a verifier that reloads its keys when max-age has passed
// and at no other time, as some well-known servers do.
func NewMaxAgeOnly(name, issuer, audience, jwksURL string, client *http.Client) Verifier {
	return &jwtVerifier{name, issuer, audience, &maxAgeOnly{url: jwksURL, client: client}}
}

type maxAgeOnly struct {
	url    string
	client *http.Client
	mu     sync.Mutex
	set    jose.Set
	until  time.Time
}

func (m *maxAgeOnly) Key(ctx context.Context, kid string) (jose.Key, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if now := time.Now(); !now.Before(m.until) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, m.url, nil)
		if err != nil {
			return jose.Key{}, err
		}
		resp, err := m.client.Do(req)
		if err != nil {
			return jose.Key{}, err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(io.LimitReader(resp.Body, jose.MaxSetBytes))
		if err != nil {
			return jose.Key{}, err
		}
		if m.set, err = jose.ParseSet(body); err != nil {
			return jose.Key{}, err
		}
		m.until = now.Add(maxAge(resp.Header.Get("Cache-Control")))
	}
	if key, ok := m.set.Key(kid); ok {
		return key, nil
	}
	return jose.Key{}, errors.New("unknown kid, and the set is still fresh")
}

// NewGoOIDC is coreos/go-oidc as it comes, a third party's verifier.
func NewGoOIDC(ctx context.Context, issuer, audience string, client *http.Client) (Verifier, error) {
	ctx = oidc.ClientContext(ctx, client)
	provider, err := oidc.NewProvider(ctx, issuer)
	if err != nil {
		return nil, err
	}
	return &goOIDC{provider.VerifierContext(ctx, &oidc.Config{ClientID: audience, SupportedSigningAlgs: []string{oidc.ES256}})}, nil
}

type goOIDC struct{ v *oidc.IDTokenVerifier }

// Name implements Verifier.
func (g *goOIDC) Name() string { return "coreos/go-oidc" }

// Verify implements Verifier.
func (g *goOIDC) Verify(ctx context.Context, token string) error {
	_, err := g.v.Verify(ctx, token)
	return err
}
