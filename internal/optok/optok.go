// Package optok checks the access tokens (OpToks) that come with requests to a
// resource server.
//
// It guarantees that a request is accepted only with one JWT access token (RFC
// 9068, typ at+jwt) of the expected issuer and audience, signed by a key that
// the issuer publishes now and valid at this time; that a token bound to a key
// (cnf.jkt) is accepted only under the scheme DPoP with a fresh proof for this
// very request and token (RFC 9449 section 7), one bound to a certificate
// (cnf.x5t#S256) only over a TLS connection with that client certificate (RFC
// 8705 section 3), and one bound to both only with both; that a binding it does
// not understand is refused; that a revoked token is refused where revocations
// are followed; and that a question which cannot be decided now is answered
// with 503, never with yes.
package optok

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/jose/dpop"
	"github.com/stella-ops/stella/internal/jose/jwks"
)

// Keys finds the issuer's key with that kid. jwks.ErrUnknownKey means that
// there is none; any other error, that it cannot be told now. The method Key
// of jwks.Remote is one.
type Keys func(ctx context.Context, kid string) (jose.Key, error)

// Replay reports true to exactly one caller for each key until the time given.
// An error means that it cannot be told now.
type Replay func(ctx context.Context, key string, until time.Time) (fresh bool, err error)

// Verifier checks the token of a request. It is not changed after its first
// use and is safe for concurrent use.
type Verifier struct {
	Issuer   string // exact
	Audience string // must be among the token's audiences
	// BaseURL is this server's URL as callers know it, without trailing
	// slash; with the request's path it makes the htu that a proof must name.
	BaseURL string
	Keys    Keys
	Replay  Replay        // required: without it, bound tokens are answered with 503
	Skew    time.Duration // allowed between clocks; 0 means none
	// ProofAge is the oldest accepted proof; 0 means 30 s.
	ProofAge time.Duration
	Algs     []jose.Alg // of tokens; empty means ES256 and EdDSA
	// CheckNonce, when set, demands a nonce in proofs; NewNonce makes one.
	CheckNonce func(nonce string, now time.Time) error
	NewNonce   func(now time.Time) string
	// Revoked, when set, is asked last about every token that is acceptable
	// otherwise: 401 when it is revoked, 503 on an error. The method Check of
	// Revocations is one.
	Revoked func(ctx context.Context, p *Principal) (reason string, revoked bool, err error)
	Now     func() time.Time // nil means time.Now
}

// Principal is who sent a verified request.
type Principal struct {
	Subject        string
	ClientID       string
	Tenant         string   // stellaops:tenant, else tid; may be empty
	AllowedTenants []string // stellaops:allowed_tenants
	Scopes         []string // scope and scp together, sorted
	JKT            string   // RFC 7638 thumbprint of the key that the token is bound to, or empty
	X5T            string   // RFC 8705 thumbprint of the client certificate that the token is bound to, or empty
	Actor          string   // act.sub: who acts in the subject's name; may be empty
	TokenID        string
	KID            string
	IssuedAt       time.Time
	Expiry         time.Time
}

// Has reports whether the token carries a scope, compared exactly.
func (p *Principal) Has(scope string) bool {
	_, ok := slices.BinarySearch(p.Scopes, scope)
	return ok
}

// Require returns an insufficient_scope refusal unless all scopes are there.
func (p *Principal) Require(scopes ...string) error {
	for _, s := range scopes {
		if !p.Has(s) {
			return &Error{
				Status: http.StatusForbidden, Code: CodeScope, Description: "the token lacks a scope",
				Scope: strings.Join(scopes, " "), dpop: p.JKT != "",
			}
		}
	}
	return nil
}

// Verify checks the token of r. Every error is an *Error.
func (v *Verifier) Verify(r *http.Request) (*Principal, error) {
	at := v.now()
	token, bound, err := credentials(r)
	if err != nil {
		return nil, err
	}
	p, err := v.token(r.Context(), token, bound, at)
	if err != nil {
		return nil, err
	}
	switch {
	case p.JKT != "" && !bound:
		return nil, invalidToken(true, "a bound token needs the scheme DPoP and a proof", nil)
	case p.JKT == "" && bound:
		return nil, invalidToken(true, "the token is not bound to a key", nil)
	}
	// Before the proof: a caller without the certificate must not use it up.
	if err := certificate(r, p, bound); err != nil {
		return nil, err
	}
	if bound {
		if err := v.proof(r, token, p.JKT, at); err != nil {
			return nil, err
		}
	}
	if err := v.revoked(r.Context(), p, bound); err != nil {
		return nil, err
	}
	return p, nil
}

// credentials takes the token from the Authorization header, the only place
// it may be in.
func credentials(r *http.Request) (token string, bound bool, err error) {
	if strings.Contains(r.URL.RawQuery, "access_token=") {
		return "", false, &Error{Status: http.StatusBadRequest, Code: CodeRequest, Description: "tokens in the URL are not accepted"}
	}
	values := r.Header["Authorization"]
	switch {
	case len(values) == 0:
		return "", false, &Error{Status: http.StatusUnauthorized}
	case len(values) > 1:
		return "", false, &Error{Status: http.StatusBadRequest, Code: CodeRequest, Description: "more than one Authorization header"}
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	switch {
	case strings.EqualFold(scheme, "DPoP"):
		bound = true
	case !strings.EqualFold(scheme, "Bearer"):
		return "", false, &Error{Status: http.StatusUnauthorized}
	}
	if token == "" || strings.ContainsAny(token, " \t,") {
		return "", false, invalidToken(bound, "the credentials are not one token", nil)
	}
	return token, bound, nil
}

// proof checks the DPoP proof of r and uses it up.
func (v *Verifier) proof(r *http.Request, token, jkt string, now time.Time) error {
	check := dpop.Check{
		Method: r.Method, URL: v.BaseURL + r.URL.EscapedPath(), Now: now,
		MaxAge: v.ProofAge, MaxAhead: v.ahead(), AccessToken: token,
	}
	if v.CheckNonce != nil {
		check.Nonce = func(nonce string) error { return v.CheckNonce(nonce, now) }
	}
	p, err := dpop.Verify(r.Header.Values("DPoP"), check)
	switch {
	case errors.Is(err, dpop.ErrUseNonce):
		e := &Error{Status: http.StatusUnauthorized, Code: CodeNonce, Description: "use the nonce of this answer", dpop: true, Err: err}
		if v.NewNonce != nil {
			e.Nonce = v.NewNonce(now)
		}
		return e
	case err != nil:
		return &Error{Status: http.StatusUnauthorized, Code: CodeProof, Description: "the DPoP proof is missing or not valid", dpop: true, Err: err}
	case p.JKT != jkt:
		// RFC 9449 section 7.1: the token is not this sender's.
		return invalidToken(true, "the token is bound to another key", nil)
	case v.Replay == nil:
		return unavailable(errors.New("no replay store is configured"))
	case v.now().After(p.ReplayBy):
		return &Error{Status: http.StatusUnauthorized, Code: CodeProof, Description: "the DPoP proof has become too old", dpop: true}
	}
	fresh, err := v.Replay(r.Context(), p.ReplayKey, p.ReplayBy)
	if err != nil {
		return unavailable(err)
	}
	if !fresh {
		return &Error{Status: http.StatusUnauthorized, Code: CodeProof, Description: "the DPoP proof has been used before", dpop: true}
	}
	return nil
}

// key finds the key of a token.
func (v *Verifier) key(ctx context.Context, kid string, bound bool) (jose.Key, error) {
	if kid == "" {
		return jose.Key{}, invalidToken(bound, "the token names no key", nil)
	}
	key, err := v.Keys(ctx, kid)
	switch {
	case errors.Is(err, jwks.ErrUnknownKey):
		return jose.Key{}, invalidToken(bound, "the token's key is not published", err)
	case err != nil:
		return jose.Key{}, unavailable(err)
	}
	return key, nil
}

func (v *Verifier) now() time.Time {
	if v.Now != nil {
		return v.Now()
	}
	return time.Now()
}

// ahead is Skew for dpop.Check, to which 0 means its default.
func (v *Verifier) ahead() time.Duration {
	if v.Skew == 0 {
		return -1
	}
	return v.Skew
}
