// Package mint signs access tokens, JWTs of RFC 9068 with the claims of the
// platform's operational token (OpTok), and reads them back.
//
// It guarantees that a token is signed only by the key that is active now,
// lives no longer than the timetable of the keys counts with, is counted
// before anybody can have it, and carries an id that was never used before.
// Tokens are never logged nor stored.
package mint

import (
	"crypto/rand"
	"sync/atomic"
	"time"

	"github.com/stella-ops/stella/internal/authority/wire"
	"github.com/stella-ops/stella/internal/jose"
)

// typ is the media type of an access token (RFC 9068 section 2.1).
const typ = "at+jwt"

// Grant is what a token says, all but who signs it and when.
type Grant struct {
	Subject    string
	ClientID   string
	Tenant     string
	AllTenants string // space-delimited; empty when there is one only
	Audience   string
	Scopes     []string // sorted
	Scope      string   // Scopes, space-delimited
	Roles      []string
	JKT        string    // thumbprint of the DPoP key (RFC 9449 section 6.1)
	X5T        string    // thumbprint of the certificate (RFC 8705 section 3.1)
	Service    string    // service_identity
	Actor      string    // who acts in the subject's name (RFC 8693 section 4.1)
	Reason     string    // why
	Name       string    // preferred_username
	AuthTime   time.Time // when a person has logged in
	// Lifetime, if shorter than what is configured.
	Lifetime time.Duration
}

// Type is the token_type of the answer (RFC 6749 section 7.1, RFC 9449 section
// 5): a token bound to a certificate is a bearer token by name.
func (g *Grant) Type() string {
	if g.JKT != "" {
		return "DPoP"
	}
	return "Bearer"
}

// Token is a signed token. Whoever has it can use it: it goes to the caller
// and nowhere else.
type Token struct {
	Compact  string
	KID, JTI string
	IssuedAt time.Time // whole seconds
	Expires  time.Time // whole seconds
}

// Lifetime returns how long the token lives, in seconds.
func (t *Token) Lifetime() int64 { return t.Expires.Unix() - t.IssuedAt.Unix() }

// Issued describes a token that is about to be handed out.
type Issued struct {
	KID    string
	Expiry time.Time // whole seconds
}

// Deps are what a Minter works with. All are required.
type Deps struct {
	Issuer func() string
	// Lifetime is how long a token lives; MaxLifetime bounds it by what the
	// timetable of the keys counts with.
	Lifetime, MaxLifetime func() time.Duration
	// Signer returns the active key's signer, or an error while nothing may
	// be signed.
	Signer func() (*jose.Signer, error)
	// Count is told of each token before it is signed.
	Count func(Issued)
}

// Minter makes tokens. Safe for concurrent use.
type Minter struct {
	Deps
	bound atomic.Pointer[Key]
}

// New makes a Minter.
func New(d Deps) *Minter { return &Minter{Deps: d} }

// Key is the active key at one time, ready to sign.
type Key struct {
	signer *jose.Signer
	kid    string
	bound  *jose.Bound
}

// Key returns the active key, or a Refusal while nothing may be signed. It is
// asked for before a request uses anything up.
func (m *Minter) Key() (*Key, error) {
	signer, err := m.Signer()
	if err != nil {
		return nil, wire.Unavailable(err)
	}
	// The header is encoded once for each signer.
	if k := m.bound.Load(); k != nil && k.signer == signer {
		return k, nil
	}
	bound, err := signer.Bind(map[string]any{"typ": typ})
	if err != nil {
		return nil, wire.Unavailable(err)
	}
	k := &Key{signer, signer.Key().KeyID, bound}
	m.bound.Store(k)
	return k, nil
}

// Mint signs a token. It is counted first: a token that is counted but never
// reaches its client only delays the retirement of a key. Errors are Refusals.
func (m *Minter) Mint(k *Key, g *Grant, now time.Time) (*Token, error) {
	life := min(m.Lifetime(), m.MaxLifetime())
	if g.Lifetime > 0 {
		life = min(life, g.Lifetime)
	}
	at := now.Truncate(time.Second)
	t := &Token{KID: k.kid, JTI: rand.Text(), IssuedAt: at, Expires: at.Add(life.Truncate(time.Second))}
	buf := wire.GetBuffer()
	defer wire.PutBuffer(buf)
	buf.Write(g.claims(buf.AvailableBuffer(), m.Issuer(), t))
	m.Count(Issued{KID: t.KID, Expiry: t.Expires})
	var err error
	if t.Compact, err = k.bound.Sign(buf.Bytes()); err != nil {
		return nil, wire.Unavailable(err)
	}
	return t, nil
}
