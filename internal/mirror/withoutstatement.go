package mirror

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/mirror/store"
	"github.com/stella-ops/stella/internal/objstore"
	"github.com/stella-ops/stella/internal/release"
)

// withoutStatement takes a release of which only the bundles are signed, if the
// policy allows it. Its protection is weaker, as docs/formats/release.md says:
// what binds its parts together is that they hold still while they are read,
// and what keeps it from going back is what this mirror remembers.
func (r *run) withoutStatement(ctx context.Context) error {
	_, err := r.src.Info(ctx, release.PathIndex)
	none := errors.Is(err, objstore.ErrNotFound)
	switch {
	case err != nil && !none:
		return err
	case none && r.state.Pin.ExportID == "":
		return fault.Errorf(fault.NotFound, "%s holds no release: neither %s nor %s is there", r.src.Place(), release.FileStatement, release.PathIndex).
			Hint("check the source: stella config show --origin").
			Hint("a folder of files without manifests is mirrored with shape: tree")
	case none:
		return r.gone(ctx)
	case r.state.Statement:
		return release.Refuse(release.StatementMissing, "%s has no %s any more, though releases of it had one: somebody may have taken it away", r.src.Place(), release.FileStatement).About(release.FileStatement)
	case r.m.Policy.Statement == release.Required:
		return release.Refuse(release.StatementMissing, "%s has no %s, and the trust policy wants one", r.src.Place(), release.FileStatement).About(release.FileStatement)
	}
	if same, err := r.sameObjects(ctx); err != nil || same {
		if err == nil {
			err = r.unchanged()
		}
		return err
	}
	return r.loose(ctx)
}

// gone judges a source that had releases and has none. It is given the time to
// come back that a publisher needs who replaces everything.
func (r *run) gone(ctx context.Context) error {
	err := release.Refuse(release.Emptied, "%s is empty, though releases came from it before; nothing is removed here", r.src.Place())
	if r.known(release.Emptied) {
		return err
	}
	moved := r.settle(ctx, err, func() (bool, error) {
		for _, key := range []string{release.FileStatement, release.PathIndex} {
			if _, err := r.src.Info(ctx, key); !errors.Is(err, objstore.ErrNotFound) {
				return false, err
			}
		}
		return true, nil
	})
	if moved != nil {
		return moved
	}
	return err
}

// sameObjects asks for every member that is shown whether it is the same still,
// by its ETag: a few requests, since all but index, manifests, bundles and
// signatures need a statement.
func (r *run) sameObjects(ctx context.Context) (bool, error) {
	if r.state.Shown.Layout != store.BundleOnly || !r.judged() {
		return false, nil
	}
	was, err := r.shown()
	if err != nil {
		return false, nil
	}
	for _, e := range was.List {
		if e.ETag == "" {
			return false, nil
		}
		_, _, err := r.src.Small(ctx, e.Path, e.Size, e.ETag)
		if errors.Is(err, objstore.ErrNotModified) {
			continue
		}
		if err == nil || release.ReasonOf(err) != "" || errors.Is(err, objstore.ErrNotFound) {
			return false, nil
		}
		return false, err
	}
	return true, nil
}

// loose reads index, manifests, signatures and bundles, then asks again for
// each: what changed meanwhile may be of another release.
func (r *run) loose(ctx context.Context) error {
	get := func(path string, limit int64) ([]byte, store.Entry, error) {
		data, info, err := r.src.Small(ctx, path, limit, "")
		if errors.Is(err, objstore.ErrNotFound) {
			why := release.MissingMember
			if path[len(path)-4:] == release.SuffixJWS {
				why = release.SignatureMissing
			}
			err = release.Refuse(why, "%s is not at the source: %w", path, err).About(path)
		}
		return data, store.Entry{Member: release.Member{Path: path, Size: int64(len(data)), SHA256: release.Digest(data)[7:]}, ETag: info.ETag, Modified: info.Modified}, err
	}
	data, entry, err := get(release.PathIndex, release.MaxIndex)
	if err != nil {
		return err
	}
	index, err := release.ParseIndex(data)
	if err != nil {
		return err
	}
	list, small := []store.Entry{entry}, map[string][]byte{entry.SHA256: data}
	var created time.Time
	manifests := map[string]*release.Manifest{}
	for _, d := range index.Domains {
		data, entry, err := get(release.ManifestPath(d.ID), release.MaxManifest)
		if err != nil {
			return err
		}
		if manifests[d.ID], err = release.ParseManifest(d.ID, data); err != nil {
			return err
		}
		if at := manifests[d.ID].Created; at.After(created) {
			created = at
		}
		list, small[entry.SHA256] = append(list, entry), data
		if data, entry, err = get(release.BundlePath(d.ID)+release.SuffixJWS, release.MaxSignature); err != nil {
			return err
		}
		list, small[entry.SHA256] = append(list, entry), data
	}
	id := index.ExportID
	if id == "" {
		id = created.UTC().Format("20060102T150405Z")
	}
	r.seen.facts = store.Facts{Layout: store.BundleOnly, Feed: r.feed.Name, ExportID: id, GeneratedAt: created}
	if err := r.m.Policy.CheckTime(created, time.Time{}, r.m.now()); err != nil {
		return err
	}
	if r.dry {
		r.result.Facts, r.result.Outcome, r.result.Before = r.seen.facts, Updated, r.state.Shown.ExportID
		r.result.Fetched = len(list) + len(index.Domains)
		return nil
	}
	for _, d := range index.Domains {
		jws := small[list[jwsAt(list, d.ID)].SHA256]
		entry, err := r.looseBundle(ctx, d.ID, jws, manifests[d.ID])
		if err != nil {
			return r.looseMismatch(ctx, list, err)
		}
		list = append(list, entry)
	}
	if err := r.still(ctx, list); err != nil {
		return err
	}
	for sha, data := range small {
		if err := r.s.Stage(sha, data); err != nil {
			return err
		}
	}
	return r.take(ctx, store.FromMembers(store.BundleOnly, r.feed.Name, id, created, list))
}

func jwsAt(list []store.Entry, domain string) int {
	for i, e := range list {
		if e.Path == release.BundlePath(domain)+release.SuffixJWS {
			return i
		}
	}
	return 0
}

// looseBundle fetches and verifies one bundle of which nobody told the digest.
func (r *run) looseBundle(ctx context.Context, domain string, jws []byte, man *release.Manifest) (store.Entry, error) {
	path := release.BundlePath(domain)
	check, err := r.m.Policy.OpenBundle(path, jws, r.feed.Name, r.m.now())
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
	m, info, err := r.src.Whole(ctx, path, r.m.Policy.Limits.Member, part, check)
	if errors.Is(err, objstore.ErrNotFound) {
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

// looseMismatch decides, as mismatch does, whether the parts that do not fit
// are an attack or on their way.
func (r *run) looseMismatch(ctx context.Context, list []store.Entry, err error) error {
	if release.ReasonOf(err) == "" || release.ReasonOf(err) == release.TooSlow {
		return err
	}
	var b bytes.Buffer
	for _, e := range list {
		fmt.Fprintln(&b, e.Path, e.SHA256)
	}
	r.seen.facts.Digest = release.Digest(b.Bytes())
	if r.known(release.ReasonOf(err)) {
		return err
	}
	if moved := r.settle(ctx, err, func() (bool, error) {
		err := r.still(ctx, list)
		if errors.Is(err, errMoved) {
			return false, nil
		}
		return true, err
	}); moved != nil {
		return moved
	}
	return err
}

// still asks whether what was read is there unchanged.
func (r *run) still(ctx context.Context, list []store.Entry) error {
	for _, e := range list {
		info, err := r.src.Info(ctx, e.Path)
		if errors.Is(err, objstore.ErrNotFound) || err == nil && (info.ETag != e.ETag || info.Size != e.Size) {
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
	case c.Digest == pin.Digest && r.s.HasRelease(c.ExportID):
		return r.unchanged()
	case c.Digest == pin.Digest:
	case c.GeneratedAt.Before(pin.GeneratedAt):
		return release.Refuse(release.Rollback, "the release %s is older than %s, which was accepted before", is, was).Found(was, is)
	case is == was || r.s.HasRelease(is):
		return release.Refuse(release.Equivocation, "the release %s was accepted before, with other content", is).Found(pin.Digest, c.Digest)
	}
	r.result.Facts, r.result.Before, r.result.Outcome = c.Facts, r.state.Shown.ExportID, Updated
	r.m.notify(Event{Type: Verified, Feed: r.feed.Name, ExportID: c.ExportID, Members: len(c.List), Bytes: c.Bytes})
	return r.show(ctx, c)
}
