package clients

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stella-ops/stella/internal/authority/store"
	"github.com/stella-ops/stella/internal/jose"
)

// Client is a registered client, parsed and ready for the token endpoint. It
// is shared between requests: nobody changes it.
type Client struct {
	ID           string
	Method       string
	SecretHash   [32]byte // meaningful for SecretBasic only
	Keys         jose.Set // PrivateKeyJWT only
	Name         string
	Grants       []string // grant types
	Introspects  []string // audiences
	Scopes       []string // sorted
	AllScopes    string   // Scopes, space-delimited
	Audiences    []string
	Tenant       string
	Tenants      []string // sorted; includes Tenant
	AllTenants   string   // Tenants, space-delimited; empty when only one
	DPoPRequired bool
	CertRequired bool
	Service      bool
}

// Uses reports whether the client may use a grant type.
func (c *Client) Uses(grant string) bool { return slices.Contains(c.Grants, grant) }

// InTenant reports whether a tenant is assigned to the client.
func (c *Client) InTenant(tenant string) bool {
	return tenant != "" && (tenant == c.Tenant || slices.Contains(c.Tenants, tenant))
}

// HasScope reports whether the client may ask for s.
func (c *Client) HasScope(s string) bool {
	_, ok := slices.BinarySearch(c.Scopes, s)
	return ok
}

// Register reads clients through a cache.
type Register struct {
	store store.Clients
	ttl   time.Duration
	limit int
	now   func() time.Time

	mu      sync.RWMutex
	known   map[string]cached
	unknown map[string]time.Time
	changes uint64 // number of local changes, so that a read that began before one is not cached after it
}

type cached struct {
	client *Client
	until  time.Time
}

// NewRegister makes a Register that trusts what it has read for ttl (at most
// five seconds) and holds at most limit clients, and as many unknown ids.
func NewRegister(s store.Clients, ttl time.Duration, limit int, now func() time.Time) *Register {
	return &Register{
		store: s, ttl: min(ttl, 5*time.Second), limit: limit, now: now,
		known: map[string]cached{}, unknown: map[string]time.Time{},
	}
}

// Client returns a client or store.ErrNotFound; any other error means that
// the store is out of reach.
func (r *Register) Client(ctx context.Context, id string) (*Client, error) {
	now := r.now()
	r.mu.RLock()
	hit, ok := r.known[id]
	miss, absent := r.unknown[id]
	changes := r.changes
	r.mu.RUnlock()
	switch {
	case ok && now.Before(hit.until):
		return hit.client, nil
	case absent && now.Before(miss):
		return nil, store.ErrNotFound
	}
	doc, err := r.store.Client(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		r.put(changes, func() {
			delete(r.known, id)
			room(r.unknown, r.limit)
			r.unknown[id] = now.Add(r.ttl)
		})
		return nil, store.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	c, err := parse(doc)
	if err != nil {
		return nil, fmt.Errorf("client %q: %w", id, err)
	}
	r.put(changes, func() {
		delete(r.unknown, id)
		room(r.known, r.limit)
		r.known[id] = cached{c, now.Add(r.ttl)}
	})
	return c, nil
}

// NotFound reports whether err says that there is no such client.
func NotFound(err error) bool { return errors.Is(err, store.ErrNotFound) }

func (r *Register) put(changes uint64, f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.changes == changes {
		f()
	}
}

// room makes room for one entry by dropping any other: an entry costs one
// read of the store, and ids that nobody registered have a map of their own.
func room[V any](m map[string]V, limit int) {
	for id := range m {
		if len(m) < limit {
			return
		}
		delete(m, id)
	}
}

// forget drops id from the cache after a change.
func (r *Register) forget(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changes++
	delete(r.known, id)
	delete(r.unknown, id)
}

func parse(d *store.Client) (*Client, error) {
	c := &Client{
		ID: d.ID, Method: d.Method, Scopes: d.Scopes, AllScopes: strings.Join(d.Scopes, " "), Audiences: d.Audiences,
		Tenant: d.Tenant, Tenants: d.Tenants, DPoPRequired: d.DPoPRequired, CertRequired: d.CertRequired, Service: d.Service,
		Name: d.Name, Grants: d.Grants, Introspects: d.Introspects,
	}
	if len(c.Grants) == 0 {
		c.Grants = []string{GrantCredentials}
	}
	if len(d.Tenants) > 1 {
		c.AllTenants = strings.Join(d.Tenants, " ")
	}
	switch d.Method {
	case SecretBasic:
		if len(d.SecretHash) != len(c.SecretHash) {
			return nil, errors.New("stored secret hash has the wrong length")
		}
		copy(c.SecretHash[:], d.SecretHash)
	case PrivateKeyJWT:
		set, err := jose.ParseSet(d.JWKS)
		if err != nil {
			return nil, fmt.Errorf("stored key set: %w", err)
		}
		c.Keys = set
	case TLSClientAuth, Public:
	default:
		return nil, fmt.Errorf("stored authentication method %q is unknown", d.Method)
	}
	return c, nil
}

// assertionAlg is the one algorithm in which a client key may sign.
func assertionAlg(k jose.Key) (jose.Alg, error) {
	var alg jose.Alg
	switch pub := k.Public.(type) {
	case *ecdsa.PublicKey:
		if pub.Curve != elliptic.P256() {
			return "", errors.New("only curve P-256 is accepted")
		}
		alg = jose.ES256
	case ed25519.PublicKey:
		alg = jose.EdDSA
	case *rsa.PublicKey:
		if pub.N.BitLen() < 2048 {
			return "", errors.New("RSA keys need at least 2048 bits")
		}
		alg = jose.PS256
	default:
		return "", errors.New("only P-256, Ed25519 and RSA keys are accepted")
	}
	if k.Alg != "" && k.Alg != alg {
		return "", fmt.Errorf("alg %q: this key signs with %s only", k.Alg, alg)
	}
	if k.Use != "" && k.Use != "sig" {
		return "", fmt.Errorf("use %q is not sig", k.Use)
	}
	return alg, nil
}

func marshalSet(s jose.Set) ([]byte, error) { return json.Marshal(s) }
