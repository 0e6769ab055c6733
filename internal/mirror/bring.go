package mirror

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/mirror/fetch"
	"github.com/stella-ops/stella/internal/mirror/store"
	"github.com/stella-ops/stella/internal/objstore"
	"github.com/stella-ops/stella/internal/release"
)

// bring fetches what is missing of a release, verifies it and shows it.
func (r *run) bring(ctx context.Context, st *release.Statement) error {
	content := store.FromStatement(st, r.seen.statement, r.seen.jws)
	if !r.dry {
		if err := r.sound(ctx, content.List); err != nil {
			return err
		}
	}
	need, bytes := r.missing(content)
	r.result.Facts, r.result.Before = content.Facts, r.state.Shown.ExportID
	r.result.Fetched, r.result.Received, r.result.Kept = len(need), bytes, len(st.Members)-len(need)
	r.result.Outcome = Updated
	if r.repair && r.result.Before == st.ExportID {
		r.result.Outcome = Repaired
	}
	r.m.notify(Event{Type: Found, Feed: r.feed.Name, ExportID: st.ExportID, Members: len(need), Total: bytes})
	if r.dry {
		return nil
	}
	if err := r.room(bytes); err != nil {
		return err
	}
	d, err := r.download(ctx, st, bytes)
	if err != nil {
		return err
	}
	if err := r.closed(ctx, d); err != nil {
		return err
	}
	if err := d.all(ctx, need); err != nil {
		return r.mismatch(ctx, d, err)
	}
	if err := st.CheckDocuments(func(path string) ([]byte, error) {
		m, _ := st.Find(path)
		return r.s.Staged(m, release.MaxIndex)
	}); err != nil {
		return err
	}
	r.result.Received = d.src.Received()
	r.m.notify(Event{Type: Verified, Feed: r.feed.Name, ExportID: st.ExportID, Members: len(st.Members), Bytes: content.Bytes})
	return r.show(ctx, content)
}

// sound forgets members that are here already and damaged. It reads those that
// somebody has written to since the last release was accepted, and to repair
// all; what rots without a trace, only verify and repair find.
func (r *run) sound(ctx context.Context, list []store.Entry) error {
	return each(ctx, min(r.m.parallel(), 4), list, func(ctx context.Context, _ int, e store.Entry) error {
		if !r.s.HasObject(e.SHA256, e.Size) || !r.repair && !r.s.Touched(e.SHA256, r.state.AcceptedAt.Add(time.Second)) {
			return nil
		}
		err := r.s.ReadMember(ctx, e.Member, nil)
		if release.ReasonOf(err) != "" {
			return r.s.DropObject(e.SHA256)
		}
		return err
	})
}

// missing lists the members that are not there yet, one for each digest, the
// signatures and small documents first: a bundle is verified while it comes.
func (r *run) missing(c *store.Content) (need []release.Member, bytes int64) {
	seen := map[string]bool{}
	for _, e := range c.List {
		if seen[e.SHA256] || r.s != nil && r.s.HasObject(e.SHA256, e.Size) {
			continue
		}
		seen[e.SHA256] = true
		need = append(need, e.Member)
		bytes += e.Size
		if r.s != nil { // of a run that was cut off
			bytes -= min(e.Size, r.s.PartSize(e.SHA256))
		}
	}
	return need, bytes
}

// room refuses to begin what cannot end. What it needs for names is left out.
func (r *run) room(bytes int64) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(r.s.Path(), &fs); err != nil {
		return nil // then the write will tell
	}
	if free := int64(fs.Bavail) * fs.Bsize; free < bytes {
		return fault.Errorf(fault.Transient, "%s has room for %d bytes, the release needs %d: %w", r.s.Path(), free, bytes, unix.ENOSPC).
			Hint("nothing has changed; free some space (stella mirror prune) or use a larger volume")
	}
	return nil
}

// show makes a release durable, records it and flips the link, in this order:
// what is recorded is there, and what is shown is recorded. A release that was
// accepted before, and was left for one by a key that is revoked now, is there
// already.
func (r *run) show(ctx context.Context, c *store.Content) error {
	if err := r.m.Policy.CheckTime(c.GeneratedAt, c.ExpiresAt, r.m.now()); c.Layout != store.PlainTree && err != nil {
		return err // bringing it has taken long
	}
	if was, ok := r.state.Export(c.ExportID); !ok || was.Digest != c.Digest || r.repair || !r.s.HasRelease(c.ExportID) {
		if err := r.place(ctx, c); err != nil {
			return err
		}
	}
	err := r.book.Append(r.m.now(), store.Accepted, store.Event{
		Facts: c.Facts, Source: r.src.Place(), Signatures: r.seen.signatures, Pin: r.pin(c), Operator: r.m.Operator, Version: r.m.Version,
	})
	if err != nil {
		return err
	}
	if err := r.s.Show(context.WithoutCancel(ctx), c.ExportID); err != nil {
		return err
	}
	r.m.notify(Event{Type: Shown, Feed: r.feed.Name, ExportID: c.ExportID})
	return nil
}

// place builds the tree of a release under its name.
func (r *run) place(ctx context.Context, c *store.Content) error {
	tree, err := r.s.Build(c.ExportID)
	if err != nil {
		return err
	}
	for _, e := range c.List {
		if err := tree.Link(e.Member); err != nil {
			return err
		}
	}
	if err := tree.Record(c); err != nil {
		return err
	}
	return tree.Place(ctx)
}

// pin is what is remembered of a release.
func (r *run) pin(c *store.Content) *release.Pin {
	pin := &release.Pin{ExportID: c.ExportID, Sequence: c.Sequence, GeneratedAt: c.GeneratedAt, Digest: c.Digest}
	for _, s := range r.seen.signatures {
		pin.Signers = append(pin.Signers, s.Thumbprint)
	}
	return pin
}

// mismatch decides whether a member that does not fit is an attack, or a
// publisher at work: it is the second when anything moves while we look.
func (r *run) mismatch(ctx context.Context, d *download, err error) error {
	refused, ok := errors.AsType[*release.Refusal](err)
	if !ok || refused.Member == "" || refused.Reason == release.TooSlow || r.medium == nil && r.knownError(err) {
		return err
	}
	m, ok := d.st.Find(refused.Member)
	if !ok {
		return err
	}
	switch { // nobody publishes to a medium that is carried
	case r.medium != nil && !otherBytes(refused.Reason):
		return err
	case r.medium == nil:
		look := func() (string, error) { return r.look(ctx, d, m) }
		was, lerr := look()
		if lerr != nil {
			return lerr
		}
		if lerr := r.settle(ctx, err, func() (bool, error) {
			is, err := look()
			return is == was, err
		}); lerr != nil {
			return lerr
		}
	}
	// It held still. Is it what was read?
	switch again := d.wave(ctx, []release.Member{m}); {
	case again == nil:
		return errMoved
	case release.ReasonOf(again) == "":
		return again
	default:
		return r.mixed(again, m)
	}
}

// sample is how many members besides the documents are looked at for a
// publisher at work.
const sample = 32

// look tells how the source looks: the statement, the member that does not fit,
// all documents, and members spread over the rest, by what the store says of
// them.
func (r *run) look(ctx context.Context, d *download, suspect release.Member) (string, error) {
	data, _, _, err := r.pair(ctx, "")
	if errors.Is(err, objstore.ErrNotFound) || err == nil && release.Digest(data) != r.seen.facts.Digest {
		return "", errMoved
	}
	if err != nil {
		return "", err
	}
	var b strings.Builder
	step := max(1, len(d.st.Members)/sample)
	for i, m := range d.st.Members {
		if i%step != 0 && m.Path != suspect.Path && !release.Document(m.Path) {
			continue
		}
		info, err := d.info(ctx, m.Path)
		if errors.Is(err, objstore.ErrNotFound) {
			err, info = nil, objstore.Info{Size: -1}
		}
		if err != nil {
			return "", err
		}
		fmt.Fprintln(&b, m.Path, info.Size, info.ETag, info.Modified)
	}
	return b.String(), nil
}

// mixed names a member of another release that is here as what it is.
func (r *run) mixed(err error, m release.Member) error {
	refused, ok := errors.AsType[*release.Refusal](err)
	if !ok || refused.Reason != release.DigestMismatch && refused.Reason != release.SizeMismatch || r.state.Shown.ExportID == "" {
		return err
	}
	was, cerr := r.s.Content(r.state.Shown.ExportID)
	if cerr != nil {
		return err
	}
	i := slices.IndexFunc(was.List, func(e store.Entry) bool { return e.Path == m.Path })
	if i < 0 || was.List[i].Member == m {
		return err
	}
	e := was.List[i]
	if refused.Actual == "sha256:"+e.SHA256 || refused.Actual == fmt.Sprint(e.Size) {
		return release.Refuse(release.MixAndMatch, "%s is that of the release %s, not of %s", m.Path, was.ExportID, r.seen.facts.ExportID).
			About(m.Path).Found(refused.Expected, refused.Actual)
	}
	return err
}

// download brings members of one release.
type download struct {
	r      *run
	st     *release.Statement
	src    *fetch.Source // beside latest, or the source itself
	beside bool
	meter  *meter

	mu       sync.Mutex
	verified map[string]bool // bundles, by path, whose signature was checked
}

// download finds out where the members are: beside the place of the latest
// release, where they never change, or in that place.
func (r *run) download(ctx context.Context, st *release.Statement, total int64) (*download, error) {
	d := &download{r: r, st: st, src: r.src, verified: map[string]bool{}, meter: &meter{m: r.m, e: Event{Type: Progress, Feed: r.feed.Name, ExportID: st.ExportID, Total: total}}}
	from := r.from
	if place, ok := sibling(r.feed.Source, st.ExportID); ok {
		beside, err := r.m.Open(ctx, place)
		if err != nil {
			return nil, err
		}
		_, err = r.m.source(beside, place.Scheme, nil).Info(ctx, release.PathIndex)
		switch {
		case err == nil:
			d.beside, from = true, beside
		case errors.Is(err, objstore.ErrNotFound), errors.Is(err, objstore.ErrDenied):
		default:
			return nil, err
		}
	}
	d.src = r.m.source(from, r.feed.Source.Scheme, d.meter.add)
	return d, nil
}

// closed refuses an export whose own folder holds what the statement does not
// name, and goes on holding it. latest/ is not held to that: a publisher may be
// bringing the next release there, and what is not named is never fetched.
func (r *run) closed(ctx context.Context, d *download) error {
	err := d.closed(ctx)
	if release.ReasonOf(err) == "" || r.knownError(err) {
		return err
	}
	moved := r.settle(ctx, err, func() (bool, error) {
		again := d.closed(ctx)
		if release.ReasonOf(again) != "" {
			return again.Error() == err.Error(), nil
		}
		return false, again
	})
	if moved != nil {
		return moved
	}
	return err
}

func (d *download) closed(ctx context.Context) error {
	if !d.beside {
		return nil
	}
	return d.extra(ctx, func(key string) error {
		return release.Refuse(release.ExtraMember, "%.200q is at the source, but the release does not name it", key).About(key)
	})
}

// extra calls found for every object below mirror/ that the statement does not
// name. A place that cannot be listed, or not by us, has none.
func (d *download) extra(ctx context.Context, found func(key string) error) error {
	n := 0
	err := d.src.List(ctx, release.Root, func(i objstore.Info) error {
		if n++; n > 2*len(d.st.Members)+1000 { // of a list without end
			return release.Refuse(release.TooLarge, "%s lists more than twice what the release names", d.src.Place())
		}
		if _, ok := d.st.Find(i.Key); ok {
			return nil
		}
		return found(i.Key)
	})
	switch {
	case errors.Is(err, objstore.ErrUnsupported), errors.Is(err, objstore.ErrDenied):
		return nil
	case errors.Is(err, objstore.ErrKey):
		return release.Refuse(release.HostileName, "%s: %w", d.src.Place(), err)
	}
	return err
}

// info asks for a member where it is.
func (d *download) info(ctx context.Context, path string) (objstore.Info, error) {
	info, err := d.src.Info(ctx, path)
	if d.beside && errors.Is(err, objstore.ErrNotFound) {
		return d.r.src.Info(ctx, path)
	}
	return info, err
}
