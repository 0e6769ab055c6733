package mongostore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/stella-ops/stella/internal/authority/store"
)

type clientDoc struct {
	ID           string    `bson:"_id"`
	Version      int       `bson:"v"`
	Name         string    `bson:"name"`
	Method       string    `bson:"method"`
	SecretHash   []byte    `bson:"secret_sha256"`
	JWKS         []byte    `bson:"jwks"`
	Scopes       []string  `bson:"scopes"`
	Audiences    []string  `bson:"audiences"`
	Tenant       string    `bson:"tenant"`
	Tenants      []string  `bson:"tenants"`
	Grants       []string  `bson:"grants,omitempty"`
	Introspects  []string  `bson:"introspects,omitempty"`
	DPoPRequired bool      `bson:"dpop_required"`
	CertRequired bool      `bson:"cert_required,omitempty"`
	Service      bool      `bson:"service,omitempty"`
	CreatedAt    time.Time `bson:"created_at"`
	UpdatedAt    time.Time `bson:"updated_at"`
}

// Version 2 brought what a client of version 1 does not have: grants,
// introspects, cert_required and service. Both are read, 2 is written.
const (
	clientVersion    = 2
	clientVersionOld = 1
)

func toDoc(c *store.Client) clientDoc {
	return clientDoc{
		ID: c.ID, Version: clientVersion, Name: c.Name, Method: c.Method, SecretHash: c.SecretHash, JWKS: c.JWKS,
		Scopes: c.Scopes, Audiences: c.Audiences, Tenant: c.Tenant, Tenants: c.Tenants,
		Grants: c.Grants, Introspects: c.Introspects, CertRequired: c.CertRequired, Service: c.Service,
		DPoPRequired: c.DPoPRequired, CreatedAt: c.CreatedAt, UpdatedAt: c.UpdatedAt,
	}
}

// Client implements store.Clients. A document of another version is refused:
// it may hold a restriction that this version does not know.
func (s *Store) Client(ctx context.Context, id string) (*store.Client, error) {
	var d clientDoc
	err := s.db.Collection(CollClients).FindOne(ctx, byID(id)).Decode(&d)
	switch {
	case errors.Is(err, mongo.ErrNoDocuments):
		return nil, store.ErrNotFound
	case err != nil:
		return nil, fmt.Errorf("reading client %q: %w", id, err)
	case d.Version != clientVersion && d.Version != clientVersionOld:
		return nil, fmt.Errorf("reading client %q: document version %d, this server knows %d", id, d.Version, clientVersion)
	}
	return &store.Client{
		ID: d.ID, Name: d.Name, Method: d.Method, SecretHash: d.SecretHash, JWKS: d.JWKS,
		Scopes: d.Scopes, Audiences: d.Audiences, Tenant: d.Tenant, Tenants: d.Tenants,
		Grants: d.Grants, Introspects: d.Introspects, CertRequired: d.CertRequired, Service: d.Service,
		DPoPRequired: d.DPoPRequired, CreatedAt: d.CreatedAt.UTC(), UpdatedAt: d.UpdatedAt.UTC(),
	}, nil
}

// CreateClient implements store.Clients.
func (s *Store) CreateClient(ctx context.Context, c *store.Client) error {
	return s.insert(ctx, CollClients, toDoc(c))
}

// ReplaceClient implements store.Clients.
func (s *Store) ReplaceClient(ctx context.Context, c *store.Client) error {
	return s.replaceExisting(ctx, CollClients, c.ID, toDoc(c))
}

// DeleteClient implements store.Clients.
func (s *Store) DeleteClient(ctx context.Context, id string) error {
	return s.remove(ctx, CollClients, id)
}
