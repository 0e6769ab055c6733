package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/keyring"
	"github.com/stella-ops/stella/internal/ui"
)

// change describes a command that makes one transition.
type change struct {
	action             keyring.Action
	short, text        string
	example            string
	states             []keyring.State // of the keys that it can be about, for completion
	reason, force, out bool            // has --reason, --force, --outage
}

func changeCommands() []change {
	return []change{
		{action: keyring.Stage, short: "Make a new signing key", reason: true,
			text:    "Has the Authority make a new key, in its key directory or at the HSM or key\nservice that it is configured for (signing.keySource). Nobody knows it yet;\npublish comes next. With --key a key that you made at a configured HSM or key\nservice is taken in; it stays yours and is not destroyed after its time.",
			example: "  stella auth rotate stage\n  stella auth rotate stage --key awskms:///arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab --reason 'made in the ceremony of May'"},
		{action: keyring.Publish, short: "Put a staged key into the key set", states: []keyring.State{keyring.Staged}, reason: true,
			text:    "Puts a staged key into the JWKS. From now on verifiers learn it; after one full\ncache lifetime everywhere it may sign.",
			example: "  stella auth rotate publish\n  stella auth rotate publish 20260102-0a1b2c3d4e5f"},
		{action: keyring.Activate, short: "Let a published key sign", states: []keyring.State{keyring.Published}, reason: true, force: true,
			text:    "Makes a published key the active one. Too early, it is refused with the earliest\ntime and the vantage points in the way; --force does it all the same, and some\nverifiers will reject new tokens until they reload.",
			example: "  stella auth rotate activate\n  stella auth rotate activate KID --force --reason 'tabletop exercise'"},
		{action: keyring.Retire, short: "Take a key out of the key set after its time", states: []keyring.State{keyring.Retiring}, reason: true, force: true,
			text:    "Takes a key that signs no more out of the JWKS and destroys its private half.\nRefused while something that it signed may be alive.",
			example: "  stella auth rotate retire"},
		{action: keyring.Discard, short: "Drop a staged key", states: []keyring.State{keyring.Staged}, reason: true,
			text:    "Drops a key that was never published and destroys its private half.",
			example: "  stella auth rotate discard KID"},
		{action: keyring.Withdraw, short: "Take back a published key that never signed", states: []keyring.State{keyring.Published}, reason: true,
			text:    "Takes a published key that has never signed out of the JWKS and destroys its\nprivate half. Do it for a standby that must not be used.",
			example: "  stella auth rotate withdraw KID --reason 'wrong curve'"},
		{action: keyring.Undo, short: "Let the key before the last one sign again", states: []keyring.State{keyring.Retiring}, reason: true, force: true,
			text:    "Makes the key that signed last the active one again; the present one retires.\nBoth are in the JWKS, so no verifier notices. Possible until that key is retired.\nRefused while that key is itself too young to be known to all verifiers, which\nhappens when it was activated by force; --force does it all the same.",
			example: "  stella auth rotate undo --reason 'a relying service cannot read the new key'"},
		{action: keyring.Taint, short: "Stop trusting a key; switch at once if it is the active one", reason: true, force: true, out: true,
			states:  []keyring.State{keyring.Active, keyring.Retiring, keyring.Published, keyring.Staged},
			text:    "Marks a key as not to be trusted. The active key is replaced by the standby in\nthe same step. Its tokens stay valid until they expire or until 'revoke', so that\nclients can get new ones first; they are counted. While the standby is too young\nto be known to all verifiers it is refused: --outage issues nothing until then,\n--force switches all the same and some verifiers will reject new tokens.",
			example: "  stella auth rotate taint --reason 'laptop stolen'\n  stella auth rotate taint KID --outage --reason 'key leaked, standby too young'"},
		{action: keyring.Revoke, short: "Drop a tainted key at once", states: []keyring.State{keyring.Tainted}, reason: true,
			text:    "Takes a tainted key out of the JWKS at once and destroys its private half.\nConnected verifiers refuse its tokens within one cache lifetime.",
			example: "  stella auth rotate revoke --reason 'laptop stolen'"},
	}
}

// reasonText is the help of --reason: where it is required.
func (c change) reasonText() string {
	const text = "why, for the key history"
	switch {
	case needsReason(keyring.Request{Action: c.action}):
		return text + "; required"
	case c.force:
		return text + "; required with --force"
	case c.action == keyring.Stage:
		return text + "; required with --key"
	}
	return text
}

type changeOptions struct {
	req keyring.Request
}

func newChangeCmd(app *App, r *rotateShared, c change) *cobra.Command {
	o := changeOptions{req: keyring.Request{Action: c.action}}
	use, args := string(c.action), cobra.MaximumNArgs(1)
	if len(c.states) > 0 {
		use += " [KID]"
	} else {
		args = cobra.NoArgs
	}
	cmd := &cobra.Command{
		Use: use, Short: c.short, Example: c.example, Args: args,
		Long: long(c.text, fault.Denied, fault.NotFound, fault.Offline, fault.Transient, fault.Trust, fault.Order, fault.Config),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 || len(c.states) == 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return r.completeKIDs(cmd.Context(), app, c.states), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 { // an empty one is a variable that was not set, not "the only one"
				if o.req.KID = args[0]; !keyring.ValidKID(o.req.KID) {
					return fault.Errorf(fault.Input, "%.140q is not the name of a key", o.req.KID).Hint("list the keys: stella auth rotate status")
				}
			}
			if f := cmd.Flags().Lookup("key"); f != nil && f.Changed && o.req.Reference == "" {
				return fault.Errorf(fault.Input, "--key is empty").Hint("leave it out to have a key made: stella auth rotate stage")
			}
			return runChange(cmd.Context(), app, r, o)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.req.DryRun, "dry-run", false, "tell what would happen; change nothing")
	f.Uint64Var(&o.req.ExpectVersion, "expect-version", 0, "refuse if the keyring is not at version `N`")
	f.StringVar(&o.req.Reason, "reason", "", c.reasonText())
	if c.action == keyring.Stage {
		f.StringVar(&o.req.Reference, "key", "", "take in the key at an HSM or key service that `REFERENCE` names, instead of making one")
	}
	if c.force {
		f.BoolVar(&o.req.Force, "force", false, "do it before its time; needs --reason")
	}
	if c.out {
		f.BoolVar(&o.req.Outage, "outage", false, "rather issue no tokens for a while than sign with a key that is too young; needs --reason")
	}
	return cmd
}

func runChange(ctx context.Context, app *App, shared *rotateShared, o changeOptions) error {
	if needsReason(o.req) && o.req.Reason == "" {
		return fault.Errorf(fault.Input, "%s needs a reason: it is recorded in the key history", o.req.Action).Hint("add --reason 'why'")
	}
	d, err := shared.driver(app, true)
	if err != nil {
		return err
	}
	r, err := d.Change(ctx, o.req)
	if err != nil {
		return err
	}
	if ring := (keyring.Ring{Keys: r.Report.Keys}); r.Action == keyring.Taint && !r.DryRun && ring.Active() == nil {
		app.Streams.Warn("no key signs now: %s", outage(&r.Report))
	}
	r.Schema = "stella.auth.rotate." + string(o.req.Action) + "/v1"
	return app.Streams.Render(r.Schema, r, func(p *ui.Page) { changePage(p, r) })
}

func needsReason(r keyring.Request) bool {
	return r.Force || r.Outage || r.Reference != "" ||
		r.Action == keyring.Undo || r.Action == keyring.Taint || r.Action == keyring.Revoke
}

func changePage(p *ui.Page, r *keyring.Result) {
	if r.DryRun {
		p.Line("nothing was changed; this is what would be:")
	}
	if r.From == "" {
		p.Line("%s", staged(r))
	} else {
		p.Line("%s", moved(keyring.Moved{KID: r.KID, From: r.From, To: r.To}))
	}
	for _, m := range r.Also {
		p.Line("%s", moved(m))
	}
	for _, l := range r.Report.Live {
		if l.KID == r.KID && l.Tokens > 0 && (r.To == keyring.Tainted || r.To == keyring.Retiring) {
			verb := "are"
			if l.Tokens == 1 {
				verb = "is"
			}
			p.Line("%s %s out under it, the last until %s", count(l.Tokens, "live token"), verb, clock(l.LastExpiry))
		}
	}
	stepsPart(p, r.Report.Steps, r.Report.Now)
}
