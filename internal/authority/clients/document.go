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
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/stella-ops/stella/internal/authority/problem"
	"github.com/stella-ops/stella/internal/authority/store"
	"github.com/stella-ops/stella/internal/jose"
)

// Client authentication methods (RFC 7591 section 2, RFC 8705 section 2.1).
const (
	SecretBasic   = "client_secret_basic"
	PrivateKeyJWT = "private_key_jwt"
	TLSClientAuth = "tls_client_auth"
	Public        = "none"
)

// Grant types.
const (
	GrantCredentials = "client_credentials"
	GrantDevice      = "urn:ietf:params:oauth:grant-type:device_code"
	GrantRefresh     = "refresh_token"
)

// CertificateURI is what a client's certificate must carry as a URI in its
// subject alternative name.
func CertificateURI(clientID string) string { return "urn:stellaops:client:" + clientID }

// Schema of the client document.
const Schema = "stella.authority.client/v1"

// Bounds of a client document.
const (
	maxList  = 128
	maxKeys  = 8
	maxName  = 200
	maxToken = 128
)

// Document is a client on the wire. Member names of RFC 7591, RFC 8705 and RFC
// 9449 section 5.2 are used where they exist; scopes, audiences, introspects,
// tenant, tenants and service_account are our own.
type Document struct {
	Schema string `json:"schema,omitempty"`
	// ClientID is 1 to 128 letters, digits and ._:@/-
	ClientID string `json:"client_id"`
	// ClientName is free text of at most 200 bytes, without control
	// characters.
	ClientName string `json:"client_name,omitempty"`
	// Method is client_secret_basic (default without jwks), private_key_jwt,
	// tls_client_auth, or none for a public client.
	Method string `json:"token_endpoint_auth_method,omitempty"`
	// SANURI is what the certificate of tls_client_auth carries: always
	// urn:stellaops:client:CLIENT_ID. May be left out.
	SANURI string `json:"tls_client_auth_san_uri,omitempty"`
	// Grants are client_credentials (default), the device code grant, and
	// refresh_token, which needs the device code grant.
	Grants []string `json:"grant_types,omitempty"`
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
	// Introspects lists the audiences whose tokens the client, as their
	// resource server, may introspect.
	Introspects []string `json:"introspects,omitempty"`
	// DPoPBound refuses tokens without a DPoP proof. Default true, but false
	// where tokens are bound to the client's certificate.
	DPoPBound *bool `json:"dpop_bound_access_tokens,omitempty"`
	// CertBound refuses tokens without a TLS client certificate. Default true
	// with tls_client_auth, else false.
	CertBound *bool `json:"tls_client_certificate_bound_access_tokens,omitempty"`
	// ServiceAccount lets operators mint tokens in the client's name.
	ServiceAccount bool `json:"service_account,omitempty"`
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
	if !wellFormed(d.ClientID, "._:@/-") || !cleanPath(d.ClientID) {
		return nil, invalid("client_id: want 1 to %d letters, digits and ._:@/-, and no part between slashes that is empty, . or ..", maxToken)
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
	c := &store.Client{ID: d.ClientID, Name: d.ClientName, Tenant: d.Tenant, Service: d.ServiceAccount}
	if err := d.method(c); err != nil {
		return nil, err
	}
	d.binding(c)
	if err := d.grants(c); err != nil {
		return nil, err
	}
	var err error
	if c.Introspects, err = list("introspects", d.Introspects, validAudience); err != nil {
		return nil, err
	}
	if c.Scopes, err = list("scopes", d.Scopes, ValidScope); err != nil {
		return nil, err
	}
	if c.Audiences, err = list("audiences", d.Audiences, validAudience); err != nil {
		return nil, err
	}
	if len(c.Audiences) == 0 {
		return nil, invalid("audiences: at least one is needed")
	}
	if c.Tenants, err = AssignedTenants(d.Tenant, d.Tenants, known); err != nil {
		return nil, err
	}
	return c, nil
}

// AssignedTenants checks the tenants of a client or a person: the default one,
// which may be empty, and the others; at least one in all, each of which known
// must know. It returns them sorted, the default among them.
func AssignedTenants(usual string, others []string, known func(string) bool) ([]string, error) {
	if usual != "" {
		others = append([]string{usual}, others...)
	}
	tenants, err := list("tenants", others, ValidTenant)
	if err != nil {
		return nil, err
	}
	if len(tenants) == 0 {
		return nil, invalid("tenant: a tenant or a list of tenants is needed")
	}
	for _, t := range tenants {
		if !known(t) {
			return nil, invalid("tenants: %q is not a tenant of this Authority", t)
		}
	}
	return tenants, nil
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
	case !slices.Contains([]string{SecretBasic, PrivateKeyJWT, TLSClientAuth, Public}, c.Method):
		return invalid("token_endpoint_auth_method: allowed are %s, %s, %s and %s", SecretBasic, PrivateKeyJWT, TLSClientAuth, Public)
	case d.SANURI != "" && (c.Method != TLSClientAuth || d.SANURI != CertificateURI(d.ClientID)):
		return invalid("tls_client_auth_san_uri: only with %s, and then %s", TLSClientAuth, CertificateURI(d.ClientID))
	case c.Method != PrivateKeyJWT && d.JWKS != nil:
		return invalid("jwks: only with %s", PrivateKeyJWT)
	case c.Method != SecretBasic && d.RotateSecret:
		return invalid("rotate_secret: only with %s", SecretBasic)
	case c.Method != PrivateKeyJWT:
		return nil
	case d.JWKS == nil || len(d.JWKS.Keys) == 0 || len(d.JWKS.Keys) > maxKeys:
		return invalid("jwks: %s needs 1 to %d keys", PrivateKeyJWT, maxKeys)
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

// binding says what the client's tokens must be bound to. A public client may
// go without only when that is said: its refresh tokens are then protected by
// their rotation alone (RFC 9700 section 2.2.2).
func (d *Document) binding(c *store.Client) {
	c.CertRequired = c.Method == TLSClientAuth
	if d.CertBound != nil {
		c.CertRequired = *d.CertBound
	}
	c.DPoPRequired = !c.CertRequired
	if d.DPoPBound != nil {
		c.DPoPRequired = *d.DPoPBound
	}
}

// grants says how the client may get tokens. The list is stored only where it
// differs from the default.
func (d *Document) grants(c *store.Client) error {
	known := func(g string) bool { return g == GrantCredentials || g == GrantDevice || g == GrantRefresh }
	all, err := list("grant_types", d.Grants, known)
	if err != nil {
		return invalid("grant_types: allowed are %s, %s and %s", GrantCredentials, GrantDevice, GrantRefresh)
	}
	has := func(g string) bool { return slices.Contains(all, g) }
	switch {
	case c.Method == Public && (len(all) == 0 || has(GrantCredentials)):
		return invalid("grant_types: a public client cannot use %s; name %s", GrantCredentials, GrantDevice)
	case has(GrantRefresh) && !has(GrantDevice):
		return invalid("grant_types: %s needs %s, which is what begins with a login", GrantRefresh, GrantDevice)
	}
	if !slices.Equal(all, []string{GrantCredentials}) {
		c.Grants = all
	}
	return nil
}

// fromStore is the document of a stored client, without its secret.
func fromStore(c *store.Client) Document {
	bound, cert := c.DPoPRequired, c.CertRequired
	d := Document{
		Grants: c.Grants, Introspects: c.Introspects, CertBound: &cert, ServiceAccount: c.Service,
		Schema: Schema, ClientID: c.ID, ClientName: c.Name, Method: c.Method, Scopes: c.Scopes, Audiences: c.Audiences,
		Tenant: c.Tenant, Tenants: c.Tenants, DPoPBound: &bound, CreatedAt: &c.CreatedAt, UpdatedAt: &c.UpdatedAt,
	}
	if len(d.Grants) == 0 {
		d.Grants = []string{GrantCredentials}
	}
	if c.Method == TLSClientAuth {
		d.SANURI = CertificateURI(c.ID)
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
