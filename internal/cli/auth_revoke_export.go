package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stella-ops/stella/internal/durable"
	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/revocation"
	"github.com/stella-ops/stella/internal/ui"
)

// SchemaAuthRevokeExport is the schema of what auth revoke export prints as JSON.
const SchemaAuthRevokeExport = "stella.auth.revoke.export/v1"

type authRevokeExportOptions struct {
	out      string
	dryRun   bool
	operator operatorOptions
}

func newAuthRevokeExportCmd(app *App) *cobra.Command {
	var opts authRevokeExportOptions
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write the signed list of what is revoked to files",
		Long: long(`Fetch the list as it is now, verify it against the Authority's published keys, and
write three files to the directory of --out: `+revocation.FileBundle+`, its
detached signature .jws and its digest .sha256. What was written is read back
and verified before it is reported. A list that is older than the one in the
directory is refused. It takes a token with scope
`+scopeRevocations+` for `+authorityAudience+`, or --bootstrap.

A run that was killed half-way may leave files of two lists; they do not verify
together, and the next run mends them.`,
			fault.Denied, fault.NotFound, fault.Offline, fault.Transient, fault.Trust, fault.Config),
		Example: `  stella auth revoke export --out /media/usb/revocations
  stella auth revoke export --out . --dry-run --output json`,
		Args:              noArgs(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return runAuthRevokeExport(cmd.Context(), app, opts) },
	}
	f := cmd.Flags()
	f.StringVar(&opts.out, "out", "", "directory for the files; made if it is missing (required)")
	f.BoolVar(&opts.dryRun, "dry-run", false, "fetch and verify, and write nothing")
	opts.operator.addFlags(f)
	_ = cmd.MarkFlagDirname("out")
	return cmd
}

// bundleView is a verified bundle.
type bundleView struct {
	Issuer    string                      `json:"issuer"`
	Sequence  int64                       `json:"sequence"`
	Digest    string                      `json:"digest"`
	BundleID  string                      `json:"bundle_id,omitempty"`
	KID       string                      `json:"kid"`
	IssuedAt  time.Time                   `json:"issued_at"`
	ExpiresAt time.Time                   `json:"expires_at,omitzero"`
	Entries   int                         `json:"entries"`
	Counts    map[revocation.Category]int `json:"counts"`
}

func viewBundle(v *revocation.Verified) bundleView {
	b := v.Bundle
	view := bundleView{
		Issuer: b.Issuer, Sequence: b.Sequence, Digest: v.Digest, BundleID: b.BundleID, KID: v.KID,
		IssuedAt: b.IssuedAt, ExpiresAt: b.ExpiresAt, Entries: len(b.Revocations),
		Counts: map[revocation.Category]int{revocation.Token: 0, revocation.Subject: 0, revocation.Client: 0, revocation.Key: 0},
	}
	for _, e := range b.Revocations {
		view.Counts[e.Category]++
	}
	return view
}

func (v bundleView) pairs() []ui.Pair {
	counts := fmt.Sprintf("%d (tokens %d, subjects %d, clients %d, keys %d)", v.Entries,
		v.Counts[revocation.Token], v.Counts[revocation.Subject], v.Counts[revocation.Client], v.Counts[revocation.Key])
	pairs := []ui.Pair{
		{Key: "issuer", Value: ui.C(v.Issuer)},
		{Key: "sequence", Value: ui.C(v.Sequence)},
		{Key: "digest", Value: ui.C(v.Digest)},
		{Key: "signed by", Value: ui.C(v.KID)},
		{Key: "issued", Value: ui.C(v.IssuedAt.Format(time.RFC3339))},
	}
	if !v.ExpiresAt.IsZero() {
		pairs = append(pairs, ui.Pair{Key: "expires", Value: ui.C(v.ExpiresAt.Format(time.RFC3339))})
	}
	return append(pairs, ui.Pair{Key: "entries", Value: ui.C(counts)})
}

// exportResult is stella.auth.revoke.export/v1.
type exportResult struct {
	bundleView
	Directory string   `json:"directory"`
	Files     []string `json:"files"`
	Written   bool     `json:"written"` // false: --dry-run, or the files were the same already
}

func runAuthRevokeExport(ctx context.Context, app *App, opts authRevokeExportOptions) error {
	if opts.out == "" {
		return fault.Errorf(fault.Input, "--out is missing: the directory for the files")
	}
	c, err := app.Config()
	if err != nil {
		return err
	}
	op, err := opts.operator.open(app, c, scopeRevocations)
	if err != nil {
		return err
	}
	s, err := openAuth(app, tokenWant{})
	if err != nil {
		return err
	}
	defer s.close()
	const what = "fetching the list of what is revoked"
	data, err := op.call(ctx, http.MethodGet, pathRevocationsExport, what, nil, revocation.MaxDocument)
	if err != nil {
		return err
	}
	set, _, err := s.client.Keys(ctx)
	if err != nil {
		return err
	}
	doc, err := revocation.ParseDocument(data)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	v, err := doc.Verify(ctx, revocation.KeysIn(set))
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if v.Bundle.Issuer != s.client.Issuer() {
		return fault.Errorf(fault.Trust, "%s: %w: %q instead of %q", what, revocation.ErrIssuer, v.Bundle.Issuer, s.client.Issuer())
	}
	s.close()
	r := exportResult{bundleView: viewBundle(v), Directory: opts.out, Files: []string{}}
	if r.Files, r.Written, err = writeBundle(ctx, opts, doc, v, revocation.KeysIn(set)); err != nil {
		return err
	}
	return app.Streams.Render(SchemaAuthRevokeExport, r, func(p *ui.Page) {
		switch {
		case opts.dryRun:
			p.Line("The list verifies; nothing was written (--dry-run).")
		case r.Written:
			p.Line("Written to %s: %s", r.Directory, strings.Join(r.Files, ", "))
		default:
			p.Line("Nothing to write: %s has this list already.", r.Directory)
		}
		p.Pairs(r.pairs()...)
	})
}

// writeBundle writes the three files, unless they are there as they should be,
// and verifies what can be read back.
func writeBundle(ctx context.Context, opts authRevokeExportOptions, doc *revocation.Document, v *revocation.Verified, keys revocation.Keys) (names []string, written bool, err error) {
	files := []struct {
		name string
		data []byte
	}{
		{revocation.FileBundle, doc.Bundle},
		{revocation.FileSignature, []byte(doc.Signature + "\n")},
		{revocation.FileDigest, []byte(strings.TrimPrefix(v.Digest, "sha256:") + "\n")},
	}
	for _, f := range files {
		names = append(names, f.name)
	}
	d, err := openOut(opts.out, !opts.dryRun)
	if d == nil || err != nil {
		return names, false, err
	}
	defer d.Close()
	old, err := d.Read(revocation.FileBundle, revocation.MaxBytes)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, false, fmt.Errorf("reading the list that is there: %w", err)
	}
	if have, err := revocation.Parse(old); err == nil && have.Issuer == v.Bundle.Issuer && older(v.Bundle, have) {
		return nil, false, fault.Errorf(fault.Trust, "%w: %q has sequence %d, the Authority gives %d", revocation.ErrOlder,
			filepath.Join(opts.out, revocation.FileBundle), have.Sequence, v.Bundle.Sequence).
			Hint("was the Authority's database restored from an old backup? if that is meant, write to another directory")
	}
	if err := replaceable(opts.out, old, v); err != nil {
		return nil, false, err
	}
	if opts.dryRun {
		return names, false, nil
	}
	if err := d.Sweep(time.Hour); err != nil { // what a writer that was killed left
		return nil, false, fmt.Errorf("writing the list: %w", err)
	}
	for _, f := range files {
		if have, err := d.Read(f.name, revocation.MaxBytes); err == nil && bytes.Equal(have, f.data) {
			continue
		}
		if err := d.Write(f.name, f.data, 0o644); err != nil {
			return nil, false, fmt.Errorf("writing the list: %w", err)
		}
		written = true
	}
	var back [3][]byte
	for i, f := range files {
		if back[i], err = d.Read(f.name, revocation.MaxBytes); err != nil {
			return nil, false, fmt.Errorf("reading the list back: %w", err)
		}
	}
	if _, err := revocation.Verify(ctx, back[0], string(back[1]), string(back[2]), keys); err != nil {
		return nil, false, fmt.Errorf("what was written does not verify: %w", err)
	}
	return names, written, nil
}

// older reports whether b goes back behind have: a lower sequence, unless a new
// count has begun.
func older(b, have *revocation.Bundle) bool {
	restarted := b.BundleID != "" && have.BundleID != "" && b.BundleID != have.BundleID && b.IssuedAt.After(have.IssuedAt)
	return b.Sequence < have.Sequence && !restarted
}

// replaceable refuses to write over another Authority's list, and over another
// list of the same sequence, of which one must be forged. What is no list, as
// after a copy that was cut short, is mended.
func replaceable(out string, old []byte, v *revocation.Verified) error {
	where := filepath.Join(out, revocation.FileBundle)
	have, err := revocation.Parse(old)
	switch {
	case err != nil:
		return nil
	case have.Issuer != v.Bundle.Issuer:
		return fault.Errorf(fault.Input, "%q is the list of %s, not of %s", where, have.Issuer, v.Bundle.Issuer).Hint("write to another directory")
	case have.Sequence == v.Bundle.Sequence && have.BundleID == v.Bundle.BundleID && !bytes.Equal(old, v.Bytes):
		return fault.Errorf(fault.Trust, "%w: %q has sequence %d with other content", revocation.ErrFork, where, have.Sequence).
			Hint("one of the two is forged: keep the file, and find out which")
	}
	return nil
}

// openOut opens the directory; without create a missing one is nil.
func openOut(path string, create bool) (*durable.Dir, error) {
	if create {
		d, err := durable.Create(path, 0o755)
		return d, fault.As(fault.Config, err)
	}
	d, err := durable.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return d, fault.As(fault.Config, err)
}
