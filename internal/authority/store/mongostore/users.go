package mongostore

import (
	"context"
	"fmt"
	"time"

	"github.com/stella-ops/stella/internal/authority/store"
)

type userDoc struct {
	ID           string    `bson:"_id"`
	Version      int       `bson:"v"`
	Subject      string    `bson:"subject"`
	DisplayName  string    `bson:"display_name"`
	PasswordHash string    `bson:"password_hash"`
	Scopes       []string  `bson:"scopes"`
	Roles        []string  `bson:"roles"`
	Tenant       string    `bson:"tenant"`
	Tenants      []string  `bson:"tenants"`
	Disabled     bool      `bson:"disabled"`
	CreatedAt    time.Time `bson:"created_at"`
	UpdatedAt    time.Time `bson:"updated_at"`
}

const userVersion = 1

func toUserDoc(u *store.User) userDoc {
	return userDoc{
		ID: u.Name, Version: userVersion, Subject: u.Subject, DisplayName: u.DisplayName, PasswordHash: u.PasswordHash,
		Scopes: u.Scopes, Roles: u.Roles, Tenant: u.Tenant, Tenants: u.Tenants, Disabled: u.Disabled,
		CreatedAt: u.CreatedAt, UpdatedAt: u.UpdatedAt,
	}
}

// User implements store.Users. A document of another version is refused: it
// may hold a restriction that this version does not know.
func (s *Store) User(ctx context.Context, name string) (*store.User, error) {
	var d userDoc
	if err := s.find(ctx, CollUsers, name, &d); err != nil {
		return nil, err
	}
	if d.Version != userVersion {
		return nil, fmt.Errorf("reading a user: document version %d, this server knows %d", d.Version, userVersion)
	}
	return &store.User{
		Name: d.ID, Subject: d.Subject, DisplayName: d.DisplayName, PasswordHash: d.PasswordHash,
		Scopes: d.Scopes, Roles: d.Roles, Tenant: d.Tenant, Tenants: d.Tenants, Disabled: d.Disabled,
		CreatedAt: d.CreatedAt.UTC(), UpdatedAt: d.UpdatedAt.UTC(),
	}, nil
}

// CreateUser implements store.Users.
func (s *Store) CreateUser(ctx context.Context, u *store.User) error {
	return s.insert(ctx, CollUsers, toUserDoc(u))
}

// ReplaceUser implements store.Users.
func (s *Store) ReplaceUser(ctx context.Context, u *store.User) error {
	return s.replaceExisting(ctx, CollUsers, u.Name, toUserDoc(u))
}

// DeleteUser implements store.Users.
func (s *Store) DeleteUser(ctx context.Context, name string) error {
	return s.remove(ctx, CollUsers, name)
}
