// Package serviceaccount lets operators mint access tokens in the name of
// service accounts: clients that are registered for it.
//
// It guarantees that a token is minted only for such a client, for one tenant,
// one audience and scopes that are assigned to it, with a reason; that the
// token and the audit record name the operator; and that it lives no longer
// than any other access token.
package serviceaccount

import (
	"errors"
	"io"
	"net/http"
	"regexp"
	"strings"
	"time"
	"unicode"

	"github.com/stella-ops/stella/internal/authority/audit"
	"github.com/stella-ops/stella/internal/authority/clientauth"
	"github.com/stella-ops/stella/internal/authority/mint"
	"github.com/stella-ops/stella/internal/authority/problem"
	"github.com/stella-ops/stella/internal/authority/store"
	"github.com/stella-ops/stella/internal/authority/token"
	"github.com/stella-ops/stella/internal/authority/wire"
	"github.com/stella-ops/stella/internal/jose"
)

// Scope is what an operator's token needs for it.
const Scope = "authority.tokens.mint"

// Bounds of a request.
const (
	maxBody   = 16 << 10
	maxReason = 500
)

// API serves POST /internal/service-accounts/tokens. All fields are required.
type API struct {
	// Operator returns who calls, or a refusal; guard.Guard.Firsthand is one.
	Operator    func(r *http.Request, scope string) (string, error)
	Clients     clientauth.Clients
	KnownTenant func(id string) bool
	Minter      *mint.Minter
	Outcome     func(grant, outcome string, status int)
	Ready       func() error
	Now         func() time.Time
}

// Request is the body.
type Request struct {
	ServiceAccount string   `json:"service_account"` // client_id
	Scopes         []string `json:"scopes"`          // empty: all that are assigned
	Audience       string   `json:"audience"`        // may be left out when there is one only
	Tenant         string   `json:"tenant"`          // must be named
	ExpiresIn      int64    `json:"expires_in"`      // seconds; 0: as configured
	Reason         string   `json:"reason"`          // must be given
	JKT            string   `json:"jkt"`             // thumbprint of the key to bind to; empty: bearer
}

// Answer is the answer.
type Answer struct {
	AccessToken string `json:"access_token"`
	TokenType   string `json:"token_type"`
	ExpiresIn   int64  `json:"expires_in"`
	Scope       string `json:"scope"`
	JTI         string `json:"jti"`
	KID         string `json:"kid"`
}

// Serve answers one request; errors are of package problem, or what the store
// says.
func (a *API) Serve(r *http.Request) (*Answer, error) {
	answer, err := a.serve(r)
	result, status := "issued", http.StatusOK
	if err != nil {
		result = problem.From(err).Code
		status = problem.Status(result)
	}
	ev := audit.Of(r.Context())
	ev.Set(audit.TypeServiceAccount)
	problem.Audit(ev, err)
	a.Outcome("service_account", result, status)
	return answer, err
}

func (a *API) serve(r *http.Request) (*Answer, error) {
	operator, err := a.Operator(r, Scope)
	if err != nil {
		return nil, err
	}
	ev := audit.Of(r.Context())
	if err := a.Ready(); err != nil {
		return nil, err
	}
	q, err := read(r)
	if err != nil {
		return nil, err
	}
	ev.Client(q.ServiceAccount, "")
	ev.Prop("reason", q.Reason, audit.None)
	c, err := a.Clients.Client(r.Context(), q.ServiceAccount)
	if errors.Is(err, store.ErrNotFound) || err == nil && !c.Service {
		return nil, problem.New(problem.NotFound, "there is no such service account; register the client with service_account true")
	}
	if err != nil {
		return nil, err
	}
	g := mint.Grant{
		Subject: c.ID, ClientID: c.ID, AllTenants: c.AllTenants, Service: c.ID, JKT: q.JKT,
		Actor: operator, Reason: q.Reason, Lifetime: time.Duration(q.ExpiresIn) * time.Second,
	}
	if g.Tenant, err = token.ChooseTenant(c, q.Tenant, a.KnownTenant); err != nil {
		return nil, invalid(err)
	}
	if g.Audience, err = token.ChooseAudience(c, q.Audience, ""); err != nil {
		return nil, invalid(err)
	}
	if g.Scopes, g.Scope, err = token.ChooseScopes(c, strings.Join(q.Scopes, " ")); err != nil {
		return nil, invalid(err)
	}
	ev.Tenant(g.Tenant)
	ev.Scopes(g.Scopes)
	key, err := a.Minter.Key()
	if err != nil {
		return nil, err
	}
	t, err := a.Minter.Mint(key, &g, a.Now())
	if err != nil {
		return nil, err
	}
	ev.Prop("token.jti", t.JTI, audit.None)
	ev.Prop("token.kid", t.KID, audit.None)
	return &Answer{
		AccessToken: t.Compact, TokenType: g.Type(), ExpiresIn: t.Lifetime(), Scope: g.Scope, JTI: t.JTI, KID: t.KID,
	}, nil
}

// thumbprint is the form of a SHA-256 JWK thumbprint (RFC 7638).
var thumbprint = regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`)

func read(r *http.Request) (*Request, error) {
	if r.Header.Get("Content-Type") != "application/json" {
		return nil, problem.New(problem.Invalid, "the content type must be application/json")
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil || len(body) > maxBody {
		return nil, problem.New(problem.Invalid, "the body is larger than 16 KiB or cannot be read")
	}
	var q Request
	if err := jose.DecodeStrict(body, &q); err != nil {
		return nil, problem.New(problem.Invalid, "the body is not a request for a token: "+err.Error())
	}
	bad := ""
	switch {
	case q.ServiceAccount == "":
		bad = "service_account is missing"
	case q.Tenant == "":
		bad = "tenant is missing: a token made by hand says for which tenant"
	case strings.TrimSpace(q.Reason) == "" || len(q.Reason) > maxReason || strings.ContainsFunc(q.Reason, unicode.IsControl):
		bad = "reason must say why, in 1 to 500 bytes without control characters"
	case q.ExpiresIn < 0 || q.ExpiresIn > 3600:
		bad = "expires_in must be 0 to 3600 seconds"
	case q.JKT != "" && !thumbprint.MatchString(q.JKT):
		bad = "jkt is not a SHA-256 thumbprint"
	}
	if bad != "" {
		return nil, problem.New(problem.Invalid, bad)
	}
	return &q, nil
}

// invalid says a refusal of the token endpoint's rules as this API does.
func invalid(err error) error {
	return problem.New(problem.Invalid, wire.AsRefusal(err).Description)
}
