package cli

import (
	"context"
	"crypto/ecdsa"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/oauth"
	"github.com/stella-ops/stella/internal/secret"
	"github.com/stella-ops/stella/internal/ui"
)

// SchemaAuthTokenMint is the schema of what auth token mint prints as JSON.
const SchemaAuthTokenMint = "stella.auth.token.mint/v1"

func newAuthTokenCmd(app *App) *cobra.Command {
	return group("token", "Make access tokens for one use",
		long("Makes access tokens for one use, apart from those that stella keeps for itself.", fault.Config),
		"  stella auth token mint --scope signer.sign", newAuthTokenMintCmd(app))
}

type authTokenMintOptions struct {
	want    tokenWant
	reason  string
	raw     bool
	bearer  bool
	dpopKey string

	serviceAccount string // empty: for our own client
	expiresIn      time.Duration
	operator       operatorOptions
}

func (o *authTokenMintOptions) addFlags(f *pflag.FlagSet) {
	o.want.addFlags(f)
	f.StringVar(&o.reason, "reason", "", "why; sent to the Authority with the request")
	f.BoolVar(&o.raw, "raw", false, "print the token itself, also on a terminal")
	f.BoolVar(&o.bearer, "bearer", false, "ask for a token that is bound to no key: whoever has it can use it")
	f.StringVar(&o.dpopKey, "dpop-key", "", "bind the token to this P-256 private key; a `REF`: "+secret.Schemes)
	f.StringVarP(&o.serviceAccount, "service-account", "s", "", "make the token in the name of service account `ID`")
	f.DurationVar(&o.expiresIn, "expires-in", 0, "with --service-account: life of the token, up to 1h; by default as the Authority is configured")
	o.operator.addFlags(f)
}

func newAuthTokenMintCmd(app *App) *cobra.Command {
	var opts authTokenMintOptions
	cmd := &cobra.Command{
		Use:   "mint",
		Short: "Get a fresh token that is not kept",
		Long: long(`Ask the Authority for a fresh token, apart from the cached ones, and show its
claims. The token itself is printed only where it is asked for: with --raw, or
as access_token in JSON output that does not go to a terminal.

A printed token must be of use to who gets it: give --bearer for one that is
bound to no key, or --dpop-key to bind it to a key of yours. Without either, the
token is bound to a key that nobody keeps; it shows what would be granted, and
is not printed.

With --service-account, the token is made in the name of a client that is
registered as a service account, for somebody else to use. That takes a token
with scope authority.tokens.mint for api://authority, or --bootstrap; it needs
--reason and a tenant, and --raw or JSON output, for it is made to be handed
over. It is a bearer token unless --dpop-key is given, and the audit log has
who made it and why.`, fault.Denied, fault.NotFound, fault.Offline, fault.Transient, fault.Trust, fault.Config),
		Example: `  stella auth token mint --scope signer.sign --audience https://signer.example
  stella auth token mint --bearer --raw --reason "smoke test of the jobs API"
  stella auth token mint --dpop-key file:/etc/stella/probe.pem --output json
  stella auth token mint -s nightly-scan --tenant acme --scope signer.sign --expires-in 10m --reason "OPS-1234" --raw`,
		Args:              noArgs(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if opts.serviceAccount == "" && cmd.Flags().Changed("service-account") {
				return usageError(cmd, "--service-account is empty")
			}
			return runAuthTokenMint(cmd.Context(), app, opts)
		},
	}
	opts.addFlags(cmd.Flags())
	return cmd
}

// mintResult is stella.auth.token.mint/v1.
type mintResult struct {
	*claimsView
	ServiceAccount string `json:"service_account,omitempty"`
	Reason         string `json:"reason,omitempty"`
	AccessToken    string `json:"access_token,omitempty"`
}

func runAuthTokenMint(ctx context.Context, app *App, opts authTokenMintOptions) error {
	if opts.serviceAccount != "" {
		return runAuthTokenMintService(ctx, app, opts)
	}
	if opts.expiresIn != 0 || opts.operator.bootstrap {
		return fault.Errorf(fault.Input, "--expires-in and --bootstrap are for --service-account only")
	}
	usable := opts.bearer || opts.dpopKey != ""
	asJSON := app.Streams.Format == ui.JSON
	switch {
	case opts.bearer && opts.dpopKey != "":
		return fault.Errorf(fault.Input, "--bearer and --dpop-key exclude each other")
	case opts.raw && !usable:
		return fault.Errorf(fault.Input, "the token would be bound to a key that nobody has").
			Hint("add --dpop-key REF to bind it to a key of yours, or --bearer")
	case asJSON && usable && !opts.raw && app.Streams.OutTTY:
		return fault.Errorf(fault.Input, "a token is not printed on a terminal").
			Hint("add --raw if that is what you want, or send the output elsewhere")
	}
	var key *ecdsa.PrivateKey
	if opts.dpopKey != "" {
		var err error
		if key, err = oauth.LoadDPoPKey(secret.Ref(opts.dpopKey)); err != nil {
			return err
		}
	}
	opts.want.bearer, opts.want.reason = opts.bearer, opts.reason
	s, err := openAuth(app, opts.want)
	if err != nil {
		return err
	}
	defer s.close()
	t, err := s.client.MintFor(ctx, key)
	if opts.bearer && oauth.ErrorCode(err) == "invalid_dpop_proof" {
		return fault.Errorf(fault.Denied, "%w", err).
			Hint("client %q gets only tokens that are bound to a key: leave out --bearer, or have it registered with dpop_bound_access_tokens: false", s.config.Auth.ClientID)
	}
	if err != nil {
		return err
	}
	if opts.raw && !asJSON {
		s.close()
		if _, err := fmt.Fprintf(app.Streams.Out, "%s\n", t.AccessToken.Reveal()); err != nil {
			return fmt.Errorf("writing the token: %w", err)
		}
		return nil
	}
	v := s.describe(t)
	if _, _, opaque := t.Unverified(); opaque == nil {
		if v, err = s.lookInto(ctx, t); err != nil {
			return err
		}
	}
	s.close()
	r := mintResult{claimsView: v, Reason: opts.reason}
	if usable {
		r.AccessToken = string(t.AccessToken.Reveal()) // JSON only: the text form never has it
	}
	return app.Streams.Render(SchemaAuthTokenMint, r, v.text)
}
