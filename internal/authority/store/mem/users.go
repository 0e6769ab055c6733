package mem

import (
	"context"
	"slices"

	"github.com/stella-ops/stella/internal/authority/store"
)

// User implements store.Users.
func (s *Store) User(_ context.Context, name string) (*store.User, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	u, ok := s.users[name]
	if !ok {
		return nil, store.ErrNotFound
	}
	return cloneUser(u), nil
}

// CreateUser implements store.Users.
func (s *Store) CreateUser(_ context.Context, u *store.User) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.users[u.Name]; ok {
		return store.ErrExists
	}
	s.users[u.Name] = cloneUser(u)
	return nil
}

// ReplaceUser implements store.Users.
func (s *Store) ReplaceUser(_ context.Context, u *store.User) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.users[u.Name]; !ok {
		return store.ErrNotFound
	}
	s.users[u.Name] = cloneUser(u)
	return nil
}

// DeleteUser implements store.Users.
func (s *Store) DeleteUser(_ context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.users[name]; !ok {
		return store.ErrNotFound
	}
	delete(s.users, name)
	return nil
}

func cloneUser(u *store.User) *store.User {
	d := *u
	d.Scopes, d.Roles, d.Tenants = slices.Clone(u.Scopes), slices.Clone(u.Roles), slices.Clone(u.Tenants)
	return &d
}
