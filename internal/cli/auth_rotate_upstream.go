package cli

import (
	"context"

	"github.com/spf13/pflag"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/keyring"
	"github.com/stella-ops/stella/internal/rotate"
	"github.com/stella-ops/stella/internal/ui"
)

// upstreamOptions are for an Authority that knows only the rotate call.
type upstreamOptions struct{ keyID, location string }

func (o *upstreamOptions) addFlags(f *pflag.FlagSet) {
	f.StringVar(&o.keyID, "key-id", "", "for an upstream Authority without a lifecycle API: kid of the new key")
	f.StringVar(&o.location, "location", "", "with --key-id: path of its PEM `FILE` as the Authority sees it")
}

// check refuses what the one call cannot do, and options that would silently
// be ignored.
func (o *upstreamOptions) check(wait bool) error {
	switch {
	case o.keyID == "" && o.location != "":
		return fault.Errorf(fault.Input, "--location is for --key-id")
	case o.keyID == "":
		return nil
	case !keyring.ValidKID(o.keyID):
		return fault.Errorf(fault.Input, "--key-id: %.140q is not the name of a key", o.keyID).
			Hint("use 1 to 128 letters, digits, dots, underscores and hyphens")
	case o.location == "":
		return fault.Errorf(fault.Input, "--key-id needs --location: the path of the PEM file as the Authority sees it")
	case wait:
		return fault.Errorf(fault.Input, "--wait is not for --key-id: that call tells nothing to wait for")
	}
	return nil
}

// runUpstream uses the one call that an upstream Authority has, and says what
// that cannot guarantee.
func runUpstream(ctx context.Context, app *App, d *driver, o rotateOptions) error {
	if d.key == nil {
		return d.config.Require("auth.bootstrap_key")
	}
	if !o.force && !o.dryRun {
		return fault.Errorf(fault.Input, "this call switches at once: verifiers may reject new tokens until they reload their key set").
			Hint("see it first: add --dry-run").
			Hint("do it: add --force --reason 'why'")
	}
	u := &rotate.Upstream{API: &rotate.API{Base: d.API.Base, Doer: d.key}, Client: d.client, Header: d.config.Auth.BootstrapHeader}
	r, err := u.Rotate(ctx, rotate.UpstreamRequest{KeyID: o.keyID, Location: o.location, Source: "file", Reason: o.reason}, o.dryRun)
	if err != nil {
		return err
	}
	for _, w := range r.NotGuaranteed {
		app.Streams.Warn("%s", w)
	}
	return app.Streams.Render("stella.auth.rotate.upstream/v1", r, func(p *ui.Page) {
		if r.DryRun {
			p.Line("nothing was sent; this is what would be:")
			p.Block(r.Request)
			return
		}
		if next := r.Answer.ScheduledKeyID; next != "" {
			p.Line("active key: %s; %s is published, and activated from %s on", orNone(r.Answer.ActiveKeyID), next, clock(r.Answer.ActivateAt))
			p.Line("this Authority has a key lifecycle API: see 'stella auth rotate status'")
		} else {
			p.Line("active key: %s, before: %s", orNone(r.Answer.ActiveKeyID), orNone(r.Answer.PreviousKeyID))
		}
		p.Line("in the key set now: %v", r.Published)
	})
}
