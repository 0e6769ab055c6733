// Package token is the token endpoint (RFC 6749) for the grants
// client_credentials, device code (RFC 8628) and refresh_token, with DPoP (RFC
// 9449) and certificate-bound tokens (RFC 8705).
//
// It guarantees that a token is issued only to an authenticated client, for
// one assigned tenant, one assigned audience and assigned scopes; that a DPoP
// proof, a client assertion, a device code and a refresh token work once; that
// nothing is issued when that cannot be decided (503, never open); that what
// was granted is used up last, so a request that fails before has cost nothing
// but its proof; and that a request which is told to come back with a nonce
// has used up neither its assertion nor its proof. Tokens and secrets are
// never logged.
package token

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/stella-ops/stella/internal/authority/audit"
	"github.com/stella-ops/stella/internal/authority/clientauth"
	"github.com/stella-ops/stella/internal/authority/clients"
	"github.com/stella-ops/stella/internal/authority/device"
	"github.com/stella-ops/stella/internal/authority/mint"
	"github.com/stella-ops/stella/internal/authority/refresh"
	"github.com/stella-ops/stella/internal/authority/users"
	"github.com/stella-ops/stella/internal/authority/wire"
	"github.com/stella-ops/stella/internal/httpd"
)

// Settings are what a reload may change. A Settings is never changed in place.
type Settings struct {
	URLs            []string // of the token endpoint, as clients know it on each listener
	RefreshLifetime time.Duration
	Skew            time.Duration // of the clocks of clients
	ProofAge        time.Duration // oldest DPoP proof
	RequireNonce    bool
	// NonceAudiences need a nonce even where RequireNonce is false.
	NonceAudiences []string
	KnownTenant    func(id string) bool
}

// DeviceCodes tells what became of device codes; *device.Codes.
type DeviceCodes interface {
	Check(ctx context.Context, deviceCode, clientID string) (*device.Approval, error)
	Redeem(ctx context.Context, a *device.Approval) error
}

// People tells who can log in; *users.Directory.
type People interface {
	Current(ctx context.Context, name, subject string) (*users.Person, error)
}

// OnceProof is the kind of single-use identifier of a DPoP proof.
const OnceProof = "dpop"

// Deps are what the endpoint works with. All are required.
type Deps struct {
	Settings func() *Settings
	Auth     *clientauth.Authenticator
	Once     clientauth.Once
	Minter   *mint.Minter
	Devices  DeviceCodes
	Families *refresh.Families
	People   People
	// Revoked reports whether what a person or a client was given at a time
	// has been revoked since.
	Revoked func(ctx context.Context, subject, clientID string, given time.Time) (bool, error)
	// Nonces is nil until the shared secret is known.
	Nonces func() *Nonces
	// Outcome is told how each request ended: "issued" or an error code, and
	// the HTTP status.
	Outcome func(grant, outcome string, status int)
	// Ready says why nothing can be decided now, so that a request need not
	// wait for a database that is known to be down.
	Ready func() error
	Now   func() time.Time
	Log   *slog.Logger
}

// Endpoint serves POST /token.
type Endpoint struct{ Deps }

// request is one request in the making of its answer.
type request struct {
	*http.Request
	form *wire.Form
	set  *Settings
	who  *clientauth.Identity
	now  time.Time
}

// plan is what a grant decided: the token to mint, and what must be used up
// before it may be handed out.
type plan struct {
	grant mint.Grant
	// bound judges the keys that the request has proved; nil accepts all.
	bound func(jkt, x5t string) error
	// commit uses up what was granted and returns a refresh token, or "".
	// Nil: there is nothing to use up.
	commit func(ctx context.Context, t *mint.Token, g *mint.Grant) (string, error)
	// until is when the refresh tokens of this login end.
	until time.Time
}

type grant struct {
	label string // in metrics and in the names of audit events
	judge func(*Endpoint, *request) (*plan, error)
}

// grantOf is how to get a token by a grant_type; false: not at all.
func grantOf(name string) (grant, bool) {
	switch name {
	case clients.GrantCredentials:
		return grant{"client_credentials", (*Endpoint).credentials}, true
	case clients.GrantDevice:
		return grant{"device_code", (*Endpoint).device}, true
	case clients.GrantRefresh:
		return grant{"refresh_token", (*Endpoint).refresh}, true
	}
	return grant{}, false
}

// ServeHTTP implements http.Handler.
func (e *Endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var nonce string
	if n := e.Nonces(); n != nil {
		nonce = n.New(e.Now())
	}
	label, out, err := e.serve(r)
	if err != nil {
		e.refuse(w, r, label, nonce, err)
		return
	}
	e.Outcome(label, "issued", http.StatusOK)
	out.audit(audit.Of(r.Context()), label)
	out.write(w, nonce)
}

// serve judges the whole request before it uses up anything, so that a client
// which is refused can correct one thing and come back.
func (e *Endpoint) serve(r *http.Request) (label string, out *answer, err error) {
	f, err := wire.ReadForm(r)
	if err != nil {
		return "", nil, err
	}
	name := f.Get("grant_type")
	g, known := grantOf(name)
	switch {
	case name == "":
		return "", nil, wire.Refuse(wire.InvalidRequest, "grant_type is missing")
	case !known:
		return "", nil, wire.Refuse(wire.UnsupportedGrant, "supported are client_credentials, device_code and refresh_token")
	}
	if err := e.Ready(); err != nil {
		return g.label, nil, wire.Unavailable(err)
	}
	// The time is taken only now: a body may arrive slowly, and times must be
	// judged as of the moment at which they are judged.
	q := &request{Request: r, form: f, set: e.Settings(), now: e.Now()}
	if q.who, err = e.Auth.Authenticate(r, f); err != nil {
		return g.label, nil, err
	}
	audit.Of(r.Context()).Client(q.who.Client.ID, q.who.Client.Name)
	if !q.who.Client.Uses(name) {
		return g.label, nil, wire.Refuse(wire.UnauthorizedClient, "the client may not use this grant")
	}
	p, err := g.judge(e, q)
	if err != nil {
		return g.label, nil, err
	}
	out, err = e.issue(q, p)
	return g.label, out, err
}

// issue binds the token to what the sender proves, mints it and, last, uses up
// what it was granted for: a token that is lost on the way was never anybody's.
func (e *Endpoint) issue(q *request, p *plan) (*answer, error) {
	if !q.who.Vouched(p.grant.Tenant) {
		return nil, wire.Refuse(wire.UnauthorizedClient, "the certificate is not vouched for by this tenant")
	}
	if p.grant.AllTenants != "" {
		all := slices.DeleteFunc(strings.Fields(p.grant.AllTenants), func(t string) bool { return !q.who.Vouched(t) || !q.set.KnownTenant(t) })
		if p.grant.AllTenants = ""; len(all) > 1 {
			p.grant.AllTenants = strings.Join(all, " ")
		}
	}
	proof, err := e.bind(q, &p.grant)
	if err != nil {
		return nil, err
	}
	if p.bound != nil {
		if err := p.bound(p.grant.JKT, p.grant.X5T); err != nil {
			return nil, err
		}
	}
	key, err := e.Minter.Key()
	if err != nil {
		return nil, err
	}
	if err := e.use(q, proof); err != nil {
		return nil, err
	}
	t, err := e.Minter.Mint(key, &p.grant, q.now)
	if err != nil {
		return nil, err
	}
	out := &answer{token: t, grant: &p.grant, until: p.until}
	if p.commit != nil {
		if out.refresh, err = p.commit(q.Context(), t, &p.grant); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// refuse answers with err.
func (e *Endpoint) refuse(w http.ResponseWriter, r *http.Request, label, nonce string, err error) {
	ref := wire.AsRefusal(err)
	e.Outcome(label, ref.Code, ref.StatusCode())
	httpd.Annotate(r.Context(), slog.String("outcome", ref.Code), slog.Any("err", err))
	if ref.Code != wire.AuthorizationPending { // which is how waiting goes, every few seconds
		ev := audit.Of(r.Context())
		ev.Set(eventName(label))
		ev.Outcome(audit.OutcomeOf(ref.StatusCode()), ref.Code)
	}
	if ref.StatusCode() >= 500 {
		e.Log.LogAttrs(r.Context(), slog.LevelError, "token request cannot be decided",
			slog.String("request_id", httpd.RequestID(r.Context())), slog.Any("err", err))
	}
	if nonce != "" {
		w.Header()["Dpop-Nonce"] = []string{nonce}
	}
	wire.WriteError(w, err)
}

// eventName is the audit event of a grant.
func eventName(label string) string {
	if label == "" {
		return audit.TypeToken
	}
	return "authority." + label + ".grant"
}
