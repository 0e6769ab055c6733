package mem

import (
	"bytes"
	"context"
	"slices"

	"github.com/stella-ops/stella/internal/authority/store"
)

// Client implements store.Clients.
func (s *Store) Client(_ context.Context, id string) (*store.Client, error) { return s.clients.get(id) }

// CreateClient implements store.Clients.
func (s *Store) CreateClient(_ context.Context, c *store.Client) error {
	return s.clients.create(c.ID, c)
}

// ReplaceClient implements store.Clients.
func (s *Store) ReplaceClient(_ context.Context, c *store.Client) error {
	return s.clients.replace(c.ID, c)
}

// DeleteClient implements store.Clients.
func (s *Store) DeleteClient(_ context.Context, id string) error { return s.clients.remove(id) }

// User implements store.Users.
func (s *Store) User(_ context.Context, name string) (*store.User, error) { return s.users.get(name) }

// CreateUser implements store.Users.
func (s *Store) CreateUser(_ context.Context, u *store.User) error { return s.users.create(u.Name, u) }

// ReplaceUser implements store.Users.
func (s *Store) ReplaceUser(_ context.Context, u *store.User) error {
	return s.users.replace(u.Name, u)
}

// DeleteUser implements store.Users.
func (s *Store) DeleteUser(_ context.Context, name string) error { return s.users.remove(name) }

func cloneClient(c *store.Client) *store.Client {
	d := *c
	d.SecretHash, d.JWKS = bytes.Clone(c.SecretHash), bytes.Clone(c.JWKS)
	d.Scopes, d.Audiences, d.Tenants = slices.Clone(c.Scopes), slices.Clone(c.Audiences), slices.Clone(c.Tenants)
	d.Grants, d.Introspects = slices.Clone(c.Grants), slices.Clone(c.Introspects)
	return &d
}

func cloneUser(u *store.User) *store.User {
	d := *u
	d.Scopes, d.Roles, d.Tenants = slices.Clone(u.Scopes), slices.Clone(u.Roles), slices.Clone(u.Tenants)
	return &d
}
