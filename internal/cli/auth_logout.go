package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/oauth"
	"github.com/stella-ops/stella/internal/ui"
)

// SchemaAuthLogout is the schema of what auth logout prints as JSON.
const SchemaAuthLogout = "stella.auth.logout/v1"

func newAuthLogoutCmd(app *App) *cobra.Command {
	return &cobra.Command{
		Use:   "logout",
		Short: "Drop the cached tokens, and revoke them where that is offered",
		Long: long(`Remove every cached token of the configured client, with the keys that they are
bound to. Where the Authority offers revocation, tokens that are still valid
and refresh tokens are revoked there first, each with one attempt; with
--offline that is left out, and said.`, fault.Partial, fault.Config),
		Example: `  stella auth logout
  stella auth logout --offline --output json`,
		Args:              noArgs(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return runAuthLogout(cmd.Context(), app) },
	}
}

type logoutToken struct {
	tokenView
	Revocation string `json:"revocation"` // done, not-needed, not-offered, skipped, failed
	Problem    string `json:"problem,omitempty"`
}

// logoutResult is stella.auth.logout/v1.
type logoutResult struct {
	Issuer  string        `json:"issuer"`
	Removed int           `json:"removed"` // files, damaged ones included
	Tokens  []logoutToken `json:"tokens"`
}

func runAuthLogout(ctx context.Context, app *App) error {
	s, err := openAuth(app, tokenWant{})
	if err != nil {
		return err
	}
	defer s.close()
	list, err := s.client.List()
	if err != nil {
		return err
	}
	r := logoutResult{Issuer: s.client.Issuer(), Tokens: []logoutToken{}}
	var failed error
	for _, t := range list {
		err := s.client.Locked(ctx, t, func(now *oauth.Token) error {
			if now != nil { // maybe refreshed since it was listed
				view := logoutToken{tokenView: viewToken(now, app.Now())}
				if view.Revocation, err = s.revoke(ctx, now); err != nil {
					failed, view.Problem = err, err.Error()
				}
				r.Tokens = append(r.Tokens, view)
			}
			return s.client.Forget(t)
		})
		if err != nil {
			return err
		}
		r.Removed++
	}
	if err := s.client.Sweep(); err != nil {
		return err
	}
	s.close()
	if err := app.Streams.Render(SchemaAuthLogout, r, r.text); err != nil {
		return err
	}
	if failed != nil {
		return fault.Errorf(fault.Partial, "logged out here, but not every token could be revoked: %w", failed)
	}
	return nil
}

func (s *authSession) revoke(ctx context.Context, t *oauth.Token) (string, error) {
	switch {
	case !t.Valid(s.app.Now()) && !t.Refreshable(s.app.Now()):
		return "not-needed", nil
	case s.config.Offline || s.static():
		return "skipped", nil
	}
	offered, err := s.client.Revoke(ctx, t)
	switch {
	case err != nil:
		return "failed", err
	case !offered:
		return "not-offered", nil
	}
	return "done", nil
}

func (r logoutResult) text(p *ui.Page) {
	if r.Removed == 0 {
		p.Line("There was no token of %s.", r.Issuer)
		return
	}
	p.Line("Logged out of %s: %d removed.", r.Issuer, r.Removed)
	why := map[string]string{"not-offered": " (the Authority does not offer it)", "skipped": " (the Authority was not asked)"}
	for _, t := range r.Tokens {
		switch t.Revocation {
		case "done":
			p.Line("revoked: the token for %s", orDash(t.Audience))
		case "not-offered", "skipped", "failed":
			and := ""
			if t.Refreshable {
				and = ", and its refresh token"
			}
			p.Line("not revoked%s: the token for %s, which expires at %s%s", why[t.Revocation], orDash(t.Audience), t.ExpiresAt.Format(time.RFC3339), and)
		}
	}
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
