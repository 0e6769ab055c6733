package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/oauth"
	"github.com/stella-ops/stella/internal/release"
	"github.com/stella-ops/stella/internal/secret"
	"github.com/stella-ops/stella/internal/testenv/exports"
)

const exportUsage = `usage: stella-lab export [flags] DIR

Writes DIR/mirror, which must not be there yet: an export of a feed as upstream
makes it, of any size. Publish it with 'stella mirror publish DIR', and without
--key with --sign-bundles.

`

// size is a number of bytes with an optional binary unit.
type size int64

func (s *size) String() string { return strconv.FormatInt(int64(*s), 10) }

// Set implements flag.Value.
func (s *size) Set(text string) error {
	digits, shift := text, 0
	for unit, bits := range map[string]int{"KiB": 10, "MiB": 20, "GiB": 30} {
		if rest, ok := strings.CutSuffix(text, unit); ok {
			digits, shift = rest, bits
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 || n > 1<<40>>shift {
		return errors.New("write bytes, or a number with KiB, MiB or GiB; at most 1024GiB")
	}
	*s = size(n << shift)
	return nil
}

// exportFlags are what may be said about an export.
type exportFlags struct {
	exports.Options
	domains, key, keyID string
	bundle, each        size
	files               int
}

func (o *exportFlags) add(f *flag.FlagSet, now time.Time) {
	f.StringVar(&o.Feed, "feed", exports.Concelier, "`NAME` of the feed: concelier or excititor")
	f.StringVar(&o.domains, "domains", "primary,community", "`LIST` of domains, with commas")
	f.StringVar(&o.ExportID, "export-id", now.Format(exportIDs), "`ID` in the index; the time by default")
	f.IntVar(&o.Advisories, "records", 200, "`N` records in each bundle")
	f.Var(&o.bundle, "bundle-size", "`SIZE` that each bundle grows to instead, such as 1GiB")
	f.IntVar(&o.files, "files", 0, "`N` more members, of random bytes, in the first domain")
	f.Var(&o.each, "file-size", "`SIZE` of each of them")
	f.Uint64Var(&o.Seed, "seed", uint64(now.Unix()), "`N`: the same one gives the same records and files; the time by default")
	f.StringVar(&o.key, "key", "", "`FILE` with a private key that signs the bundles; without it they are not signed")
	f.StringVar(&o.keyID, "key-id", "", "`KID` of that key")
}

// export is the subcommand of that name. It prints one line.
func export(ctx context.Context, args []string, out io.Writer) error {
	now := time.Now().UTC().Truncate(time.Second)
	var o exportFlags
	o.each = 64 << 10
	set := flag.NewFlagSet("export", flag.ContinueOnError)
	o.add(set, now)
	set.SetOutput(io.Discard)
	var dirs []string
	for rest := args; ; { // flags may follow DIR
		if err := set.Parse(rest); errors.Is(err, flag.ErrHelp) {
			fmt.Fprint(out, exportUsage)
			set.SetOutput(out)
			set.PrintDefaults()
			return nil
		} else if err != nil {
			return fault.Errorf(fault.Input, "export: %w", err).Hint("see: stella-lab export -h")
		}
		if set.NArg() == 0 {
			break
		}
		dirs, rest = append(dirs, set.Arg(0)), set.Args()[1:]
	}
	if len(dirs) != 1 {
		return fault.Errorf(fault.Input, "export: it writes to one DIR, found %d", len(dirs)).Hint("see: stella-lab export -h")
	}
	if err := o.complete(now); err != nil {
		return err
	}
	if err := exports.Write(ctx, dirs[0], o.Options); errors.Is(err, fs.ErrExist) {
		return fault.Errorf(fault.Input, "export: %w", err).Hint("name a new folder")
	} else if err != nil {
		return err
	}
	files, bytes, err := weigh(dirs[0])
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s: export %s of %s: %d files, %.1f MiB; seed %d\n", dirs[0], o.ExportID, o.Feed, files, float64(bytes)/(1<<20), o.Seed)
	return err
}

// complete judges what was said, and loads the key.
func (o *exportFlags) complete(now time.Time) error {
	o.Created, o.BundleBytes, o.Domains = now, int64(o.bundle), strings.Split(o.domains, ",")
	if o.Advisories == 0 {
		o.Advisories = -1
	}
	if o.files > 0 {
		o.Extra = []exports.Files{{Count: o.files, Bytes: int64(o.each)}}
	}
	switch {
	case o.Feed != exports.Concelier && o.Feed != exports.Excititor:
		return fault.Errorf(fault.Input, "export: --feed: found %.80q; allowed: %s", o.Feed, strings.Join(feedNames(), ", "))
	case !release.ExportID(o.ExportID):
		return fault.Errorf(fault.Input, "export: --export-id: %.80q is not a plain name", o.ExportID)
	case o.files < 0 || o.files > release.MaxMembers || o.Advisories < -1:
		return fault.Errorf(fault.Input, "export: --files and --records are not negative, and a release has at most %d members", release.MaxMembers)
	}
	for i, id := range o.Domains {
		if release.CheckPath(release.BundlePath(id)) != nil || strings.Contains(id, "/") || slices.Contains(o.Domains[:i], id) {
			return fault.Errorf(fault.Input, "export: --domains: %.80q is not a plain name that is there once", id)
		}
	}
	if o.key == "" {
		return nil
	}
	path, err := filepath.Abs(o.key)
	if err != nil {
		return err
	}
	signer, err := oauth.LoadSigner(secret.Ref("file:"+path), o.keyID)
	if err != nil {
		return err
	}
	o.Key = &exports.Key{ID: signer.Key().KeyID, Provider: release.DefaultProvider, Signer: signer, Private: signer.Private()}
	return nil
}

// weigh counts files and their bytes.
func weigh(dir string) (files int, bytes int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			files, bytes = files+1, bytes+info.Size()
		}
		return err
	})
	return files, bytes, err
}
