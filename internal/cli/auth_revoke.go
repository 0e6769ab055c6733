package cli

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/revocation"
	"github.com/stella-ops/stella/internal/ui"
)

// SchemaAuthRevoke is the schema of what auth revoke token, client and subject
// print as JSON.
const SchemaAuthRevoke = "stella.auth.revoke/v1"

const (
	pathRevocations       = "/internal/revocations"
	pathRevocationsExport = "/internal/revocations/export"
	scopeRevocations      = "authority.revocations.manage"
)

// reasonCode is what a bundle takes as a reason.
var reasonCode = regexp.MustCompile(`^[A-Za-z0-9._:-]{1,64}$`)

func newAuthRevokeCmd(app *App) *cobra.Command {
	return group("revoke", "Revoke tokens, and carry the list of what is revoked",
		long(`Revokes what was issued before its time: one token, or all tokens of a client or
a person up to now. Verifiers that follow the Authority's list refuse it within
their poll interval; export carries the list to those that cannot.

A signing key is revoked by: stella auth rotate revoke. To give back a token of
your own: stella auth logout.`, fault.Config),
		"  stella auth revoke client nightly-scan --reason compromised\n  stella auth revoke export --out /media/usb",
		newAuthRevokeTokenCmd(app), newAuthRevokeNamedCmd(app, revocation.Client), newAuthRevokeNamedCmd(app, revocation.Subject),
		newAuthRevokeExportCmd(app), newAuthRevokeVerifyCmd(app))
}

// revokeRequest is one revocation as the Authority takes it.
type revokeRequest struct {
	Category  revocation.Category `json:"category"`
	ID        string              `json:"id"`
	Reason    string              `json:"reason"`
	ClientID  string              `json:"client_id,omitempty"`
	SubjectID string              `json:"subject_id,omitempty"`
	ExpiresAt time.Time           `json:"expires_at,omitzero"`
}

type authRevokeOptions struct {
	request  revokeRequest
	expires  string
	operator operatorOptions
}

func (o *authRevokeOptions) addFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.request.Reason, "reason", "", "why, as a machine `CODE`: letters, digits and . _ : - (required)")
	o.operator.addFlags(f)
	_ = cmd.RegisterFlagCompletionFunc("reason", cobra.FixedCompletions(
		[]string{"compromised", "lost-device", "left", "superseded", "test"}, cobra.ShellCompDirectiveNoFileComp))
}

func (o *authRevokeOptions) addTokenFlags(f *pflag.FlagSet) {
	f.StringVar(&o.request.ClientID, "client", "", "client that the token was issued to (required)")
	f.StringVar(&o.request.SubjectID, "subject", "", "subject of the token")
	f.StringVar(&o.expires, "expires", "", "`TIME` at which the token expires (RFC 3339); the entry leaves the list then")
}

func newAuthRevokeTokenCmd(app *App) *cobra.Command {
	opts := authRevokeOptions{request: revokeRequest{Category: revocation.Token}}
	cmd := &cobra.Command{
		Use:   "token JTI",
		Short: "Revoke one access token by its id",
		Long: long(`Revoke the access token with the id JTI (its claim jti; the audit log and auth
whoami have it). It takes a token with scope `+scopeRevocations+` for
`+authorityAudience+`, or --bootstrap. A revocation that is there already is no error.`,
			fault.Denied, fault.NotFound, fault.Offline, fault.Transient, fault.Trust, fault.Config),
		Example:           "  stella auth revoke token 7RM4X2QKYS3V --client nightly-scan --reason compromised",
		Args:              args(1, 1, "the id of a token"),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.request.ID = args[0]
			return runAuthRevoke(cmd.Context(), app, opts)
		},
	}
	opts.addTokenFlags(cmd.Flags())
	opts.addFlags(cmd)
	return cmd
}

// newAuthRevokeNamedCmd revokes all tokens of a client or a subject.
func newAuthRevokeNamedCmd(app *App, category revocation.Category) *cobra.Command {
	opts := authRevokeOptions{request: revokeRequest{Category: category}}
	word := string(category)
	cmd := &cobra.Command{
		Use:   word + " ID",
		Short: "Revoke all tokens that a " + word + " has up to now",
		Long: long(`Revoke every access and refresh token of the `+word+` ID that was issued up to
now. Tokens that are issued later are good: to keep the `+word+` out, disable it
at the Authority first. It takes a token with scope
`+scopeRevocations+` for `+authorityAudience+`, or --bootstrap.`,
			fault.Denied, fault.NotFound, fault.Offline, fault.Transient, fault.Trust, fault.Config),
		Example:           "  stella auth revoke " + word + " ID --reason compromised\n  stella auth revoke " + word + " ID --reason left --output json",
		Args:              args(1, 1, "the id of a "+word),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.request.ID = args[0]
			return runAuthRevoke(cmd.Context(), app, opts)
		},
	}
	opts.addFlags(cmd)
	return cmd
}

// revokeResult is stella.auth.revoke/v1.
type revokeResult struct {
	Issuer   string              `json:"issuer"`
	Category revocation.Category `json:"category"`
	ID       string              `json:"id"`
	Reason   string              `json:"reason"`
	Created  bool                `json:"created"` // false: it was revoked as far already
}

func (o *authRevokeOptions) check() error {
	q := &o.request
	switch {
	case q.Reason == "":
		return fault.Errorf(fault.Input, "--reason is missing: it goes into the list and the audit log")
	case !reasonCode.MatchString(q.Reason):
		return fault.Errorf(fault.Input, "--reason: found %.80q; allowed: 1 to 64 letters, digits and . _ : -, such as compromised", q.Reason)
	case q.ID == "":
		return fault.Errorf(fault.Input, "the id is empty")
	case strings.HasPrefix(q.ID, "eyJ") || strings.HasPrefix(q.ID, "srt_"):
		// Said without repeating it: it may be a live one.
		return fault.Errorf(fault.Input, "that is a token itself; what is wanted is its id (claim jti)").
			Hint("read the claims of one that was found: cut -d. -f2 FILE | basenc --base64url -d")
	case len(q.ID) > 256:
		return fault.Errorf(fault.Input, "the id has more than 256 bytes")
	case q.Category == revocation.Token && q.ClientID == "":
		return fault.Errorf(fault.Input, "--client is missing: verifiers are told whose token it was")
	}
	if o.expires != "" {
		at, err := time.Parse(time.RFC3339, o.expires)
		if err != nil {
			return fault.Errorf(fault.Input, "--expires: found %.80q; a time looks like 2026-11-22T13:00:00Z", o.expires)
		}
		q.ExpiresAt = at.UTC()
	}
	return nil
}

func runAuthRevoke(ctx context.Context, app *App, opts authRevokeOptions) error {
	if err := opts.check(); err != nil {
		return err
	}
	c, err := app.Config()
	if err != nil {
		return err
	}
	op, err := opts.operator.open(app, c, scopeRevocations)
	if err != nil {
		return err
	}
	q := opts.request
	what := fmt.Sprintf("revoking %s %s", q.Category, q.ID)
	data, err := op.call(ctx, http.MethodPost, pathRevocations, what, q, 64<<10)
	if err != nil {
		return err
	}
	var a struct {
		Created bool `json:"created"`
	}
	if err := jose.DecodeStrict(data, &a); err != nil {
		return fault.Errorf(fault.Trust, "%s: the answer does not say whether it was done", what)
	}
	r := revokeResult{Issuer: op.base, Category: q.Category, ID: q.ID, Reason: q.Reason, Created: a.Created}
	return app.Streams.Render(SchemaAuthRevoke, r, func(p *ui.Page) {
		if r.Created {
			p.Line("Revoked %s %s (%s).", r.Category, r.ID, r.Reason)
		} else {
			p.Line("The %s %s was revoked already.", r.Category, r.ID)
		}
	})
}
