// Package introspect is the introspection endpoint (RFC 7662).
//
// It guarantees that only an authenticated confidential client learns
// anything, and only about tokens that were issued to it or that are meant for
// a resource it serves, in a tenant it has; that every other token, real or
// not, is answered with {"active":false} and nothing else; that a token which
// is expired, revoked or signed by a key that is no longer published is not
// active, on every replica at once; and that a question which cannot be decided
// now is answered with 503.
package introspect

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/stella-ops/stella/internal/authority/audit"
	"github.com/stella-ops/stella/internal/authority/clientauth"
	"github.com/stella-ops/stella/internal/authority/clients"
	"github.com/stella-ops/stella/internal/authority/mint"
	"github.com/stella-ops/stella/internal/authority/refresh"
	"github.com/stella-ops/stella/internal/authority/wire"
)

// Deps are what the endpoint works with. All are required.
type Deps struct {
	Auth   *clientauth.Authenticator
	Tokens *mint.Reader // with the keys that are published
	// Revoked reports whether a token is refused although it has not expired.
	Revoked func(ctx context.Context, c *Claims) (bool, error)
	// Refresh finds the family of a refresh token that would still work.
	Refresh func(ctx context.Context, token string) (*refresh.Held, error)
	Ready   func() error
	Now     func() time.Time
}

// Endpoint serves POST /introspect.
type Endpoint struct{ Deps }

// Claims are what is said about an active access token (RFC 7662 section 2.2).
// Times are NumericDate.
type Claims struct {
	Active     bool           `json:"active"`
	TokenType  string         `json:"token_type,omitempty"`
	Issuer     string         `json:"iss,omitempty"`
	Subject    string         `json:"sub,omitempty"`
	Username   string         `json:"username,omitempty"`
	ClientID   string         `json:"client_id,omitempty"`
	Audience   string         `json:"aud,omitempty"`
	Scope      string         `json:"scope,omitempty"`
	Tenant     string         `json:"stellaops:tenant,omitempty"`
	AllTenants string         `json:"stellaops:allowed_tenants,omitempty"`
	Roles      []string       `json:"roles,omitempty"`
	Service    string         `json:"service_identity,omitempty"`
	AuthTime   int64          `json:"auth_time,omitempty"`
	JTI        string         `json:"jti,omitempty"`
	IssuedAt   int64          `json:"iat,omitempty"`
	NotBefore  int64          `json:"nbf,omitempty"`
	Expires    int64          `json:"exp,omitempty"`
	Confirm    map[string]any `json:"cnf,omitempty"`

	// KID is the key that signed the token.
	KID string `json:"-"`
}

// inactive is all that is said about any other token.
var inactive = &Claims{}

// ServeHTTP implements http.Handler.
func (e *Endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	claims, err := e.serve(r)
	if err != nil {
		ref := wire.AsRefusal(err)
		ev := audit.Of(r.Context())
		ev.Set(audit.TypeIntrospect)
		ev.Outcome(audit.OutcomeOf(ref.StatusCode()), ref.Code)
		wire.WriteError(w, err)
		return
	}
	wire.WriteJSON(w, http.StatusOK, claims)
}

func (e *Endpoint) serve(r *http.Request) (*Claims, error) {
	f, err := wire.ReadForm(r)
	if err != nil {
		return nil, err
	}
	if err := e.Ready(); err != nil {
		return nil, wire.Unavailable(err)
	}
	who, err := e.Auth.Authenticate(r, f)
	if err != nil {
		return nil, err
	}
	audit.Of(r.Context()).Client(who.Client.ID, who.Client.Name)
	if who.Client.Method == clients.Public {
		return nil, wire.Refuse(wire.InvalidClient, "introspection is for clients with credentials")
	}
	token := f.Get("token")
	if token == "" {
		return nil, wire.Refuse(wire.InvalidRequest, "token is missing")
	}
	if err := who.Use(r.Context()); err != nil {
		return nil, err
	}
	claims, err := e.look(r.Context(), token, who.Client)
	if err != nil {
		return nil, wire.Unavailable(err)
	}
	return claims, nil
}

// look says what a client may know of a token.
func (e *Endpoint) look(ctx context.Context, token string, c *clients.Client) (*Claims, error) {
	if refresh.Is(token) {
		return e.family(ctx, token, c)
	}
	claims, err := e.verified(ctx, token)
	if err != nil || claims == nil || !allowed(c, claims) {
		return inactive, err
	}
	revoked, err := e.Revoked(ctx, claims)
	if err != nil || revoked {
		return inactive, err
	}
	return claims, nil
}

// allowed: its own tokens, or those of a resource it serves.
func allowed(c *clients.Client, t *Claims) bool {
	return c.ID == t.ClientID || c.InTenant(t.Tenant) && slices.Contains(c.Introspects, t.Audience)
}

func (e *Endpoint) family(ctx context.Context, token string, c *clients.Client) (*Claims, error) {
	held, err := e.Refresh(ctx, token)
	switch {
	case errors.Is(err, refresh.ErrInvalid), err == nil && held.ClientID != c.ID:
		return inactive, nil
	case err != nil:
		return nil, err
	}
	if spent, err := held.Spent(ctx); err != nil || spent {
		return inactive, err
	}
	t := &Claims{
		Active: true, TokenType: "refresh_token", Issuer: e.Tokens.Issuer, Subject: held.Subject, Username: held.Username,
		ClientID: held.ClientID, Audience: held.Audience, Scope: strings.Join(held.Scopes, " "), Tenant: held.Tenant,
		AuthTime: held.AuthTime.Unix(), IssuedAt: held.AuthTime.Unix(), Expires: held.Expires.Unix(),
	}
	revoked, err := e.Revoked(ctx, t)
	if err != nil || revoked {
		return inactive, err
	}
	return t, nil
}

// verified returns the claims of an access token of this issuer that is valid
// now; nil for any other text.
func (e *Endpoint) verified(ctx context.Context, token string) (*Claims, error) {
	c, kid, err := e.Tokens.Read(ctx, token)
	if errors.Is(err, mint.ErrNotOurs) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	// No skew: whoever asks wants to know what is so now.
	if len(c.Audience) != 1 || !e.Now().Before(c.Expiry) {
		return nil, nil
	}
	t := &Claims{
		Active: true, TokenType: "Bearer", Issuer: c.Issuer, Subject: c.Subject, Audience: c.Audience[0], JTI: c.ID,
		IssuedAt: c.IssuedAt.Unix(), NotBefore: c.NotBefore.Unix(), Expires: c.Expiry.Unix(), KID: kid,
	}
	for name, into := range map[string]any{
		"client_id": &t.ClientID, "scope": &t.Scope, "stellaops:tenant": &t.Tenant, "stellaops:allowed_tenants": &t.AllTenants,
		"roles": &t.Roles, "service_identity": &t.Service, "auth_time": &t.AuthTime, "preferred_username": &t.Username, "cnf": &t.Confirm,
	} {
		if _, err := c.Decode(name, into); err != nil {
			return nil, nil // signed by us, but nothing that we say
		}
	}
	if t.Confirm["jkt"] != nil {
		t.TokenType = "DPoP"
	}
	return t, nil
}
