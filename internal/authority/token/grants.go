package token

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/stella-ops/stella/internal/authority/audit"
	"github.com/stella-ops/stella/internal/authority/clients"
	"github.com/stella-ops/stella/internal/authority/mint"
	"github.com/stella-ops/stella/internal/authority/refresh"
	"github.com/stella-ops/stella/internal/authority/users"
	"github.com/stella-ops/stella/internal/authority/wire"
)

// credentials is client_credentials (RFC 6749 section 4.4).
func (e *Endpoint) credentials(q *request) (*plan, error) {
	c, f := q.who.Client, q.form
	p := &plan{grant: mint.Grant{Subject: c.ID, ClientID: c.ID, AllTenants: c.AllTenants}}
	g := &p.grant
	var err error
	if g.Tenant, err = ChooseTenant(c, f.Get("tenant"), q.set.KnownTenant); err != nil {
		return nil, err
	}
	if g.Audience, err = ChooseAudience(c, f.Get("audience"), f.Get("resource")); err != nil {
		return nil, err
	}
	if g.Scopes, g.Scope, err = ChooseScopes(c, f.Get("scope")); err != nil {
		return nil, err
	}
	if c.Service {
		g.Service = c.ID
	}
	return p, nil
}

// device is the device code grant (RFC 8628 section 3.4). What was approved is
// what is granted: the request cannot change it.
func (e *Endpoint) device(q *request) (*plan, error) {
	code := q.form.Get("device_code")
	if code == "" {
		return nil, wire.Refuse(wire.InvalidRequest, "device_code is missing")
	}
	c := q.who.Client
	a, err := e.Devices.Check(q.Context(), code, c.ID)
	if err != nil {
		return nil, err
	}
	who, err := e.stillThere(q, a.Username, a.Subject)
	if err != nil {
		return nil, err
	}
	p := &plan{grant: mint.Grant{
		Subject: a.Subject, ClientID: c.ID, Tenant: a.Tenant, Audience: a.Audience, Name: a.Username,
		Scopes: a.Scopes, Scope: strings.Join(a.Scopes, " "), Roles: who.Roles, AuthTime: a.AuthTime,
	}}
	if !covers(who, a.Tenant, a.Scopes) {
		return nil, errLess()
	}
	lost := func(s string) bool { return !c.HasScope(s) }
	if !q.set.KnownTenant(a.Tenant) || !c.InTenant(a.Tenant) || !slices.Contains(c.Audiences, a.Audience) || slices.ContainsFunc(a.Scopes, lost) {
		return nil, wire.Refuse(wire.InvalidGrant, "the client no longer has what was granted")
	}
	switch revoked, err := e.Revoked(q.Context(), a.Subject, c.ID, a.AuthTime); {
	case err != nil:
		return nil, wire.Unavailable(err)
	case revoked:
		return nil, wire.Refuse(wire.InvalidGrant, "what was granted has been revoked")
	}
	p.bound = func(jkt, _ string) error {
		if a.JKT != "" && a.JKT != jkt {
			return wire.Refuse(wire.InvalidGrant, "the device code is bound to another key")
		}
		return nil
	}
	p.until = q.now.Add(q.set.RefreshLifetime)
	p.commit = func(ctx context.Context, t *mint.Token, g *mint.Grant) (string, error) {
		next := ""
		if c.Uses(clients.GrantRefresh) {
			// A family is nobody's until its token is handed out, so it can
			// come first.
			family := refresh.Family{
				ClientID: c.ID, Subject: a.Subject, Username: a.Username, Tenant: a.Tenant, Audience: a.Audience,
				Scopes: a.Scopes, Roles: a.Roles, JKT: g.JKT, AuthTime: a.AuthTime, Expires: p.until,
			}
			if c.Method == clients.Public {
				family.X5T = g.X5T
			}
			var err error
			if next, err = e.Families.Begin(ctx, family, refresh.Access{JTI: t.JTI, Expires: t.Expires}); err != nil {
				return "", wire.Unavailable(err)
			}
		}
		return next, e.Devices.Redeem(ctx, a)
	}
	return p, nil
}

// refresh is the refresh token grant (RFC 6749 section 6).
func (e *Endpoint) refresh(q *request) (*plan, error) {
	text := q.form.Get("refresh_token")
	if text == "" {
		return nil, wire.Refuse(wire.InvalidRequest, "refresh_token is missing")
	}
	c := q.who.Client
	held, err := e.Families.Look(q.Context(), text)
	if err != nil {
		return nil, refreshError(err)
	}
	if held.ClientID != c.ID {
		return nil, wire.Refuse(wire.InvalidGrant, "the refresh token is not valid")
	}
	who, err := e.stillThere(q, held.Username, held.Subject)
	if err != nil {
		return nil, err
	}
	if !covers(who, held.Tenant, held.Scopes) {
		return nil, errLess()
	}
	switch revoked, err := e.Revoked(q.Context(), held.Subject, c.ID, held.AuthTime.Add(-q.set.Skew)); {
	case err != nil:
		return nil, wire.Unavailable(err)
	case revoked:
		return nil, wire.Refuse(wire.InvalidGrant, "what was granted has been revoked")
	}
	p := &plan{grant: mint.Grant{
		Subject: held.Subject, ClientID: c.ID, Tenant: held.Tenant, Audience: held.Audience, Name: held.Username,
		Roles: who.Roles, AuthTime: held.AuthTime,
	}}
	if err := narrow(&p.grant, c, held.Scopes, q.form); err != nil {
		return nil, err
	}
	if !q.set.KnownTenant(held.Tenant) || !c.InTenant(held.Tenant) || !slices.Contains(c.Audiences, held.Audience) {
		return nil, wire.Refuse(wire.InvalidGrant, "the client no longer has what was granted")
	}
	p.bound = func(jkt, x5t string) error {
		if held.JKT != "" && held.JKT != jkt || held.X5T != "" && held.X5T != x5t {
			return wire.Refuse(wire.InvalidGrant, "the refresh token is bound to another key")
		}
		return nil
	}
	p.until = held.Expires
	p.commit = func(ctx context.Context, t *mint.Token, _ *mint.Grant) (string, error) {
		next, err := held.Rotate(ctx, refresh.Access{JTI: t.JTI, Expires: t.Expires})
		if errors.Is(err, refresh.ErrReused) {
			audit.Of(ctx).Prop("request.reused", "refresh_token", audit.None)
		}
		return next, refreshError(err)
	}
	return p, nil
}

// narrow grants the scopes of a family that are asked for (all without the
// parameter) and that the client still has.
func narrow(g *mint.Grant, c *clients.Client, granted []string, f *wire.Form) error {
	if a := f.Get("audience"); a != "" && a != g.Audience {
		return wire.Refuse(wire.InvalidTarget, "the audience is not the one that was granted")
	}
	if t := f.Get("tenant"); t != "" && t != g.Tenant {
		return wire.Refuse(wire.InvalidRequest, "the tenant is not the one that was granted")
	}
	wanted := granted
	if asked := f.Get("scope"); asked != "" {
		wanted = strings.Split(asked, " ")
	}
	for _, s := range wanted {
		if !slices.Contains(granted, s) {
			return wire.Refuse(wire.InvalidScope, "a scope was not granted")
		}
		if c.HasScope(s) {
			g.Scopes = append(g.Scopes, s)
		}
	}
	if len(g.Scopes) == 0 && len(granted) > 0 {
		return wire.Refuse(wire.InvalidGrant, "the client no longer has what was granted")
	}
	slices.Sort(g.Scopes)
	g.Scopes = slices.Compact(g.Scopes)
	g.Scope = strings.Join(g.Scopes, " ")
	return nil
}

// stillThere returns the person who granted something, as they are now, or
// refuses.
func (e *Endpoint) stillThere(q *request, username, subject string) (*users.Person, error) {
	audit.Of(q.Context()).Subject(subject, username, "", "")
	who, err := e.People.Current(q.Context(), username, subject)
	switch {
	case errors.Is(err, users.ErrGone):
		return nil, wire.Refuse(wire.InvalidGrant, "the person who granted this cannot log in any more")
	case err != nil:
		return nil, wire.Unavailable(err)
	}
	return who, nil
}

// covers reports whether a person still has what they granted.
func covers(p *users.Person, tenant string, scopes []string) bool {
	for _, s := range scopes {
		if !slices.Contains(p.Scopes, s) {
			return false
		}
	}
	return slices.Contains(p.Tenants, tenant)
}

func errLess() error {
	return wire.Refuse(wire.InvalidGrant, "the person who granted this does not have it any more; log in again")
}

func refreshError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, refresh.ErrReused):
		return &wire.Refusal{Code: wire.InvalidGrant, Description: "the refresh token has been used before; log in again", Cause: err}
	case errors.Is(err, refresh.ErrInvalid):
		return &wire.Refusal{Code: wire.InvalidGrant, Description: "the refresh token is not valid; log in again", Cause: err}
	}
	return wire.Unavailable(err)
}
