package token

import (
	"slices"
	"strings"

	"github.com/stella-ops/stella/internal/authority/clients"
	"github.com/stella-ops/stella/internal/authority/wire"
)

// ChooseTenant fixes the one tenant of a token: the one asked for if it is
// assigned, else the client's default, else its only one.
func ChooseTenant(c *clients.Client, asked string, known func(string) bool) (string, error) {
	tenant := asked
	switch {
	case len(c.Tenants) == 0 && c.Tenant == "":
		return "", wire.Refuse(wire.UnauthorizedClient, "the client has no tenant")
	case asked != "":
		if asked != c.Tenant && !slices.Contains(c.Tenants, asked) {
			return "", wire.Refuse(wire.InvalidRequest, "the tenant is not assigned to the client")
		}
	case c.Tenant != "":
		tenant = c.Tenant
	case len(c.Tenants) == 1:
		tenant = c.Tenants[0]
	default:
		return "", wire.Refuse(wire.InvalidRequest, "the client has several tenants; name one with tenant=")
	}
	if !known(tenant) {
		return "", wire.Refuse(wire.UnauthorizedClient, "the tenant does not exist any more")
	}
	return tenant, nil
}

// ChooseAudience fixes the one audience of a token. audience and resource (RFC
// 8707) mean the same and must agree.
func ChooseAudience(c *clients.Client, audience, resource string) (string, error) {
	if audience == "" {
		audience = resource
	} else if resource != "" && resource != audience {
		return "", wire.Refuse(wire.InvalidTarget, "audience and resource differ")
	}
	switch {
	case audience == "" && len(c.Audiences) == 1:
		return c.Audiences[0], nil
	case audience == "":
		return "", wire.Refuse(wire.InvalidRequest, "the client has several audiences; name one with audience=")
	case strings.ContainsAny(audience, "* "):
		return "", wire.Refuse(wire.InvalidTarget, "one audience, without wildcard")
	case !slices.Contains(c.Audiences, audience):
		return "", wire.Refuse(wire.InvalidTarget, "the audience is not assigned to the client")
	}
	return audience, nil
}

// ChooseScopes returns the scopes of a token, sorted, as a list and as text.
// Without the parameter they are all that the client has.
func ChooseScopes(c *clients.Client, asked string) ([]string, string, error) {
	if asked == "" || asked == c.AllScopes {
		return c.Scopes, c.AllScopes, nil
	}
	scopes := strings.Split(asked, " ")
	for _, s := range scopes {
		if !clients.ValidScope(s) {
			return nil, "", wire.Refuse(wire.InvalidScope, "scope must be scope names separated by single spaces")
		}
		if !c.HasScope(s) {
			return nil, "", wire.Refuse(wire.InvalidScope, "a scope is not assigned to the client")
		}
	}
	slices.Sort(scopes)
	scopes = slices.Compact(scopes)
	return scopes, strings.Join(scopes, " "), nil
}
