package cli

import (
	"context"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/oauth"
	"github.com/stella-ops/stella/internal/ui"
)

// SchemaAuthLogin is the schema of what auth login prints as JSON.
const SchemaAuthLogin = "stella.auth.login/v1"

type authLoginOptions struct {
	want  tokenWant
	force bool
}

func (o *authLoginOptions) addFlags(f *pflag.FlagSet) {
	o.want.addFlags(f)
	f.BoolVar(&o.force, "force", false, "get a new token even when the cached one is good")
}

func newAuthLoginCmd(app *App) *cobra.Command {
	var opts authLoginOptions
	cmd := &cobra.Command{
		Use:   "login",
		Short: "Get an access token and keep it for other commands",
		Long: long(`Ask the Authority for an access token by client_credentials and keep it in the
token cache, bound to a key that never leaves the cache (DPoP). Other commands
use and refresh it.

A token at hand that is good for a while is kept, and nothing is sent, unless
--force is given. When a new one cannot be had, the old one stays as it was.

The client and its secret or key come from the configuration (auth.client_id,
auth.client_secret, auth.private_key); a secret is always a reference.`, fault.Denied, fault.Offline, fault.Transient, fault.Trust, fault.Locked, fault.Config),
		Example: `  stella auth login
  stella auth login --scope feedser.jobs.trigger --audience https://jobs.example
  stella auth login --force --output json`,
		Args:              noArgs(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return runAuthLogin(cmd.Context(), app, opts) },
	}
	opts.addFlags(cmd.Flags())
	return cmd
}

// loginResult is stella.auth.login/v1.
type loginResult struct {
	tokenView
	Fetched bool `json:"fetched"` // false: the cached token was good
}

func runAuthLogin(ctx context.Context, app *App, opts authLoginOptions) error {
	s, err := openAuth(app, opts.want)
	if err != nil {
		return err
	}
	defer s.close()
	var t *oauth.Token
	if opts.force {
		t, err = s.client.Login(ctx)
	} else {
		t, err = s.client.Token(ctx)
	}
	s.close()
	if err != nil {
		return err
	}
	r := loginResult{tokenView: viewToken(t, app.Now()), Fetched: !t.FromCache}
	return app.Streams.Render(SchemaAuthLogin, r, func(p *ui.Page) {
		if r.Fetched {
			p.Line("Logged in.")
		} else {
			p.Line("Logged in already; the cached token is good.")
		}
		p.Pairs(r.pairs()...)
	})
}
