// Package token is the token endpoint (RFC 6749) for the grant
// client_credentials, with client_secret_basic and private_key_jwt (RFC 7523)
// client authentication, DPoP (RFC 9449) and JWT access tokens (RFC 9068).
//
// It guarantees that a token is issued only to an authenticated client, for
// one assigned tenant, one assigned audience and assigned scopes; that a DPoP
// proof and a client assertion work once; that nothing is issued when that
// cannot be decided (503, never open); and that a request which is told to
// come back with a nonce has used up neither its assertion nor its proof.
// Tokens and secrets are never logged.
package token

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/stella-ops/stella/internal/authority/clients"
	"github.com/stella-ops/stella/internal/authority/store"
	"github.com/stella-ops/stella/internal/httpd"
	"github.com/stella-ops/stella/internal/jose"
)

// Settings are what a reload may change. A Settings is never changed in place.
type Settings struct {
	Issuer       string
	URL          string // of the token endpoint, as clients know it
	Lifetime     time.Duration
	Skew         time.Duration // of the clocks of clients
	ProofAge     time.Duration // oldest DPoP proof
	RequireNonce bool
	// NonceAudiences need a nonce even where RequireNonce is false.
	NonceAudiences []string
	KnownTenant    func(id string) bool
}

// Clients finds a client: store.ErrNotFound, or any other error when that
// cannot be told now.
type Clients interface {
	Client(ctx context.Context, id string) (*clients.Client, error)
}

// Once is store.Once without its housekeeping.
type Once interface {
	Once(ctx context.Context, kind, id string, until time.Time) (bool, error)
}

// Kinds of single-use identifiers.
const (
	OnceProof     = "dpop"
	OnceAssertion = "assertion"
)

// Issued describes a token that is about to be handed out.
type Issued struct {
	KID    string
	Expiry time.Time // whole seconds
}

// Deps are what the endpoint works with. All are required.
type Deps struct {
	Settings func() *Settings
	Clients  Clients
	Once     Once
	// Signer returns the active key's signer, or an error while nothing may
	// be signed.
	Signer func() (*jose.Signer, error)
	// MaxLifetime bounds the life of tokens by what the keyring's timetable
	// counts with.
	MaxLifetime func() time.Duration
	// Nonces is nil until the shared secret is known.
	Nonces func() *Nonces
	// Count is told of each token before it is handed out.
	Count func(Issued)
	// Outcome is told how each request ended: "issued" or an error code.
	Outcome func(grant, outcome string)
	// Ready says why nothing can be decided now, so that a request need not
	// wait for a database that is known to be down.
	Ready func() error
	Now   func() time.Time
	Log   *slog.Logger
}

// event names the line that each request leaves in the access log.
const event = "authority.client_credentials.grant"

// Endpoint serves POST /token.
type Endpoint struct {
	Deps
	dummy   dummyClient
	buffers bufferPool
	bound   atomic.Pointer[boundSigner]
}

// boundSigner is a signer with the header of access tokens already encoded.
type boundSigner struct {
	signer *jose.Signer
	kid    string
	bound  *jose.Bound
}

// bind encodes the header once for each signer.
func (e *Endpoint) bind(signer *jose.Signer) (*boundSigner, error) {
	if b := e.bound.Load(); b != nil && b.signer == signer {
		return b, nil
	}
	bound, err := signer.Bind(map[string]any{"typ": "at+jwt"})
	if err != nil {
		return nil, err
	}
	b := &boundSigner{signer, signer.Key().KeyID, bound}
	e.bound.Store(b)
	return b, nil
}

// New makes an Endpoint.
func New(d Deps) (*Endpoint, error) {
	dummy, err := newDummyClient()
	if err != nil {
		return nil, err
	}
	return &Endpoint{Deps: d, dummy: dummy}, nil
}

// ServeHTTP implements http.Handler.
func (e *Endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var nonce string
	if n := e.Nonces(); n != nil {
		nonce = n.New(e.Now())
	}
	grant, out, err := e.serve(r)
	if err != nil {
		e.refuse(w, r, grant, nonce, err)
		return
	}
	e.Outcome(grant, "issued")
	httpd.Annotate(r.Context(), slog.String("event", event), slog.String("outcome", "issued"),
		slog.String("client_id", out.client.ID), slog.String("tenant", out.tenant), slog.String("aud", out.audience),
		slog.String("kid", out.kid), slog.String("jti", out.jti), slog.String("jkt", out.jkt))
	out.write(w, &e.buffers, nonce)
}

// serve judges the whole request before it uses up anything, so that a client
// which is refused can correct one thing and come back.
func (e *Endpoint) serve(r *http.Request) (grant string, out *issuance, err error) {
	set := e.Settings()
	f, err := e.buffers.readForm(r)
	if err != nil {
		return "", nil, err
	}
	// Only now: a body may arrive slowly, and times must be judged as of the
	// moment at which they are judged.
	now := e.Now()
	switch f.grantType {
	case "client_credentials":
		grant = f.grantType
	case "":
		return "", nil, refusef(codeInvalidRequest, "grant_type is missing")
	default:
		return "", nil, refusef(codeUnsupportedGrant, "only client_credentials is supported")
	}
	if err := e.Ready(); err != nil {
		return grant, nil, unavailable(err)
	}
	who, err := e.authenticate(r, f, set, now)
	if err != nil {
		return grant, nil, err
	}
	out = &issuance{client: who.client, now: now}
	if out.tenant, err = chooseTenant(who.client, f.tenant, set.KnownTenant); err != nil {
		return grant, nil, err
	}
	if out.audience, err = chooseAudience(who.client, f.audience, f.resource); err != nil {
		return grant, nil, err
	}
	if out.scopes, out.scope, err = chooseScopes(who.client, f.scope); err != nil {
		return grant, nil, err
	}
	proof, err := e.proof(r, who.client, out.audience, set, now)
	if err != nil {
		return grant, nil, err
	}
	signer, err := e.Signer()
	if err != nil {
		return grant, nil, unavailable(err)
	}
	bound, err := e.bind(signer)
	if err != nil {
		return grant, nil, unavailable(err)
	}
	if err := e.use(r.Context(), who, proof); err != nil {
		return grant, nil, err
	}
	if proof != nil {
		out.jkt = proof.JKT
	}
	if err := e.issue(out, bound, set); err != nil {
		return grant, nil, unavailable(err)
	}
	return grant, out, nil
}

// once uses up one identifier.
func (e *Endpoint) once(ctx context.Context, kind, id string, until time.Time) (bool, error) {
	fresh, err := e.Once.Once(ctx, kind, id, until)
	if err != nil {
		return false, unavailable(err)
	}
	return fresh, nil
}

// unknown reports whether err says that there is no such client.
func unknown(err error) bool { return errors.Is(err, store.ErrNotFound) }
