// Package clientauth finds out which client a request comes from:
// client_secret_basic (RFC 6749), private_key_jwt (RFC 7523), tls_client_auth
// (RFC 8705), or none for a public client.
//
// It guarantees that a client is believed by exactly one method, the one it is
// registered for; that an assertion works once; that an unknown client, a
// wrong secret and another method get the same answer at the same cost; that a
// certificate is taken from the TLS connection only, never from a header; and
// that nobody is believed while that cannot be decided. Secrets and assertions
// are never logged.
package clientauth

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"errors"
	"net/http"
	"time"

	"github.com/stella-ops/stella/internal/authority/audit"
	"github.com/stella-ops/stella/internal/authority/clients"
	"github.com/stella-ops/stella/internal/authority/store"
	"github.com/stella-ops/stella/internal/authority/wire"
)

// Settings are what a reload may change. A Settings is never changed in place.
type Settings struct {
	// Audiences are what the aud of an assertion may be: the issuer and the
	// URL of the token endpoint.
	Audiences []string
	Skew      time.Duration // of the clocks of clients
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

// OnceAssertion is the kind of single-use identifier of an assertion.
const OnceAssertion = "assertion"

// Deps are what an Authenticator works with.
type Deps struct {
	Settings func() *Settings
	Clients  Clients
	Once     Once
	// Trust judges client certificates; nil refuses all.
	Trust *Trust
	// Admit is asked once for each request, with the id that it names if that
	// is a registered client's, else "", before anything is believed; a
	// Refusal ends the request. Nil admits all.
	Admit func(r *http.Request, clientID string) error
	Now   func() time.Time
}

// Authenticator finds out who asks. Safe for concurrent use.
type Authenticator struct {
	Deps
	nobody standIn
}

// New makes an Authenticator.
func New(d Deps) (*Authenticator, error) {
	nobody, err := newStandIn()
	if err != nil {
		return nil, err
	}
	return &Authenticator{Deps: d, nobody: nobody}, nil
}

// Identity is an authenticated client.
type Identity struct {
	Client *clients.Client
	// Certificate is what the client presented in TLS, nil without. Only with
	// tls_client_auth was its chain verified: else it proves possession of
	// its key and no more (RFC 8705 section 2.2 and 3).
	Certificate *x509.Certificate

	auth      *Authenticator
	trusted   []string // tenants whose roots the certificate leads to; tls_client_auth only
	once      string   // single-use id of an assertion, empty without one
	onceUntil time.Time
}

// Vouched reports whether the client may act in a tenant as far as its
// certificate goes: with tls_client_auth, the tenant's own roots must vouch
// for it.
func (i *Identity) Vouched(tenant string) bool {
	if i.Client.Method != clients.TLSClientAuth {
		return true
	}
	for _, t := range i.trusted {
		if t == tenant {
			return true
		}
	}
	return false
}

// Use uses up the client's assertion, if there was one. Errors are Refusals.
func (i *Identity) Use(ctx context.Context) error {
	if i.once == "" {
		return nil
	}
	fresh, err := i.auth.Once.Once(ctx, OnceAssertion, i.once, i.onceUntil)
	switch {
	case err != nil:
		return wire.Unavailable(err)
	case !fresh:
		return wire.Refuse(wire.InvalidClient, "the client assertion has been used before")
	}
	return nil
}

const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// Authenticate finds out who asks, by exactly one method. Nothing is used up.
// Errors are Refusals.
func (a *Authenticator) Authenticate(r *http.Request, f *wire.Form) (*Identity, error) {
	q := &query{a: a, r: r}
	id, err := q.method(f)
	// Who proves nothing counts as the address, whomever they name: else the
	// limit would tell which names are registered.
	who := ""
	if err == nil {
		who = id.Client.ID
	}
	if aerr := q.admit(who); aerr != nil {
		return nil, aerr
	}
	if err != nil {
		return nil, err
	}
	id.auth = a
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		id.Certificate = r.TLS.PeerCertificates[0]
	}
	return id, nil
}

// query is one authentication.
type query struct {
	a        *Authenticator
	r        *http.Request
	admitted bool
}

// admit asks whether the sender has not asked too often.
func (q *query) admit(clientID string) error {
	q.admitted = true
	if q.a.Admit == nil {
		return nil
	}
	return q.a.Admit(q.r, clientID)
}

func (q *query) method(f *wire.Form) (*Identity, error) {
	header := q.r.Header["Authorization"]
	assertion, typ, secret := f.Get("client_assertion"), f.Get("client_assertion_type"), f.Get("client_secret")
	asserted := assertion != "" || typ != ""
	switch {
	case len(header) > 1, len(header) == 1 && (asserted || secret != ""), asserted && secret != "":
		return nil, wire.Refuse(wire.InvalidRequest, "more than one way of client authentication")
	case len(header) == 1:
		return q.basic(header[0], f.Get("client_id"))
	case asserted:
		if typ != assertionType || assertion == "" {
			return nil, wire.Refuse(wire.InvalidClient, "client_assertion_type must be "+assertionType)
		}
		return q.assertion(assertion, f.Get("client_id"), q.a.Settings(), q.a.Now())
	case secret != "":
		return nil, wire.Refuse(wire.InvalidClient, "client_secret_post is not accepted; use client_secret_basic")
	case f.Get("client_id") == "":
		return nil, wire.Refuse(wire.InvalidClient, "client authentication is missing")
	}
	return q.named(f.Get("client_id"))
}

// basic checks client_secret_basic. A wrong secret, an unknown client and a
// client with another method cost the same and get the same answer.
func (q *query) basic(header, named string) (*Identity, error) {
	id, secret, ok := parseBasic(header)
	if !ok {
		return nil, wire.Refuse(wire.InvalidClient, "the Authorization header is not Basic credentials")
	}
	if named != "" && named != id {
		return nil, wire.Refuse(wire.InvalidRequest, "client_id differs from the authenticated client")
	}
	c, err := q.find(id)
	if err != nil {
		return nil, err
	}
	want := &q.a.nobody.hash
	if c != nil && c.Method == clients.SecretBasic {
		want = &c.SecretHash
	}
	have := sha256.Sum256([]byte(secret))
	if subtle.ConstantTimeCompare(have[:], want[:]) != 1 {
		return nil, errFailed()
	}
	return &Identity{Client: c}, nil
}

// named believes a client that only says its name: a public client, or one
// that has proved it in TLS.
func (q *query) named(id string) (*Identity, error) {
	c, err := q.find(id)
	if err != nil {
		return nil, err
	}
	switch {
	case c == nil:
		return nil, errFailed()
	case c.Method == clients.Public:
		return &Identity{Client: c}, nil
	case c.Method != clients.TLSClientAuth:
		return nil, errFailed()
	case q.r.TLS == nil || len(q.r.TLS.PeerCertificates) == 0:
		return nil, errFailed()
	}
	trusted, err := q.a.Trust.judge(q.r.TLS.PeerCertificates, c, q.a.Now())
	if err != nil {
		return nil, &wire.Refusal{Code: wire.InvalidClient, Description: "client authentication failed", Cause: err}
	}
	return &Identity{Client: c, trusted: trusted}, nil
}

// find returns the client, nil when there is none of that id, or a Refusal,
// and asks whether the request is admitted.
func (q *query) find(id string) (*clients.Client, error) {
	c, err := q.a.Clients.Client(q.r.Context(), id)
	switch {
	case errors.Is(err, store.ErrNotFound):
		// It may be a secret in the place of a name.
		audit.Of(q.r.Context()).Prop("request.client", id, audit.Sensitive)
		return nil, nil // nobody is an answer here, and costs what somebody costs
	case err != nil:
		return nil, wire.Unavailable(err)
	}
	audit.Of(q.r.Context()).Client(c.ID, c.Name) // whom it claims to be, until that is proved
	return c, nil
}

func errFailed() error { return wire.Refuse(wire.InvalidClient, "client authentication failed") }
