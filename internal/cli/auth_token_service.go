package cli

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/jose/dpop"
	"github.com/stella-ops/stella/internal/oauth"
	"github.com/stella-ops/stella/internal/secret"
	"github.com/stella-ops/stella/internal/ui"
)

const (
	pathServiceTokens = "/internal/service-accounts/tokens"
	scopeTokensMint   = "authority.tokens.mint"
	maxServiceLife    = time.Hour
	maxServiceAnswer  = 64 << 10
)

// serviceRequest asks for a token in the name of a service account.
type serviceRequest struct {
	ServiceAccount string   `json:"service_account"`
	Scopes         []string `json:"scopes"`
	Audience       string   `json:"audience"`
	Tenant         string   `json:"tenant"`
	ExpiresIn      int64    `json:"expires_in"` // seconds; 0: as the Authority is configured
	Reason         string   `json:"reason"`
	JKT            string   `json:"jkt"`
}

// serviceAnswer is the answer to it.
type serviceAnswer struct {
	AccessToken string `json:"access_token"`
	TokenType   string `json:"token_type"`
	ExpiresIn   int64  `json:"expires_in"`
	Scope       string `json:"scope"`
	JTI         string `json:"jti"`
	KID         string `json:"kid"`
}

// checkService refuses what would make a token that nobody gets, or that
// nobody can account for.
func (o *authTokenMintOptions) checkService(app *App) error {
	switch {
	case o.bearer && o.dpopKey != "":
		return fault.Errorf(fault.Input, "--bearer and --dpop-key exclude each other")
	case strings.TrimSpace(o.reason) == "":
		return fault.Errorf(fault.Input, "--service-account needs --reason: it is kept in the audit log and in the token")
	case o.expiresIn < 0 || o.expiresIn > maxServiceLife || o.expiresIn%time.Second != 0:
		return fault.Errorf(fault.Input, "--expires-in: found %s; allowed: whole seconds up to %s", o.expiresIn, maxServiceLife)
	case !o.raw && app.Streams.Format != ui.JSON:
		return fault.Errorf(fault.Input, "the token would be made and not be printed").
			Hint("add --raw to print it, or --output json and send the output elsewhere")
	case !o.raw && app.Streams.OutTTY:
		return fault.Errorf(fault.Input, "a token is not printed on a terminal").
			Hint("add --raw if that is what you want, or send the output elsewhere")
	}
	return nil
}

// runAuthTokenMintService makes a token in the name of a service account.
func runAuthTokenMintService(ctx context.Context, app *App, opts authTokenMintOptions) error {
	c, err := app.Config()
	if err != nil {
		return err
	}
	if err := opts.checkService(app); err != nil {
		return err
	}
	q := serviceRequest{
		ServiceAccount: opts.serviceAccount, Scopes: append([]string{}, opts.want.scopes...), Audience: opts.want.audience,
		Tenant: opts.want.tenant, ExpiresIn: int64(opts.expiresIn / time.Second), Reason: opts.reason,
	}
	if q.Tenant == "" {
		q.Tenant = c.Tenant
	}
	if q.Tenant == "" {
		return fault.Errorf(fault.Input, "--service-account needs --tenant: a token that is made by hand says for which tenant")
	}
	if opts.dpopKey != "" {
		key, err := oauth.LoadDPoPKey(secret.Ref(opts.dpopKey))
		if err != nil {
			return err
		}
		prover, err := dpop.NewProver(key)
		if err != nil {
			return err
		}
		q.JKT = prover.Thumbprint()
	}
	op, err := opts.operator.open(app, c, scopeTokensMint)
	if err != nil {
		return err
	}
	t, err := op.mintService(ctx, q, app.Now())
	if err != nil {
		return err
	}
	if got := int64(t.ExpiresAt.Sub(t.IssuedAt) / time.Second); q.ExpiresIn > got {
		app.Streams.Warn("the token lives %s, not %s: the Authority's accessTokenLifetime is the most there is",
			time.Duration(got)*time.Second, time.Duration(q.ExpiresIn)*time.Second)
	}
	s, err := openAuth(app, tokenWant{})
	if err != nil {
		return err
	}
	defer s.close()
	v, err := s.lookInto(ctx, t) // also that it is bound as asked
	s.close()
	if err != nil {
		return err
	}
	if app.Streams.Format != ui.JSON {
		if _, err := fmt.Fprintf(app.Streams.Out, "%s\n", t.AccessToken.Reveal()); err != nil {
			return fmt.Errorf("writing the token: %w", err)
		}
		return nil
	}
	r := mintResult{claimsView: v, ServiceAccount: q.ServiceAccount, Reason: q.Reason, AccessToken: string(t.AccessToken.Reveal())}
	return app.Streams.Render(SchemaAuthTokenMint, r, nil)
}

// mintService makes one request and judges its answer.
func (o *operator) mintService(ctx context.Context, q serviceRequest, now time.Time) (*oauth.Token, error) {
	what := "asking for a token of service account " + q.ServiceAccount
	data, err := o.call(ctx, http.MethodPost, pathServiceTokens, what, q, maxServiceAnswer)
	if err != nil {
		return nil, err
	}
	var a serviceAnswer
	if err := jose.DecodeStrict(data, &a); err != nil || a.AccessToken == "" || a.ExpiresIn < 1 || a.ExpiresIn > 24*3600 {
		return nil, fault.Errorf(fault.Trust, "%s: the answer is not a token", what)
	}
	t := &oauth.Token{
		AccessToken: secret.New([]byte(a.AccessToken)), Type: oauth.TypeBearer, Issuer: o.base, ClientID: q.ServiceAccount,
		Audience: q.Audience, Tenant: q.Tenant, Scopes: strings.Fields(a.Scope), JKT: q.JKT,
		IssuedAt: now, ExpiresAt: now.Add(time.Duration(a.ExpiresIn) * time.Second),
	}
	if q.JKT != "" {
		t.Type = oauth.TypeDPoP
	}
	if a.TokenType != t.Type {
		return nil, fault.Errorf(fault.Trust, "%s: a %s token was asked for, not one of type %.20q", what, t.Type, a.TokenType)
	}
	if _, _, err := t.Unverified(); err != nil {
		return nil, fault.Errorf(fault.Trust, "%s: the answer is not a token that can be checked", what)
	}
	return t, nil
}
