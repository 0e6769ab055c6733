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
	want    tokenWant
	force   bool
	noQR    bool
	browser bool
}

func (o *authLoginOptions) addFlags(f *pflag.FlagSet) {
	o.want.addFlags(f)
	f.BoolVar(&o.force, "force", false, "get a new token even when the cached one is good")
	f.BoolVar(&o.want.person, "device", false, "log a person in with a browser, here or on another device, as auth.device does")
	f.BoolVar(&o.noQR, "no-qr", false, "draw no QR code")
	f.BoolVar(&o.browser, "browser", false, "open the page in a browser on this desktop")
}

func newAuthLoginCmd(app *App) *cobra.Command {
	var opts authLoginOptions
	cmd := &cobra.Command{
		Use:   "login",
		Short: "Get an access token and keep it for other commands",
		Long: long(`Ask the Authority for an access token and keep it in the token cache, bound to
a key that never leaves the cache (DPoP) or to the client's certificate. Other
commands use and refresh it.

A client with a secret, a key or a certificate (auth.client_secret,
auth.private_key, auth.certificate; always references) gets a token of its own
by client_credentials. With auth.client_id alone, with auth.device or with
--device, a person logs in: a page and a code are shown, to be opened on any
device with a browser. Check there that the code is the same, and approve. No
browser is opened here unless --browser is given on a desktop. After that,
tokens are refreshed without a new login for as long as the Authority allows.
Other commands use a login by --device only if auth.device says so too.

A token at hand that is good for a while is kept, and nothing is sent, unless
--force is given. When a new one cannot be had, the old one stays as it was.`, fault.Denied, fault.Offline, fault.Transient, fault.Trust, fault.Locked, fault.Config),
		Example: `  stella auth login
  stella auth login --device
  stella auth login --audience api://authority --scope authority.tokens.mint
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
	t, err := s.login(ctx, opts)
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

// login gets the token of a command that was asked for one.
func (s *authSession) login(ctx context.Context, opts authLoginOptions) (*oauth.Token, error) {
	person := opts.want.person || s.config.Auth.Person()
	if !person && opts.force {
		return s.client.Login(ctx)
	}
	if !person || !opts.force {
		t, err := s.client.Token(ctx)
		// Whatever a person's login has come to, a new one mends it.
		if err == nil || !person || fault.KindOf(err) != fault.Denied {
			return t, err
		}
	}
	before, err := s.client.Cached()
	if err != nil {
		return nil, err
	}
	t, err := s.device(ctx, opts)
	if err == nil && before != nil && before.Refreshable(s.app.Now()) {
		// Nobody has its refresh token any more, but the Authority would take it.
		if _, err := s.client.Revoke(ctx, before); err != nil {
			s.streams.Warn("the login before this one goes on at the Authority until it ends by itself: %v", err)
		}
	}
	if err == nil {
		err = s.dropOthers(ctx, t)
	}
	return t, err
}

// dropOthers ends what other people have logged in to here before: else a
// command that wants other scopes would act in their name.
func (s *authSession) dropOthers(ctx context.Context, t *oauth.Token) error {
	me := viewToken(t, s.app.Now()).Username
	list, err := s.client.List()
	if err != nil {
		return err
	}
	for _, c := range list {
		if c.Token == nil {
			continue
		}
		who := viewToken(c.Token, s.app.Now()).Username
		if who == "" || who == me {
			continue
		}
		s.streams.Warn("%s was logged in here; what was kept of that is dropped", who)
		if _, err := s.client.Revoke(ctx, c.Token); err != nil {
			s.streams.Warn("the login of %s goes on at the Authority until it ends by itself: %v", who, err)
		}
		if err := s.client.Forget(c); err != nil {
			return err
		}
	}
	return nil
}
