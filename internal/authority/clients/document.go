// Package clients is the register of OAuth clients: what a client document
// may say, the API that writes it, and the cache that the token endpoint
// reads.
//
// It guarantees that a registered client has one authentication method, at
// least one audience and one tenant, only well-formed names without wildcards,
// that a secret is made here with 256 bits of entropy, shown once and stored
// as SHA-256 only, and that a change is seen by this replica at once and by
// others within the cache time.
package clients

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/stella-ops/stella/internal/authority/problem"
	"github.com/stella-ops/stella/internal/authority/store"
	"github.com/stella-ops/stella/internal/jose"
)

// Client authentication methods (RFC 7591 section 2).
const (
	SecretBasic   = "client_secret_basic"
	PrivateKeyJWT = "private_key_jwt"
)

// Schema of the client document.
const Schema = "stella.authority.client/v1"

// Bounds of a client document.
const (
	maxList  = 128
	maxKeys  = 8
	maxName  = 200
	maxToken = 128
)

// Document is a client on the wire. Member names of RFC 7591 and RFC 9449
// section 5.2 are used where they exist; scopes, audiences, tenant and tenants
// are our own.
type Document struct {
	Schema string `json:"schema,omitempty"`
	// ClientID is 1 to 128 letters, digits and ._:@/-
	ClientID string `json:"client_id"`
	// ClientName is free text of at most 200 bytes, without control
	// characters.
	ClientName string `json:"client_name,omitempty"`
	// Method is client_secret_basic (default without jwks) or private_key_jwt.
	Method string `json:"token_endpoint_auth_method,omitempty"`
	// JWKS holds 1 to 8 public keys, each with a kid, for private_key_jwt only.
	JWKS *jose.Set `json:"jwks,omitempty"`
	// Scopes that the client may ask for; sorted in answers.
	Scopes []string `json:"scopes"`
	// Audiences that the client may ask for, absolute URIs without wildcard.
	Audiences []string `json:"audiences"`
	// Tenant is used when a request names none.
	Tenant string `json:"tenant,omitempty"`
	// Tenants that a request may name; Tenant need not be repeated.
	Tenants []string `json:"tenants,omitempty"`
	// DPoPBound (default true) refuses tokens without a DPoP proof.
	DPoPBound *bool `json:"dpop_bound_access_tokens,omitempty"`
	// RotateSecret asks, when a client is replaced, for a new secret.
	RotateSecret bool `json:"rotate_secret,omitempty"`

	// In answers only:

	// ClientSecret is shown once, in the answer that made it.
	ClientSecret string     `json:"client_secret,omitempty"`
	CreatedAt    *time.Time `json:"created_at,omitempty"`
	UpdatedAt    *time.Time `json:"updated_at,omitempty"`
}

func invalid(format string, args ...any) error {
	return problem.New(problem.Invalid, fmt.Sprintf(format, args...))
}

// toStore checks d and returns what is stored, without secret and times.
// known judges tenant ids.
func (d *Document) toStore(known func(string) bool) (*store.Client, error) {
	if !wellFormed(d.ClientID, "._:@/-") {
		return nil, invalid("client_id: want 1 to %d letters, digits and ._:@/-", maxToken)
	}
	if len(d.ClientName) > maxName {
		return nil, invalid("client_name: more than %d bytes", maxName)
	}
	if strings.ContainsFunc(d.ClientName, unicode.IsControl) {
		return nil, invalid("client_name: control characters are not accepted")
	}
	if d.ClientSecret != "" {
		return nil, invalid("client_secret: secrets are made by the Authority; leave it out")
	}
	if d.CreatedAt != nil || d.UpdatedAt != nil {
		return nil, invalid("created_at, updated_at: set by the Authority; leave them out")
	}
	c := &store.Client{ID: d.ClientID, Name: d.ClientName, Tenant: d.Tenant, DPoPRequired: d.DPoPBound == nil || *d.DPoPBound}
	if err := d.method(c); err != nil {
		return nil, err
	}
	var err error
	if c.Scopes, err = list("scopes", d.Scopes, ValidScope); err != nil {
		return nil, err
	}
	if c.Audiences, err = list("audiences", d.Audiences, validAudience); err != nil {
		return nil, err
	}
	if len(c.Audiences) == 0 {
		return nil, invalid("audiences: at least one is needed")
	}
	tenants := d.Tenants
	if d.Tenant != "" {
		tenants = append([]string{d.Tenant}, tenants...)
	}
	if c.Tenants, err = list("tenants", tenants, ValidTenant); err != nil {
		return nil, err
	}
	if len(c.Tenants) == 0 {
		return nil, invalid("tenant: a client needs a tenant or a list of tenants")
	}
	for _, t := range c.Tenants {
		if !known(t) {
			return nil, invalid("tenants: %q is not a tenant of this Authority", t)
		}
	}
	return c, nil
}

func (d *Document) method(c *store.Client) error {
	c.Method = d.Method
	if c.Method == "" {
		c.Method = SecretBasic
		if d.JWKS != nil {
			c.Method = PrivateKeyJWT
		}
	}
	switch {
	case c.Method != SecretBasic && c.Method != PrivateKeyJWT:
		return invalid("token_endpoint_auth_method: allowed are %s and %s", SecretBasic, PrivateKeyJWT)
	case c.Method == SecretBasic && d.JWKS != nil:
		return invalid("jwks: only with %s", PrivateKeyJWT)
	case c.Method == SecretBasic:
		return nil
	case d.JWKS == nil || len(d.JWKS.Keys) == 0 || len(d.JWKS.Keys) > maxKeys:
		return invalid("jwks: %s needs 1 to %d keys", PrivateKeyJWT, maxKeys)
	case d.RotateSecret:
		return invalid("rotate_secret: only with %s", SecretBasic)
	}
	for _, k := range d.JWKS.Keys {
		if k.KeyID == "" {
			return invalid("jwks: every key needs a kid")
		}
		if _, err := assertionAlg(k); err != nil {
			return invalid("jwks: key %q: %v", k.KeyID, err)
		}
	}
	data, err := marshalSet(*d.JWKS)
	if err != nil {
		return invalid("jwks: %v", err)
	}
	c.JWKS = data
	return nil
}

// fromStore is the document of a stored client, without its secret.
func fromStore(c *store.Client) Document {
	bound := c.DPoPRequired
	d := Document{
		Schema: Schema, ClientID: c.ID, ClientName: c.Name, Method: c.Method, Scopes: c.Scopes, Audiences: c.Audiences,
		Tenant: c.Tenant, Tenants: c.Tenants, DPoPBound: &bound, CreatedAt: &c.CreatedAt, UpdatedAt: &c.UpdatedAt,
	}
	if len(c.JWKS) > 0 {
		if set, err := jose.ParseSet(c.JWKS); err == nil {
			d.JWKS = &set
		}
	}
	return d
}

// list checks, sorts and deduplicates.
func list(name string, values []string, valid func(string) bool) ([]string, error) {
	if len(values) > maxList {
		return nil, invalid("%s: more than %d", name, maxList)
	}
	for _, v := range values {
		if !valid(v) {
			return nil, invalid("%s: %.60q is not well formed", name, v)
		}
	}
	out := slices.Clone(values)
	slices.Sort(out)
	return slices.Compact(out), nil
}

// ValidScope reports whether s is one scope-token of RFC 6749 section 3.3, at
// most 128 bytes, and no wildcard.
func ValidScope(s string) bool {
	if s == "" || len(s) > maxToken {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c > '~' || c == '"' || c == '\\' || c == '*' {
			return false
		}
	}
	return true
}

// ValidTenant reports whether s is a tenant id: lower-case letters, digits and
// ._- , at most 64, beginning with a letter or digit.
func ValidTenant(s string) bool {
	return len(s) <= 64 && s == strings.ToLower(s) && wellFormed(s, "._-") && !strings.ContainsAny(s[:1], "._-")
}

// validAudience reports whether s is an absolute URI of at most 256 bytes
// without wildcard, fragment or space.
func validAudience(s string) bool {
	if len(s) > 256 || strings.ContainsAny(s, "* #\"\\<>") {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	u, err := url.Parse(s)
	return err == nil && u.Scheme != "" && (u.Host != "" || u.Opaque != "")
}

func wellFormed(s, punctuation string) bool {
	if s == "" || len(s) > maxToken {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte(punctuation, c) >= 0) {
			return false
		}
	}
	return true
}
