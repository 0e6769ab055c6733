// Package guard decides who may call the Authority's own APIs.
//
// It guarantees that a call is made either with the bootstrap key, compared in
// constant time, or with an access token of this Authority for its own
// audience that carries the scope asked for; that both at once are refused;
// and that nobody is let in while that cannot be decided. Where the operator of
// the site says so, callers from some networks may read without either, which
// is logged and told each time.
package guard

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"

	"github.com/stella-ops/stella/internal/authority/audit"
	"github.com/stella-ops/stella/internal/authority/problem"
	"github.com/stella-ops/stella/internal/optok"
	"github.com/stella-ops/stella/internal/secret"
)

// Audience is what a token for the Authority's own APIs must be for.
const Audience = "api://authority"

// BootstrapOperator is how a caller with the bootstrap key is recorded.
const BootstrapOperator = "bootstrap-key"

// clientOperator comes before the client_id of a caller with a token, so that
// no client can be named like a caller of another kind.
const clientOperator = "client:"

// personOperator comes before the subject of a person.
const personOperator = "person:"

// bypassOperator comes before the address of a caller who needed no token.
const bypassOperator = "bypass:"

// Guard checks callers. Safe for concurrent use.
type Guard struct {
	// Header is the name of the header that carries the bootstrap key.
	Header func() string
	// Key is the bootstrap key; an empty one lets nobody in.
	Key func() secret.Bytes
	// Verifier checks access tokens.
	Verifier *optok.Verifier
	// Bypass returns the address of a caller who may read without a token, and
	// tells whoever must know; ok is false for all others. Nil: nobody may.
	Bypass func(r *http.Request, scope string) (address string, ok bool)
}

// Bootstrap lets callers with the bootstrap key in, and nobody else.
func (g *Guard) Bootstrap(r *http.Request) error {
	values := r.Header.Values(g.Header())
	if len(values) == 1 && g.match(values[0]) {
		return nil
	}
	message := "the header " + g.Header() + " must carry the bootstrap key"
	if g.Key().Empty() {
		message = "no bootstrap key is configured, so this call is closed"
	}
	e := problem.New(problem.Unauthenticated, message)
	e.Challenge = `ApiKey header="` + g.Header() + `"`
	return e
}

// Operator lets callers in who have the bootstrap key or a token with scope,
// and returns who they are: BootstrapOperator, "client:" and the client_id,
// "person:" and the subject before it where a person uses that client, with
// ",for:" and the operator behind it where the token was minted for a service
// account, or "bypass:" and the address. The audit record names them.
func (g *Guard) Operator(r *http.Request, scope string) (who string, err error) {
	who, _, err = g.operator(r, scope)
	return who, err
}

// Firsthand is Operator for callers whose token was not itself minted by an
// operator: else such tokens could be renewed without end.
func (g *Guard) Firsthand(r *http.Request, scope string) (who string, err error) {
	who, minted, err := g.operator(r, scope)
	if err == nil && minted {
		return "", problem.New(problem.Denied, "a token that was minted for a service account cannot mint another")
	}
	return who, err
}

func (g *Guard) operator(r *http.Request, scope string) (who string, minted bool, err error) {
	defer func() {
		if err == nil {
			audit.Of(r.Context()).Prop("operator", who, audit.Personal)
		}
	}()
	if len(r.Header.Values(g.Header())) > 0 {
		if len(r.Header.Values("Authorization")) > 0 {
			return "", false, problem.New(problem.Invalid, "bootstrap key and access token together")
		}
		return BootstrapOperator, false, g.Bootstrap(r)
	}
	if len(r.Header.Values("Authorization")) == 0 && g.Bypass != nil && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
		// Only who sends no token at all: a bad one is never made good.
		if address, ok := g.Bypass(r, scope); ok {
			return bypassOperator + address, false, nil
		}
	}
	p, err := g.Verifier.Verify(r)
	if err != nil {
		return "", false, err
	}
	if err := p.Require(scope); err != nil {
		return "", false, err
	}
	who = clientOperator + p.ClientID
	if p.Subject != p.ClientID { // a person, with a program that many use
		who = personOperator + p.Subject + "," + who
	}
	if p.Actor != "" {
		who += ",for:" + p.Actor
	}
	return who, p.Actor != "", nil
}

// match compares hashes, so neither content nor length shows in the time.
func (g *Guard) match(given string) bool {
	key := g.Key()
	have := sha256.Sum256([]byte(given))
	want := sha256.Sum256(key.Reveal())
	return subtle.ConstantTimeCompare(have[:], want[:]) == 1 && !key.Empty()
}
