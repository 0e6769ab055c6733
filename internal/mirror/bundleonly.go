package mirror

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/stella-ops/stella/internal/mirror/store"
	"github.com/stella-ops/stella/internal/objstore"
	"github.com/stella-ops/stella/internal/release"
)

// loose is a release without a statement, as far as it was read.
type loose struct {
	index     *release.Index
	manifests map[string]*release.Manifest
	jws       map[string][]byte // signatures of bundles, by domain
	created   time.Time         // of the newest manifest
	names     *release.Names
	bytes     int64
	list      []store.Entry
	small     map[string][]byte        // by digest, what goes into staging
	bundles   map[string]objstore.Info // by path, as they were when they were read
}

// maxLoose bounds index, manifests and signatures together, in bytes: they are
// held in memory until all is verified.
const maxLoose = 64 << 20

// look is what a publisher at work would change.
func (l *loose) look(ctx context.Context, r *run) (string, error) {
	var b strings.Builder
	for _, e := range l.list {
		if _, bundle := release.BundleOf(e.Path); !bundle {
			fmt.Fprintln(&b, e.Path, e.SHA256)
		}
	}
	for _, path := range slices.Sorted(maps.Keys(l.bundles)) {
		info := l.bundles[path]
		if r != nil {
			var err error
			if info, err = r.src.Info(ctx, path); errors.Is(err, objstore.ErrNotFound) {
				info = objstore.Info{Size: -1}
			} else if err != nil {
				return "", err
			}
		}
		fmt.Fprintln(&b, path, info.ETag, info.Size, info.Modified.UTC())
	}
	return b.String(), nil
}

// bundleOnly reads index, manifests, signatures and bundles, then asks again
// for each: what changed meanwhile may be of another release.
func (r *run) bundleOnly(ctx context.Context) error {
	l, err := r.looseDocuments(ctx)
	if err != nil {
		return r.looseMismatch(ctx, l, err)
	}
	id := l.index.ExportID
	if id == "" {
		id = l.created.UTC().Format("20060102T150405Z")
	}
	r.seen.facts = store.Facts{Layout: store.BundleOnly, Feed: r.feed.Name, ExportID: id, GeneratedAt: l.created}
	if err := r.m.Policy.CheckTime(l.created, time.Time{}, r.m.now()); err != nil {
		return err
	}
	if r.dry {
		r.result.Facts, r.result.Outcome, r.result.Before = r.seen.facts, Updated, r.state.Shown.ExportID
		r.result.Fetched = len(l.list) + len(l.index.Domains)
		return nil
	}
	for _, d := range l.index.Domains {
		entry, err := r.looseBundle(ctx, l, d.ID)
		if err != nil {
			return r.looseMismatch(ctx, l, err)
		}
		l.list = append(l.list, entry)
	}
	if err := r.still(ctx, l.list); err != nil {
		return err
	}
	for sha, data := range l.small {
		if err := r.s.Stage(sha, data); err != nil {
			return err
		}
	}
	return r.take(ctx, store.FromMembers(store.BundleOnly, r.feed.Name, id, l.created, l.list))
}

// looseDocuments reads all but the bundles. With an error the result is what was
// read before it.
func (r *run) looseDocuments(ctx context.Context) (*loose, error) {
	l := &loose{manifests: map[string]*release.Manifest{}, jws: map[string][]byte{}, small: map[string][]byte{}, bundles: map[string]objstore.Info{}, names: release.NewNames()}
	data, err := r.looseDocument(ctx, l, release.PathIndex, release.MaxIndex)
	if err != nil {
		return l, err
	}
	if l.index, err = release.ParseIndex(data); err != nil {
		return l, err
	}
	for _, d := range l.index.Domains {
		if data, err = r.looseDocument(ctx, l, release.ManifestPath(d.ID), release.MaxManifest); err != nil {
			return l, err
		}
		m, err := release.ParseManifest(d.ID, data)
		if err != nil {
			return l, err
		}
		l.manifests[d.ID] = m
		if m.Created.After(l.created) {
			l.created = m.Created
		}
		if l.jws[d.ID], err = r.looseDocument(ctx, l, release.BundlePath(d.ID)+release.SuffixJWS, release.MaxSignature); err != nil {
			return l, err
		}
	}
	return l, nil
}

func (r *run) looseDocument(ctx context.Context, l *loose, path string, limit int64) ([]byte, error) {
	if err := l.names.Add(path); err != nil {
		return nil, err
	}
	data, info, err := r.src.Small(ctx, path, limit, "")
	if errors.Is(err, objstore.ErrNotFound) {
		why := release.MissingMember
		if strings.HasSuffix(path, release.SuffixJWS) {
			why = release.SignatureMissing
		}
		err = release.Refuse(why, "%s is not at the source: %w", path, err).About(path)
	}
	if err != nil {
		return nil, err
	}
	if l.bytes += int64(len(data)); len(l.list) >= r.m.Policy.Limits.Members || l.bytes > min(maxLoose, r.m.Policy.Limits.Release) {
		return nil, release.Refuse(release.TooLarge, "index, manifests and signatures of %s are more than %d files or %d bytes", r.src.Place(), r.m.Policy.Limits.Members, min(maxLoose, r.m.Policy.Limits.Release))
	}
	sha := strings.TrimPrefix(release.Digest(data), "sha256:")
	l.list = append(l.list, store.Entry{Member: release.Member{Path: path, Size: int64(len(data)), SHA256: sha}, ETag: info.ETag, Modified: info.Modified})
	l.small[sha] = data
	return data, nil
}

// looseBundle fetches and verifies one bundle of which nobody told the digest.
func (r *run) looseBundle(ctx context.Context, l *loose, domain string) (store.Entry, error) {
	path, man := release.BundlePath(domain), l.manifests[domain]
	check, err := r.m.Policy.OpenBundle(path, l.jws[domain], r.feed.Name, r.m.now())
	if err != nil {
		return store.Entry{}, err
	}
	defer check.Close()
	part, err := r.s.Part("incoming")
	if err != nil {
		return store.Entry{}, err
	}
	defer part.Close()
	if err := part.Reset(); err != nil {
		return store.Entry{}, err
	}
	m, info, err := r.src.Whole(ctx, path, min(r.m.Policy.Limits.Member, r.m.Policy.Limits.Release-l.bytes), part, check)
	l.bytes += m.Size
	l.bundles[path] = info
	if errors.Is(err, objstore.ErrNotFound) {
		l.bundles[path] = objstore.Info{Size: -1}
		err = release.Refuse(release.MissingMember, "%s is not at the source: %w", path, err).About(path)
	}
	if err == nil {
		err = check.Verify()
	}
	if err == nil && man.Bundle != nil && *man.Bundle != m {
		err = release.Refuse(release.MixAndMatch, "the manifest of %s is of another bundle", domain).About(release.ManifestPath(domain)).
			Found("sha256:"+man.Bundle.SHA256, "sha256:"+m.SHA256)
	}
	if err != nil {
		return store.Entry{}, errors.Join(err, part.Drop())
	}
	r.seen.signatures = append(r.seen.signatures, check.Signature)
	r.result.Received += m.Size
	r.result.Fetched++
	return store.Entry{Member: m, ETag: info.ETag, Modified: info.Modified}, part.Keep(m.SHA256)
}

// looseMismatch decides, as mismatch does, whether parts that do not fit are an
// attack or on their way.
func (r *run) looseMismatch(ctx context.Context, l *loose, err error) error {
	why := release.ReasonOf(err)
	if why == "" || why == release.TooSlow {
		return err
	}
	was, lerr := l.look(ctx, nil)
	if lerr != nil {
		return lerr
	}
	r.seen.facts.Digest = release.Digest([]byte(was))
	if r.knownError(err) {
		return err
	}
	if moved := r.settle(ctx, err, func() (bool, error) {
		again, aerr := r.looseDocuments(ctx)
		if aerr != nil && release.ReasonOf(aerr) != why {
			return false, notRefused(aerr)
		}
		again.bundles = l.bundles
		is, err := again.look(ctx, r)
		return is == was, err
	}); moved != nil {
		return moved
	}
	return err
}

// notRefused drops a refusal, and keeps other errors.
func notRefused(err error) error {
	if release.ReasonOf(err) != "" {
		return nil
	}
	return err
}

// still asks whether what was read is there unchanged.
func (r *run) still(ctx context.Context, list []store.Entry) error {
	for _, e := range list {
		info, err := r.src.Info(ctx, e.Path)
		if errors.Is(err, objstore.ErrNotFound) || err == nil && (info.ETag != e.ETag || info.Size != e.Size || e.ETag == "" && !info.Modified.Equal(e.Modified)) {
			return errMoved
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// take judges a release that has no statement against what was accepted before,
// and shows it.
func (r *run) take(ctx context.Context, c *store.Content) error {
	r.seen.facts = c.Facts
	pin := r.state.Pin
	was, is := pin.ExportID, c.ExportID
	switch {
	case pin.ExportID == "":
	case c.Digest == pin.Digest && (r.state.Held || r.s.HasRelease(c.ExportID) && !r.repair):
		return r.unchanged()
	case c.Digest == pin.Digest:
	case c.GeneratedAt.Before(pin.GeneratedAt):
		return release.Refuse(release.Rollback, "the release %s is older than %s, which was accepted before", is, was).Found(was, is)
	case r.other(c):
		return release.Refuse(release.Equivocation, "the release %s was accepted before, with other content", is).Found(pin.Digest, c.Digest)
	}
	r.result.Facts, r.result.Before, r.result.Outcome = c.Facts, r.state.Shown.ExportID, Updated
	r.m.notify(Event{Type: Verified, Feed: r.feed.Name, ExportID: c.ExportID, Members: len(c.List), Bytes: c.Bytes})
	return r.show(ctx, c)
}

// other reports whether other content was accepted under the export's name. A
// tree that a run left without recording it is not that.
func (r *run) other(c *store.Content) bool {
	was, ok := r.state.Export(c.ExportID)
	return ok && was.Digest != c.Digest
}
