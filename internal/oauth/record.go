package oauth

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/secret"
)

// Schemas of the files in the cache directory.
const (
	schemaToken    = "stella.cache.token/v1"
	schemaMetadata = "stella.cache.metadata/v1"
)

// identity is what a cache entry is for; its hash is the entry's name.
type identity struct {
	Issuer    string   `json:"issuer"`
	ClientID  string   `json:"client_id"`
	Audience  string   `json:"audience"`
	Tenant    string   `json:"tenant"`
	Requested []string `json:"requested_scopes"`
	Bound     bool     `json:"dpop"`
	Cert      bool     `json:"certificate,omitempty"` // bound to a certificate
	Device    bool     `json:"device,omitempty"`      // of a person
}

func (c *Client) identity() identity {
	return identity{
		Issuer: c.cfg.Issuer, ClientID: c.cfg.ClientID, Audience: c.cfg.Audience, Tenant: c.cfg.Tenant, Requested: c.cfg.Scopes,
		Bound: !c.cfg.Bearer, Cert: c.usesCertificate(), Device: c.cfg.Device,
	}
}

// name hashes id with a domain-separation string. Its members are JSON, so no
// two identities share an encoding.
func (id identity) name() string {
	data, err := json.Marshal(id)
	if err != nil {
		panic("internal error: encoding a cache identity: " + err.Error())
	}
	sum := sha256.Sum256(append([]byte("stella.cache.token/v1\x00"), data...))
	return hex.EncodeToString(sum[:16])
}

// record is the stored form of a Token with its key.
type record struct {
	Schema string `json:"schema"`
	identity
	Granted   []string  `json:"scopes"`
	Token     string    `json:"access_token"`
	IssuedAt  time.Time `json:"issued_at"`
	ExpiresAt time.Time `json:"expires_at"`
	Key       []byte    `json:"dpop_key,omitempty"` // PKCS #8
	X5T       string    `json:"x5t_s256,omitempty"`

	Refresh      string    `json:"refresh_token,omitempty"`
	RefreshUntil time.Time `json:"refresh_until,omitzero"`
}

func encodeRecord(id identity, t *Token) ([]byte, error) {
	r := record{
		Schema: schemaToken, identity: id, Granted: t.Scopes, Token: string(t.AccessToken.Reveal()),
		IssuedAt: t.IssuedAt, ExpiresAt: t.ExpiresAt, X5T: t.X5T,
		Refresh: string(t.RefreshToken.Reveal()), RefreshUntil: t.RefreshUntil,
	}
	if t.key != nil {
		der, err := x509.MarshalPKCS8PrivateKey(t.key)
		if err != nil {
			return nil, fmt.Errorf("encoding the DPoP key: %w", err)
		}
		r.Key = der
	}
	return json.Marshal(r)
}

// parseRecord reads a stored token. The error never repeats content.
func parseRecord(data []byte) (identity, *Token, error) {
	var r record
	if err := jose.DecodeStrict(data, &r); err != nil {
		return identity{}, nil, fmt.Errorf("not a token record")
	}
	if r.Schema != schemaToken {
		return identity{}, nil, fmt.Errorf("schema is %.60q, not %q", r.Schema, schemaToken)
	}
	if err := checkTokenText(r.Token); err != nil {
		return identity{}, nil, err
	}
	if r.Issuer == "" || r.IssuedAt.IsZero() || !r.ExpiresAt.After(r.IssuedAt) || r.ExpiresAt.Sub(r.IssuedAt) > maxTokenLife {
		return identity{}, nil, fmt.Errorf("its times make no sense")
	}
	if !slices.Equal(r.Requested, normalScopes(r.Requested)) || r.Requested == nil {
		return identity{}, nil, fmt.Errorf("its scopes are not in order")
	}
	if r.Cert != (r.X5T != "") {
		return identity{}, nil, fmt.Errorf("its binding makes no sense")
	}
	t := &Token{
		AccessToken: secret.New([]byte(r.Token)), Type: TypeBearer,
		Issuer: r.Issuer, ClientID: r.ClientID, Audience: r.Audience, Tenant: r.Tenant,
		Scopes: r.Granted, IssuedAt: r.IssuedAt.UTC(), ExpiresAt: r.ExpiresAt.UTC(), X5T: r.X5T, FromCache: true,
	}
	if r.Refresh != "" {
		if err := checkOpaque("refresh token", r.Refresh); err != nil {
			return identity{}, nil, err
		}
		t.RefreshToken = secret.New([]byte(r.Refresh))
		if !r.RefreshUntil.IsZero() {
			t.RefreshUntil = r.RefreshUntil.UTC()
		}
	}
	if !r.Bound {
		if r.Key != nil {
			return identity{}, nil, fmt.Errorf("a bearer token with a key")
		}
		return r.identity, t, nil
	}
	t.Type = TypeDPoP
	key, err := parseECKey(r.Key)
	if err != nil {
		return identity{}, nil, err
	}
	return r.identity, t, t.bind(key)
}

func parseECKey(der []byte) (*ecdsa.PrivateKey, error) {
	any, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("its key cannot be read")
	}
	key, ok := any.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, fmt.Errorf("its key is not a P-256 key")
	}
	return key, nil
}
