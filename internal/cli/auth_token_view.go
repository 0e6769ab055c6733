package cli

import (
	"strings"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/oauth"
	"github.com/stella-ops/stella/internal/ui"
)

// bindingView says what a token is bound to.
type bindingView struct {
	Type string `json:"type"`               // "dpop", "certificate" (without a DPoP key) or "none"
	JKT  string `json:"jkt,omitempty"`      // thumbprint of the key
	X5T  string `json:"x5t_s256,omitempty"` // of the certificate
}

func viewBinding(jkt, x5t string) bindingView {
	v := bindingView{Type: "none", JKT: jkt, X5T: x5t}
	switch {
	case jkt != "":
		v.Type = "dpop"
	case x5t != "":
		v.Type = "certificate"
	}
	return v
}

// tokenView is a token without the token.
type tokenView struct {
	Issuer    string      `json:"issuer"`
	ClientID  string      `json:"client_id"`
	Tenant    string      `json:"tenant,omitempty"`
	Audience  string      `json:"audience,omitempty"`
	Scopes    []string    `json:"scopes"`
	TokenType string      `json:"token_type"`
	Binding   bindingView `json:"binding"`
	IssuedAt  time.Time   `json:"issued_at,omitzero"`
	ExpiresAt time.Time   `json:"expires_at,omitzero"`
	ExpiresIn int64       `json:"expires_in_s"`

	// Of a person's token.
	Subject      string    `json:"subject,omitempty"`
	Username     string    `json:"username,omitempty"`
	AuthTime     time.Time `json:"auth_time,omitzero"`     // when the person logged in
	Refreshable  bool      `json:"refreshable"`            // a new one can be had without a login
	RefreshUntil time.Time `json:"refresh_until,omitzero"` // as far as that is known
}

func viewToken(t *oauth.Token, now time.Time) tokenView {
	v := tokenView{
		Issuer: t.Issuer, ClientID: t.ClientID, Tenant: t.Tenant, Audience: t.Audience,
		Scopes: append([]string{}, t.Scopes...), TokenType: t.Type, Binding: viewBinding(t.JKT, t.X5T),
		Refreshable: t.Refreshable(now), RefreshUntil: t.RefreshUntil,
		IssuedAt: t.IssuedAt.UTC(), ExpiresAt: t.ExpiresAt.UTC(),
	}
	if t.IssuedAt.IsZero() {
		v.IssuedAt = time.Time{}
	}
	if t.ExpiresAt.IsZero() {
		v.ExpiresAt = time.Time{}
	} else {
		v.ExpiresIn = max(0, int64(t.ExpiresAt.Sub(now)/time.Second))
	}
	v.fill(t)
	return v
}

// fill takes what the configuration left to the Authority from the token
// itself, where that is a JWT.
func (v *tokenView) fill(t *oauth.Token) {
	_, claims, err := t.Unverified()
	if err != nil {
		return
	}
	if v.Tenant == "" {
		_, _ = claims.Decode("stellaops:tenant", &v.Tenant)
	}
	if v.Audience == "" && len(claims.Audience) == 1 {
		v.Audience = claims.Audience[0]
	}
	var person personView
	if person.read(claims) == nil && person.Username != "" {
		v.Subject, v.Username, v.AuthTime = claims.Subject, person.Username, person.AuthTime
	}
}

// personView is what a token says about a person.
type personView struct {
	Username string    `json:"username,omitempty"`
	AuthTime time.Time `json:"auth_time,omitzero"`
}

func (v *personView) read(c *jose.Claims) error {
	if _, err := c.Decode("preferred_username", &v.Username); err != nil {
		return fault.Errorf(fault.Trust, "claim %q of the token: %w", "preferred_username", err)
	}
	var at int64
	ok, err := c.Decode("auth_time", &at)
	if err != nil || at < 0 || at >= 7258118400 {
		return fault.Errorf(fault.Trust, "claim %q of the token is no time", "auth_time")
	}
	if ok {
		v.AuthTime = time.Unix(at, 0).UTC()
	}
	return nil
}

// pairs is the text form of v.
func (v tokenView) pairs() []ui.Pair {
	pairs := []ui.Pair{{Key: "issuer", Value: ui.C(v.Issuer)}}
	if v.Username != "" {
		pairs = append(pairs, ui.Pair{Key: "user", Value: ui.C(v.Username)})
	}
	pairs = append(pairs, []ui.Pair{
		{Key: "client", Value: ui.C(v.ClientID)},
		{Key: "tenant", Value: ui.C(v.Tenant)},
		{Key: "audience", Value: ui.C(v.Audience)},
		{Key: "scopes", Value: ui.C(strings.Join(v.Scopes, " "))},
		{Key: "binding", Value: ui.C(v.Binding.text())},
		{Key: "expires", Value: ui.C(expiryText(v.ExpiresAt, v.ExpiresIn))},
	}...)
	if v.Refreshable {
		pairs = append(pairs, ui.Pair{Key: "refresh", Value: ui.C(v.refreshText())})
	}
	return pairs
}

// refreshText says how long no new login is needed.
func (v tokenView) refreshText() string {
	if v.RefreshUntil.IsZero() {
		return "without a new login, until the Authority ends it"
	}
	return "without a new login until " + v.RefreshUntil.Format(time.RFC3339)
}

func (b bindingView) text() string {
	switch {
	case b.JKT != "" && b.X5T != "":
		return "DPoP key " + b.JKT + " and certificate " + b.X5T
	case b.JKT != "":
		return "DPoP key " + b.JKT
	case b.X5T != "":
		return "certificate " + b.X5T
	}
	return "none (bearer: whoever has it can use it)"
}

func expiryText(at time.Time, in int64) string {
	switch {
	case at.IsZero():
		return "not known"
	case in <= 0:
		return at.Format(time.RFC3339) + " (expired)"
	}
	return at.Format(time.RFC3339) + " (in " + (time.Duration(in) * time.Second).String() + ")"
}
