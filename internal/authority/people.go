package authority

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/stella-ops/stella/internal/authority/clientauth"
	"github.com/stella-ops/stella/internal/authority/device"
	"github.com/stella-ops/stella/internal/authority/limit"
	"github.com/stella-ops/stella/internal/authority/token"
	"github.com/stella-ops/stella/internal/authority/users"
	"github.com/stella-ops/stella/internal/authority/wire"
	"github.com/stella-ops/stella/internal/fault"
)

// newDirectory makes the directory of people, by the standard plug-in.
func (s *Server) newDirectory() {
	s.people = users.New(users.Options{
		Store:  s.store,
		Policy: func() users.Policy { return s.set.Load().cfg.standard.Policy() },
		OnRevoke: func(ctx context.Context, subject, reason string) error {
			return s.revokeSubject(ctx, subject, reason)
		},
		Observe: func(o users.Outcome) {
			switch o {
			case users.Refused:
				s.metrics.loginFailed()
			case users.Locked:
				s.metrics.lockedOut()
			}
		},
		Now: s.now, Log: s.log,
	})
}

// firstUser makes the bootstrap user of the manifest, where there is none of
// that name.
func (s *Server) firstUser(ctx context.Context) error {
	doc, err := s.firstDocument(s.cfg)
	if err != nil || doc == nil {
		return err
	}
	made, err := s.people.Ensure(ctx, doc, s.set.Load().token.KnownTenant)
	if made {
		s.log.InfoContext(ctx, "made the bootstrap user of the standard plug-in")
	}
	return err
}

// firstDocument reads and checks the bootstrap user of a configuration; nil
// when there is none.
func (s *Server) firstDocument(cfg *Config) (*users.Document, error) {
	doc, err := cfg.standard.First()
	if err != nil || doc == nil {
		return nil, err
	}
	if err := doc.Check(cfg.standard.Policy().Password, s.set.Load().token.KnownTenant); err != nil {
		return nil, fault.Errorf(fault.Config, "%s: bootstrapUser: %w", cfg.standard.Path, err)
	}
	return doc, nil
}

// logIn checks a name and a password for the device page.
func (s *Server) logIn(ctx context.Context, name, password, remote string) (*device.Person, error) {
	p, err := s.people.Authenticate(ctx, name, password, remote)
	var locked *users.LockedOut
	switch {
	case errors.As(err, &locked):
		return nil, &device.LockedOut{RetryAfter: locked.RetryAfter}
	case errors.Is(err, users.ErrCredentials):
		return nil, device.ErrCredentials
	case err != nil:
		return nil, err
	}
	return &device.Person{
		Subject: p.Subject, Username: p.Name, DisplayName: p.DisplayName, Tenant: p.Tenant, Tenants: p.Tenants,
		Scopes: p.Scopes, Roles: p.Roles, AuthTime: p.AuthTime,
	}, nil
}

// devicePage makes the page on which people approve a login.
func (s *Server) devicePage() (*device.Page, error) {
	return device.NewPage(device.PageDeps{
		Codes: s.codes, Issuer: s.issuer, Login: s.logIn, Ready: s.db.Err, Remote: s.remoteText, Log: s.log,
		Take: func(r *http.Request) (time.Duration, error) {
			err := s.limiter.Admit(r, limit.Authorize, s.remote(r), "")
			if ref := wire.AsRefusal(err); err != nil && ref.Code == wire.RateLimited {
				return max(ref.RetryAfter, time.Second), nil
			}
			return 0, err
		},
	})
}

// chooseForDevice applies the rules of the token endpoint to what a device
// asks a person for.
func (s *Server) chooseForDevice(who *clientauth.Identity, f *wire.Form) (*device.Choice, error) {
	c, known := who.Client, s.set.Load().token.KnownTenant
	audience, err := token.ChooseAudience(c, f.Get("audience"), f.Get("resource"))
	if err != nil {
		return nil, err
	}
	scopes, _, err := token.ChooseScopes(c, f.Get("scope"))
	if err != nil {
		return nil, err
	}
	asked := f.Get("tenant")
	choice := &device.Choice{Scopes: scopes, Audience: audience}
	for _, t := range c.Tenants {
		if known(t) && who.Vouched(t) && (asked == "" || t == asked) {
			choice.Tenants = append(choice.Tenants, t)
		}
	}
	if len(choice.Tenants) == 0 {
		return nil, wire.Refuse(wire.InvalidRequest, "the tenant is not assigned to the client")
	}
	return choice, nil
}
