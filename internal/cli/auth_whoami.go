package cli

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/oauth"
	"github.com/stella-ops/stella/internal/ui"
)

// SchemaAuthWhoami is the schema of what auth whoami prints as JSON.
const SchemaAuthWhoami = "stella.auth.whoami/v1"

type authWhoamiOptions struct{ want tokenWant }

func (o *authWhoamiOptions) addFlags(f *pflag.FlagSet) { o.want.addFlags(f) }

func newAuthWhoamiCmd(app *App) *cobra.Command {
	var opts authWhoamiOptions
	cmd := &cobra.Command{
		Use:   "whoami",
		Short: "Show who the cached token says you are",
		Long: long(`Show the claims of the cached token: subject, client, tenant, scopes, audience,
the key it is bound to, expiry, and the key that signed it. The token is
verified against the Authority's published keys, as a relying service would do
it; with --offline that step is left out and said so.

Without --scope, --audience or --tenant, the cached token that lives longest is
shown. A person's token that has expired is refreshed first; otherwise no token
is fetched: log in first.`, fault.Denied, fault.Transient, fault.Trust, fault.Config),
		Example: `  stella auth whoami
  stella auth whoami --scope signer.sign --output json
  stella auth whoami --offline`,
		Args:              noArgs(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return runAuthWhoami(cmd.Context(), app, opts) },
	}
	opts.addFlags(cmd.Flags())
	return cmd
}

// claimsView is a token's claims. Members that the token does not have are
// left out.
type claimsView struct {
	Verified  bool        `json:"verified"`
	Issuer    string      `json:"issuer"`
	Subject   string      `json:"subject,omitempty"`
	ClientID  string      `json:"client_id,omitempty"`
	Tenant    string      `json:"tenant,omitempty"`
	Audience  []string    `json:"audience"`
	Scopes    []string    `json:"scopes"`
	TokenType string      `json:"token_type"`
	Binding   bindingView `json:"binding"`
	KID       string      `json:"kid,omitempty"`
	Alg       string      `json:"alg,omitempty"`
	JTI       string      `json:"jti,omitempty"`
	IssuedAt  time.Time   `json:"issued_at,omitzero"`
	NotBefore time.Time   `json:"not_before,omitzero"`
	ExpiresAt time.Time   `json:"expires_at,omitzero"`
	ExpiresIn int64       `json:"expires_in_s"`
	personView
	Refreshable  bool      `json:"refreshable"`
	RefreshUntil time.Time `json:"refresh_until,omitzero"`
}

func runAuthWhoami(ctx context.Context, app *App, opts authWhoamiOptions) error {
	s, err := openAuth(app, opts.want)
	if err != nil {
		return err
	}
	defer s.close()
	t, err := s.cached(ctx, opts.want)
	if err != nil {
		return err
	}
	v, err := s.lookInto(ctx, t)
	s.close()
	if err != nil {
		return err
	}
	return app.Streams.Render(SchemaAuthWhoami, v, v.text)
}

// cached picks the token that flags name, or the one that lives longest. A
// person's token that has expired is refreshed if it is the configured one.
func (s *authSession) cached(ctx context.Context, want tokenWant) (*oauth.Token, error) {
	t, err := s.client.Cached()
	if err != nil || s.static() {
		return t, err
	}
	if want.given() {
		if t != nil && t.Valid(s.app.Now()) {
			return t, nil
		}
	} else {
		list, err := s.client.List()
		if err != nil {
			return nil, err
		}
		if len(list) > 0 && list[0].Token != nil && list[0].Valid(s.app.Now()) {
			return list[0].Token, nil
		}
	}
	if t != nil && t.Refreshable(s.app.Now()) && !s.config.Offline {
		return s.client.Token(ctx)
	}
	return nil, fault.Errorf(fault.Denied, "no cached token for %s is good", s.client.Issuer()).
		Hint("stella auth login%s", want.flags())
}

// describe tells what is known of t without looking into it.
func (s *authSession) describe(t *oauth.Token) *claimsView {
	base := viewToken(t, s.app.Now())
	v := &claimsView{
		Issuer: base.Issuer, ClientID: base.ClientID, Tenant: base.Tenant, Audience: []string{}, Scopes: base.Scopes,
		TokenType: base.TokenType, Binding: base.Binding, IssuedAt: base.IssuedAt, ExpiresAt: base.ExpiresAt, ExpiresIn: base.ExpiresIn,
		Refreshable: base.Refreshable, RefreshUntil: base.RefreshUntil,
	}
	if base.Audience != "" {
		v.Audience = []string{base.Audience}
	}
	return v
}

// lookInto verifies t unless offline, and lists its claims. An opaque token
// says nothing without its Authority, and cannot be verified.
func (s *authSession) lookInto(ctx context.Context, t *oauth.Token) (*claimsView, error) {
	v := s.describe(t)
	jws, claims, err := t.Unverified()
	switch {
	case !s.config.Offline:
		sure, err := s.client.Verify(ctx, t)
		if err != nil {
			return nil, err
		}
		v.Verified, claims = true, sure.Claims
	case err != nil:
		return v, nil
	}
	v.KID, v.Alg = jws.Header.KeyID, string(jws.Header.Alg)
	return v, v.read(claims, s.app.Now())
}

// read takes what contracts 1.4 names from the claims.
func (v *claimsView) read(c *jose.Claims, now time.Time) error {
	v.Issuer, v.Subject, v.JTI, v.Audience = c.Issuer, c.Subject, c.ID, append([]string{}, c.Audience...)
	v.IssuedAt, v.NotBefore, v.ExpiresAt = c.IssuedAt.UTC(), c.NotBefore.UTC(), c.Expiry.UTC()
	v.ExpiresIn = max(0, int64(c.Expiry.Sub(now)/time.Second))
	var scope string
	var list []string
	var cnf struct {
		JKT string `json:"jkt"`
		X5T string `json:"x5t#S256"`
	}
	for name, into := range map[string]any{"client_id": &v.ClientID, "stellaops:tenant": &v.Tenant, "scope": &scope, "scp": &list, "cnf": &cnf} {
		if _, err := c.Decode(name, into); err != nil {
			return fault.Errorf(fault.Trust, "claim %q of the token: %w", name, err)
		}
	}
	v.Scopes = append(strings.Fields(scope), list...)
	slices.Sort(v.Scopes)
	v.Scopes = append([]string{}, slices.Compact(v.Scopes)...)
	v.Binding = viewBinding(cnf.JKT, cnf.X5T)
	return v.personView.read(c)
}

func (v *claimsView) text(p *ui.Page) {
	verified := ui.T(ui.Good, "yes, against the Authority's published keys")
	switch {
	case !v.Verified && v.KID == "":
		verified = ui.T(ui.Warn, "no: the token is opaque")
	case !v.Verified:
		verified = ui.T(ui.Warn, "no: offline")
	}
	pairs := []ui.Pair{{Key: "subject", Value: ui.C(v.Subject)}}
	if v.Username != "" {
		pairs = append(pairs, ui.Pair{Key: "user", Value: ui.C(v.Username)})
	}
	if !v.AuthTime.IsZero() {
		pairs = append(pairs, ui.Pair{Key: "logged in", Value: ui.C(v.AuthTime.Format(time.RFC3339))})
	}
	pairs = append(pairs,
		ui.Pair{Key: "client", Value: ui.C(v.ClientID)},
		ui.Pair{Key: "tenant", Value: ui.C(v.Tenant)},
		ui.Pair{Key: "scopes", Value: ui.C(strings.Join(v.Scopes, " "))},
		ui.Pair{Key: "audience", Value: ui.C(strings.Join(v.Audience, " "))},
		ui.Pair{Key: "issuer", Value: ui.C(v.Issuer)},
		ui.Pair{Key: "binding", Value: ui.C(v.Binding.text())},
		ui.Pair{Key: "expires", Value: ui.C(expiryText(v.ExpiresAt, v.ExpiresIn))},
		ui.Pair{Key: "signed by", Value: ui.C(strings.TrimSpace(v.KID + " " + v.Alg))},
		ui.Pair{Key: "verified", Value: verified},
	)
	if v.Refreshable {
		pairs = append(pairs, ui.Pair{Key: "refresh", Value: ui.C(tokenView{RefreshUntil: v.RefreshUntil}.refreshText())})
	}
	p.Pairs(pairs...)
}
