package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/stella-ops/stella/internal/cli/config"
	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/mirror"
	"github.com/stella-ops/stella/internal/mirror/publish"
	"github.com/stella-ops/stella/internal/oauth"
	"github.com/stella-ops/stella/internal/objstore"
	"github.com/stella-ops/stella/internal/release"
	"github.com/stella-ops/stella/internal/secret"
	"github.com/stella-ops/stella/internal/ui"
)

// SchemaMirrorPublish is the schema of what mirror publish prints as JSON.
const SchemaMirrorPublish = "stella.mirror.publish/v1"

const mirrorPublishLong = `Makes a release of FOLDER, which holds mirror/index.json and what it names: writes
one statement with the digest of every member, signs it, puts all to the place
under its export id, and then makes latest lead there. Mirrors sync from
PLACE/latest. A run that was cut short is ended by the next.

The private key comes by reference (PEM PKCS #8 or a JWK). With several --key the
statement is signed by each of them; --key-id and --provider are given in the
same order, or once for all. Without --key-id a key is named by its own kid, else
by its thumbprint. The first key signs bundles, if --sign-bundles asks for that;
a signature that is there is never replaced.

With a trust policy (mirror.trust_policy, or --trust-policy) nothing is published
that mirrors with that policy would refuse. Into a bucket one publisher at a time
may write: that is up to you. In a directory a lock sees to it (24).`

type mirrorPublishOptions struct {
	to, feed               string
	keys, keyIDs, provider []string
	alg                    string
	trustPolicy            string // bound to mirror.trust_policy
	publish.Options
}

func (o *mirrorPublishOptions) addFlags(f *pflag.FlagSet) {
	f.StringVar(&o.to, "to", "", "`PLACE` to publish to: s3://BUCKET/PREFIX or file:///ABSOLUTE/PATH (required)")
	f.StringVar(&o.feed, "feed", "", "feed `NAME` that the release is of; may be left out when one is configured")
	f.StringArrayVar(&o.keys, "key", nil, "`REFERENCE` to a private key, repeatable: "+secret.Schemes+" (required)")
	f.StringArrayVar(&o.keyIDs, "key-id", nil, "`KID` under which trust policies list the key")
	f.StringArrayVar(&o.provider, "provider", nil, "`PROVIDER` under which they list it; "+release.DefaultProvider+" by default")
	f.StringVar(&o.alg, "alg", "", "algorithm of all signatures; by default the usual one of each key")
	f.StringVar(&o.ExportID, "export-id", "", "`ID` of the release; by default that of the index, else the time")
	f.Int64Var(&o.Sequence, "sequence", 0, "number of the release; by default one more than what is shown")
	f.DurationVar(&o.Lifetime, "lifetime", publish.DefaultLifetime, "how long the release counts as fresh")
	f.BoolVar(&o.SignBundles, "sign-bundles", false, "sign each bundle that has no signature beside it")
	f.BoolVar(&o.CopyMembers, "copy-members", false, "also copy the members into latest/ of a bucket, for readers that know no statement")
	f.StringVar(&o.trustPolicy, "trust-policy", "", "trust policy `FILE` of the mirrors, instead of mirror.trust_policy")
	f.BoolVar(&o.DryRun, "dry-run", false, "check, hash and sign; write nothing")
}

func newMirrorPublishCmd(app *App) *cobra.Command {
	var o mirrorPublishOptions
	cmd := &cobra.Command{
		Use:   "publish FOLDER",
		Short: "Make a signed release of a folder and show it to mirrors",
		Long: long(mirrorPublishLong, fault.Denied, fault.NotFound, fault.Offline, fault.Transient, fault.Trust, fault.Order, fault.Locked,
			fault.Config),
		Example: `  stella mirror publish ./export --to s3://bucket/advisories --feed advisories --key file:/etc/stella/publish.pem --key-id publish-2026
  stella mirror publish ./export --to file:///media/usb/advisories --feed advisories --key cred:publish.jwk --sign-bundles --dry-run`,
		Args: args(1, 1, "the folder that holds mirror/"),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return nil, cobra.ShellCompDirectiveFilterDirs
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			app.Bind("mirror.trust_policy", cmd.Flags().Lookup("trust-policy"))
			return runMirrorPublish(cmd.Context(), app, args[0], o)
		},
	}
	o.addFlags(cmd.Flags())
	completeFeed(app, cmd)
	algs := []string{string(jose.ES256), string(jose.ES384), string(jose.ES512), string(jose.PS256), string(jose.RS256), string(jose.EdDSA)}
	_ = cmd.RegisterFlagCompletionFunc("alg", cobra.FixedCompletions(algs, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.MarkFlagFilename("trust-policy", "yaml", "yml")
	return cmd
}

func (o *mirrorPublishOptions) check() (objstore.Place, error) {
	var none objstore.Place
	switch {
	case o.to == "":
		return none, fault.Errorf(fault.Input, "--to is missing: the place to publish to")
	case len(o.keys) == 0:
		return none, fault.Errorf(fault.Input, "--key is missing: a release is signed").
			Hint("make a key: openssl genpkey -algorithm ed25519 -out publish.pem && chmod 600 publish.pem").
			Hint("then: --key file:publish.pem")
	case len(o.keyIDs) > 0 && len(o.keyIDs) != len(o.keys):
		return none, fault.Errorf(fault.Input, "--key-id is given %d times, --key %d times", len(o.keyIDs), len(o.keys))
	case len(o.provider) > 1 && len(o.provider) != len(o.keys):
		return none, fault.Errorf(fault.Input, "--provider is given %d times, --key %d times; give it once for all, or once for each", len(o.provider), len(o.keys))
	}
	return objstore.Parse(o.to)
}

// signers loads the keys.
func (o *mirrorPublishOptions) signers() ([]publish.Signer, error) {
	var out []publish.Signer
	for i, ref := range o.keys {
		kid := ""
		if len(o.keyIDs) > 0 {
			kid = o.keyIDs[i]
		}
		if err := secret.Ref(ref).Check(); err != nil {
			return nil, fault.Errorf(fault.Input, "--key: %w", err)
		}
		signer, err := oauth.LoadSigner(secret.Ref(ref), kid)
		if err != nil {
			return nil, fmt.Errorf("--key: %w", err)
		}
		if o.alg != "" {
			if signer, err = jose.NewSigner(signer.Private(), jose.Alg(o.alg), signer.Key().KeyID); err != nil {
				return nil, fault.Errorf(fault.Input, "--alg %.20s with --key %s: %w", o.alg, ref, err)
			}
		}
		s := publish.Signer{Signer: signer}
		switch len(o.provider) {
		case 0:
		case 1:
			s.Provider = o.provider[0]
		default:
			s.Provider = o.provider[i]
		}
		out = append(out, s)
	}
	return out, nil
}

func runMirrorPublish(ctx context.Context, app *App, folder string, o mirrorPublishOptions) error {
	place, err := o.check()
	if err != nil {
		return err
	}
	c, err := app.Config()
	if err != nil {
		return err
	}
	if o.Feed, err = publishFeed(c, o.feed); err != nil {
		return err
	}
	places := newPlaces(c)
	defer places.close()
	if err := places.reachable(ctx, place); err != nil {
		return err
	}
	if o.Signers, err = o.signers(); err != nil {
		return err
	}
	if c.Mirror.TrustPolicy != "" {
		if o.Policy, err = release.LoadPolicy(c.Mirror.TrustPolicy); err != nil {
			return err
		}
	}
	to, end, err := places.destination(ctx, place)
	if err != nil {
		return err
	}
	events := app.Streams.Events(SchemaMirrorPublish)
	defer events.Close()
	p := newMirrorReport(app, events)
	o.Now, o.Parallel, o.Notify = app.Now, c.Mirror.Parallel, func(e publish.Event) { p.published(o.Feed, e) }
	err = p.emit(ui.Started, map[string]string{"feed": o.Feed, "folder": folder, "place": place.String()}, "")
	var done *publish.Result
	if err == nil {
		done, err = publish.Publish(ctx, folder, to, o.Options)
	}
	if err = errors.Join(err, end()); err != nil {
		return explainPublish(o.Feed, err)
	}
	return p.emit(ui.Summary, done, publishText(done))
}

// publishFeed is the named feed, which need not be configured where it is
// published, or the only one that is.
func publishFeed(c *config.Config, name string) (string, error) {
	names := feedNames(c)
	if name != "" {
		return name, nil
	}
	if len(names) == 1 {
		return names[0], nil
	}
	return "", fault.Errorf(fault.Input, "--feed is missing: the feed that the release is of").
		Hint("trust policies and mirrors know it by that name; configured here: %s", orNothing(strings.Join(names, ", ")))
}

// destination opens a place to publish to. end is called at the end.
func (p *places) destination(ctx context.Context, place objstore.Place) (publish.Destination, func() error, error) {
	if place.Scheme == objstore.File {
		d, err := publish.Directory(place.Path)
		if fault.KindOf(err) == fault.NotFound {
			return nil, nil, fault.Errorf(fault.NotFound, "%w", err).Hint("make it, or mount it: ls -ld %s", place.Path)
		}
		if err != nil {
			return nil, nil, err
		}
		return d, d.Close, nil
	}
	s, err := p.store(ctx, place)
	if err != nil {
		return nil, nil, err
	}
	return publish.Bucket(s), func() error { return nil }, nil
}

// published takes what the publisher tells.
func (p *mirrorReport) published(feed string, e publish.Event) {
	step := map[publish.EventType]string{publish.Hashed: "reading", publish.Uploaded: "sending", publish.Copied: "copying"}[e.Type]
	if step != "" {
		p.step(step, mirror.Event{Type: mirror.Progress, Feed: feed, ExportID: e.ExportID, Members: e.Members, Bytes: e.Bytes, Total: e.Total})
	}
}

// explainPublish names the reason of a refusal; what to do about one's own
// folder is in its text.
func explainPublish(feed string, err error) error {
	refused := refusalIn(err)
	if refused == nil {
		return fmt.Errorf("feed %s: %w", feed, err)
	}
	return fault.Errorf(fault.KindOf(err), "feed %s: %s: %w", feed, refused.Reason, err)
}

func publishText(r *publish.Result) string {
	var by []string
	for _, s := range r.Signatures {
		by = append(by, s.KeyID)
	}
	signed := ", signed by " + strings.Join(by, " and ")
	switch {
	case r.DryRun:
		return fmt.Sprintf("%s: nothing was written; it would be %s%s, at %s%s", r.Feed, described(&r.Facts), signed, r.Place, after(r.Before))
	case r.Outcome == publish.Unchanged:
		return fmt.Sprintf("%s: unchanged, %s is shown at %s already", r.Feed, described(&r.Facts), r.Place)
	}
	return fmt.Sprintf("%s: published %s%s, at %s%s; sent %s, %s; fresh until %s", r.Feed, described(&r.Facts), signed, r.Place,
		after(r.Before), count(int64(r.Uploaded), "member"), size(r.Sent), r.ExpiresAt.UTC().Format(time.RFC3339))
}
