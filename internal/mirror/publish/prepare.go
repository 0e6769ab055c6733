package publish

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/objstore"
	"github.com/stella-ops/stella/internal/release"
)

// list finds the members and holds their names to the rules.
func (j *job) list(ctx context.Context) error {
	names := release.NewNames()
	j.byPath = map[string]*file{}
	err := j.from.List(ctx, "", func(i objstore.Info) error {
		if i.Key == release.FileStatement || i.Key == release.FileSignature {
			return nil // of an earlier publication; made anew
		}
		if !strings.HasPrefix(i.Key, release.Root) {
			return j.from.fault(release.Refuse(release.ExtraMember, "%.200q lies outside %s", i.Key, release.Root).About(i.Key)).
				Hint("give the folder that holds %s and nothing else", release.Root)
		}
		if err := names.Add(i.Key); err != nil {
			return j.from.fault(err)
		}
		if len(j.files) == release.MaxMembers {
			return j.from.fault(release.Refuse(release.TooLarge, "it has more than %d files", release.MaxMembers))
		}
		f := &file{Member: release.Member{Path: i.Key, Size: i.Size}, etag: i.ETag, from: j.from}
		j.files, j.byPath[i.Key] = append(j.files, f), f
		return nil
	})
	if err == nil && len(j.files) == 0 {
		err = j.from.fault(release.Refuse(release.Emptied, "it holds no %s", release.PathIndex))
	}
	return err
}

// documents reads index, manifests and signatures, and holds them to their
// formats before anything large is read.
func (j *job) documents(ctx context.Context) error {
	index, ok := j.byPath[release.PathIndex]
	if !ok {
		return j.missing(release.PathIndex)
	}
	err := index.read(ctx, release.MaxIndex)
	if err != nil {
		return err
	}
	if j.index, err = release.ParseIndex(index.data); err != nil {
		return j.from.fault(err)
	}
	j.id, j.fixed = cmp.Or(j.o.ExportID, j.index.ExportID), true
	if j.id == "" {
		j.id, j.fixed = j.now.Format("20060102T150405Z"), false
	}
	if said := j.index.ExportID; said != "" && said != j.id {
		return j.from.fault(release.Refuse(release.MixAndMatch, "the index is of export %s, not of %s", said, j.id).About(release.PathIndex).Found(j.id, said))
	}
	for _, d := range j.index.Domains {
		if err := j.domain(ctx, d.ID); err != nil {
			return err
		}
	}
	return nil
}

func (j *job) domain(ctx context.Context, id string) error {
	path := release.ManifestPath(id)
	f, ok := j.byPath[path]
	if !ok {
		return j.missing(path)
	}
	if err := f.read(ctx, release.MaxManifest); err != nil {
		return err
	}
	if _, err := release.ParseManifest(id, f.data); err != nil {
		return j.from.fault(err)
	}
	path = release.BundlePath(id)
	if _, ok := j.byPath[path]; !ok {
		return j.missing(path)
	}
	path += release.SuffixJWS
	sig, ok := j.byPath[path]
	switch {
	case !ok && j.o.SignBundles:
		return nil
	case !ok:
		return j.missing(path).Hint("let the exporter sign it, or sign it here: --sign-bundles")
	}
	if err := sig.read(ctx, release.MaxSignature); err != nil {
		return err
	}
	_, err := jose.OpenDetached(strings.TrimSpace(string(sig.data)), jose.Rules{
		Algs:     []jose.Alg{jose.ES256, jose.ES384, jose.ES512, jose.PS256, jose.RS256, jose.EdDSA},
		Critical: []string{"b64"}, MaxBytes: release.MaxSignature,
	})
	if err != nil {
		return j.from.fault(release.Refuse(release.SignatureInvalid, "%s is no detached JWS: %w", path, err).About(path)).
			Hint("a signature that is there is never replaced: see who made it, then remove it or make it again")
	}
	return nil
}

func (j *job) missing(path string) *fault.Error {
	return j.from.fault(release.Refuse(release.MissingMember, "there is no %s", path).About(path))
}

// before looks at the place: at what is shown, and at what has our id.
func (j *job) before(ctx context.Context) error {
	p, err := j.to.head(ctx)
	if err != nil {
		return err
	}
	if p != nil {
		j.shown = j.trust.judge(p, j.now)
		if claims, err := release.ParseStatement(p.data); err == nil && claims.Feed != j.o.Feed {
			return fault.Errorf(fault.Input, "%s shows the feed %q, not %q", j.to.Place(), claims.Feed, j.o.Feed).
				Hint("each feed has a place of its own")
		}
		if j.shown.st != nil {
			j.result.Before = j.shown.st.ExportID
		}
	}
	p, keys, err := j.to.export(ctx, j.id)
	if err != nil || len(keys) == 0 {
		return err
	}
	taken := func(format string, args ...any) error {
		return fault.Errorf(fault.Order, "the export id %s is taken at %s: %s", j.id, j.to.Place(), fmt.Sprintf(format, args...)).
			Hint("an export id is used once: publish under another one")
	}
	if !j.fixed {
		return fault.Errorf(fault.Order, "the export id %s is taken at %s", j.id, j.to.Place()).Hint("publish again: it is a second later now")
	}
	for _, key := range keys {
		path := strings.TrimSuffix(key, release.SuffixJWS)
		_, known := j.byPath[key]
		_, bundle := release.BundleOf(path)
		if !known && path != release.FileStatement && !(j.o.SignBundles && bundle && j.byPath[path] != nil) {
			return taken("%.200q is there", key)
		}
	}
	if p != nil {
		j.there = j.trust.judge(p, j.now)
		if j.there.st == nil {
			return taken("%v", j.there.why)
		}
	}
	return nil
}

// hash takes the digests of all that was not read yet. With a policy the
// signatures of bundles are verified on the way.
func (j *job) hash(ctx context.Context) error {
	var todo []*file
	for _, f := range j.files {
		if f.data == nil {
			todo = append(todo, f)
		}
	}
	progress := j.meter(Hashed)
	return each(ctx, j.o.Parallel, todo, func(ctx context.Context, f *file) error {
		if err := j.hashOne(ctx, f); err != nil {
			return err
		}
		progress(1, f.Size)
		return nil
	})
}

func (j *job) hashOne(ctx context.Context, f *file) error {
	sig := j.byPath[f.Path+release.SuffixJWS]
	if _, bundle := release.BundleOf(f.Path); !bundle || sig == nil || j.o.Policy == nil {
		return f.digest(ctx, nil)
	}
	b, err := j.o.Policy.OpenBundle(f.Path, sig.data, j.o.Feed, j.now)
	if err != nil {
		return j.from.fault(err)
	}
	defer b.Close()
	if err := f.digest(ctx, b); err != nil {
		return err
	}
	if err := b.Verify(); err != nil {
		return j.from.fault(err)
	}
	return nil
}

// statement makes the statement, or takes that of an earlier run which was cut
// off, and holds all documents to it.
func (j *job) statement(context.Context) error {
	st := &release.Statement{Schema: release.Schema, Feed: j.o.Feed, ExportID: j.id, GeneratedAt: j.now, ExpiresAt: j.now.Add(j.o.Lifetime).Truncate(1e9)}
	for _, f := range j.files {
		st.Members = append(st.Members, f.Member)
	}
	slices.SortFunc(st.Members, func(a, b release.Member) int { return cmp.Compare(a.Path, b.Path) })
	if j.there != nil {
		if err := j.resume(st); err != nil {
			return err
		}
		st = j.there.st
	} else if err := j.follow(st); err != nil {
		return err
	}
	data, err := release.Encode(st)
	if err != nil {
		return j.from.fault(err)
	}
	if err := st.CheckDocuments(func(path string) ([]byte, error) { return j.byPath[path].data, nil }); err != nil {
		return j.from.fault(err)
	}
	j.parcel = j.newParcel(st, data)
	if j.there != nil {
		j.parcel.has = j.there.jws
	}
	return nil
}

// follow gives a new statement its number.
func (j *job) follow(st *release.Statement) error {
	st.Sequence = max(j.o.Sequence, 1)
	switch {
	case j.shown == nil:
	case j.shown.st == nil:
		if j.o.Sequence == 0 {
			return fault.Errorf(fault.Trust, "the sequence of the release shown at %s cannot be believed: %w", j.to.Place(), j.shown.why).
				Hint("give the trust policy that believes it, or the number of the new release: --sequence")
		}
	default:
		was := j.shown.st
		if j.o.Sequence == 0 {
			st.Sequence = was.Sequence + 1
		}
		if st.Sequence <= was.Sequence {
			return fault.Errorf(fault.Order, "sequence %d does not follow %d of %s, which %s shows", st.Sequence, was.Sequence, was.ExportID, j.to.Place()).
				Hint("leave --sequence out, or give %d", was.Sequence+1)
		}
		if st.GeneratedAt.Before(was.GeneratedAt) {
			return fault.Errorf(fault.Order, "it is %s here, but the release shown at %s was made at %s", stamp(st.GeneratedAt), j.to.Place(), stamp(was.GeneratedAt)).
				Hint("set this host's clock")
		}
	}
	return nil
}

// resume checks that the statement under our id is of this very folder, and
// that it can be shown still.
func (j *job) resume(want *release.Statement) error {
	has := j.there.st
	refuse := func(format string, args ...any) error {
		return fault.Errorf(fault.Order, "the export id %s is taken at %s: %s", j.id, j.to.Place(), fmt.Sprintf(format, args...)).
			Hint("an export id is used once: publish under another one")
	}
	same := slices.Equal(has.Members, want.Members)
	shown := j.shown != nil && j.shown.st != nil
	switch {
	case !same:
		return refuse("it has other members")
	case j.o.Sequence != 0 && j.o.Sequence != has.Sequence:
		return refuse("it has sequence %d", has.Sequence)
	case !j.now.Before(has.ExpiresAt):
		return refuse("it has expired at %s", stamp(has.ExpiresAt))
	case shown && !release.Equal(has, j.shown.st) && has.Sequence <= j.shown.st.Sequence:
		return refuse("it has sequence %d, and %s with %d is shown", has.Sequence, j.shown.st.ExportID, j.shown.st.Sequence)
	case !shown && j.shown != nil && j.o.Sequence == 0:
		return j.follow(want) // says why
	}
	return nil
}
