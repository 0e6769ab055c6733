package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/revocation"
	"github.com/stella-ops/stella/internal/ui"
)

// SchemaAuthRevokeVerify is the schema of what auth revoke verify prints as JSON.
const SchemaAuthRevokeVerify = "stella.auth.revoke.verify/v1"

type authRevokeVerifyOptions struct {
	bundle, signature, digest string
	key, url                  string
	issuer, state             string
}

func (o *authRevokeVerifyOptions) addFlags(f *pflag.FlagSet) {
	f.StringVar(&o.bundle, "bundle", "", "`FILE` with the list (required)")
	f.StringVar(&o.signature, "signature", "", "`FILE` with its detached signature; by default the list's name and .jws")
	f.StringVar(&o.digest, "sha256", "", "`FILE` with its digest; by default the list's name and .sha256, if that is there")
	f.StringVar(&o.key, "key", "", "`FILE` with the keys: a JWK set, or one public key or certificate in PEM")
	f.StringVar(&o.url, "jwks-url", "", "`URL` of the keys instead of the Authority's")
	f.StringVar(&o.issuer, "issuer", "", "issuer that the list must be of; by default authority.url")
	f.StringVar(&o.state, "state", "", "directory that remembers the list that was accepted last: an older one is refused")
}

func newAuthRevokeVerifyCmd(app *App) *cobra.Command {
	var opts authRevokeVerifyOptions
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Check a list of revocations that was carried here",
		Long: long(`Check, in this order, that the list has the form that it must have, that its
SHA-256 is the one beside it, that its key is one of the issuer's and not one
that it revokes itself, and that the signature is good. Then check its issuer,
its times, and with --state that it is not older than one that was accepted
before; the directory must be there (mkdir -m 700).

The keys come from --key, from --jwks-url, or from the configured Authority;
with --offline, the Authority's are those that were seen last. With --key and
without --state nothing but the named files is read, and no socket is opened.

Anything that does not fit is exit status 21, down to one changed byte.`,
			fault.NotFound, fault.Offline, fault.Transient, fault.Trust, fault.Config),
		Example: `  stella auth revoke verify --bundle revocation-bundle.json --key jwks.json
  stella auth revoke verify --bundle /media/usb/revocation-bundle.json --state /var/lib/stella/revocations --offline`,
		Args:              noArgs(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return runAuthRevokeVerify(cmd.Context(), app, opts) },
	}
	opts.addFlags(cmd.Flags())
	_ = cmd.MarkFlagDirname("state")
	return cmd
}

// revokeVerifyResult is stella.auth.revoke.verify/v1.
type revokeVerifyResult struct {
	bundleView
	DigestChecked bool      `json:"digest_checked"`     // against a file
	KeysFrom      string    `json:"keys_from"`          // a file, a URL or the issuer
	KeysAt        time.Time `json:"keys_at,omitzero"`   // when the issuer's keys were seen
	Accepted      string    `json:"accepted,omitempty"` // with --state: "new" or "known"
}

func runAuthRevokeVerify(ctx context.Context, app *App, opts authRevokeVerifyOptions) error {
	switch {
	case opts.bundle == "":
		return fault.Errorf(fault.Input, "--bundle is missing: the file with the list")
	case opts.key != "" && opts.url != "":
		return fault.Errorf(fault.Input, "--key and --jwks-url exclude each other")
	}
	c, err := app.Config()
	if err != nil {
		return err
	}
	if opts.issuer == "" {
		opts.issuer = c.Authority.URL
	}
	data, jws, digest, err := opts.read()
	if err != nil {
		return err
	}
	from, err := opts.keys(ctx, app)
	if err != nil {
		return err
	}
	v, err := revocation.Verify(ctx, data, string(jws), string(digest), from.keys)
	if err != nil {
		return fmt.Errorf("%s: %w", opts.bundle, err)
	}
	r := revokeVerifyResult{bundleView: viewBundle(v), DigestChecked: len(digest) > 0, KeysFrom: from.name, KeysAt: from.at}
	if r.Accepted, err = opts.accept(v, app.Now); err != nil {
		return fmt.Errorf("%s: %w", opts.bundle, err)
	}
	return app.Streams.Render(SchemaAuthRevokeVerify, r, r.text)
}

// read reads the files. Without --sha256 its file may be missing.
func (o *authRevokeVerifyOptions) read() (data, jws, digest []byte, err error) {
	if data, err = readBounded(o.bundle, revocation.MaxBytes); err != nil {
		return nil, nil, nil, err
	}
	if o.signature == "" {
		o.signature = o.bundle + ".jws"
	}
	if jws, err = readBounded(o.signature, revocation.MaxSignature); err != nil {
		return nil, nil, nil, err
	}
	name := o.digest
	if name == "" {
		name = o.bundle + ".sha256"
	}
	digest, err = readBounded(name, 4096)
	if o.digest == "" && fault.KindOf(err) == fault.NotFound {
		return data, jws, nil, nil
	}
	if err == nil && len(digest) == 0 {
		err = fault.Errorf(fault.Trust, "%s is empty", name)
	}
	return data, jws, digest, err
}

func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // of a FIFO it would wait
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.Errorf(fault.NotFound, "%w", err)
	}
	if err != nil {
		return nil, fault.Errorf(fault.Config, "%w", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, fault.Errorf(fault.Trust, "%s is not a regular file", path)
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fault.Errorf(fault.Config, "%w", err)
	}
	if int64(len(data)) > limit {
		return nil, fault.Errorf(fault.Trust, "%s is larger than %d bytes", path, limit)
	}
	return data, nil
}

// accept checks issuer and times, and with a state that nothing goes back.
func (o *authRevokeVerifyOptions) accept(v *revocation.Verified, now func() time.Time) (string, error) {
	with := revocation.Options{Issuer: o.issuer, Now: now}
	if with.Issuer == "" {
		with.Issuer = v.Bundle.Issuer
	}
	if o.state != "" {
		state, err := revocation.OpenState(o.state)
		if err != nil {
			return "", fault.Errorf(fault.Config, "%w", err).Hint("mkdir -m 700 %s", o.state)
		}
		defer state.Close()
		with.State = state
	}
	set, err := revocation.NewSet(with)
	if err != nil {
		return "", err
	}
	changed, err := set.Apply(v)
	switch {
	case err != nil || o.state == "":
		return "", err
	case changed:
		return "new", nil
	}
	return "known", nil
}

func (r revokeVerifyResult) text(p *ui.Page) {
	p.Verdict(ui.Good, "The list is good.")
	pairs := r.pairs()
	keys := r.KeysFrom
	if !r.KeysAt.IsZero() {
		keys += ", seen at " + r.KeysAt.Format(time.RFC3339)
	}
	pairs = slices.Concat(pairs, []ui.Pair{{Key: "keys from", Value: ui.C(keys)}})
	if !r.DigestChecked {
		pairs = append(pairs, ui.Pair{Key: "digest file", Value: ui.C("none was there; the signature covers the list all the same")})
	}
	if r.Accepted != "" {
		pairs = append(pairs, ui.Pair{Key: "accepted", Value: ui.C(r.Accepted)})
	}
	p.Pairs(pairs...)
}
