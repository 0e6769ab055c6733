package cli

import (
	"strings"
	"time"

	"github.com/stella-ops/stella/internal/oauth"
	"github.com/stella-ops/stella/internal/ui"
)

// bindingView says which key a token is bound to.
type bindingView struct {
	Type string `json:"type"` // "dpop" or "none"
	JKT  string `json:"jkt,omitempty"`
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
}

func viewToken(t *oauth.Token, now time.Time) tokenView {
	v := tokenView{
		Issuer: t.Issuer, ClientID: t.ClientID, Tenant: t.Tenant, Audience: t.Audience,
		Scopes: append([]string{}, t.Scopes...), TokenType: t.Type, Binding: bindingView{Type: "none"},
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
	if t.JKT != "" {
		v.Binding = bindingView{Type: "dpop", JKT: t.JKT}
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
}

// pairs is the text form of v.
func (v tokenView) pairs() []ui.Pair {
	return []ui.Pair{
		{Key: "issuer", Value: ui.C(v.Issuer)},
		{Key: "client", Value: ui.C(v.ClientID)},
		{Key: "tenant", Value: ui.C(v.Tenant)},
		{Key: "audience", Value: ui.C(v.Audience)},
		{Key: "scopes", Value: ui.C(strings.Join(v.Scopes, " "))},
		{Key: "binding", Value: ui.C(v.Binding.text())},
		{Key: "expires", Value: ui.C(expiryText(v.ExpiresAt, v.ExpiresIn))},
	}
}

func (b bindingView) text() string {
	if b.Type == "dpop" {
		return "DPoP key " + b.JKT
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
