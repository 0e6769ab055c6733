package mirror

import (
	"cmp"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/stella-ops/stella/internal/mirror/store"
	"github.com/stella-ops/stella/internal/objstore"
	"github.com/stella-ops/stella/internal/release"
)

// meter counts what arrives. Its notes go out one at a time.
type meter struct {
	m  *Mirror
	mu sync.Mutex
	e  Event
}

func (m *meter) add(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.e.Bytes += n
	m.m.notify(m.e)
}

func (m *meter) member() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.e.Members++
	m.m.notify(m.e)
}

// all brings members into staging, verified, in two waves: what bundles are
// verified with comes first. The first error ends the others.
func (d *download) all(ctx context.Context, need []release.Member) error {
	var first, rest []release.Member
	for _, m := range need {
		if strings.HasSuffix(m.Path, release.SuffixJWS) {
			first = append(first, m)
		} else {
			rest = append(rest, m)
		}
	}
	if err := d.wave(ctx, first); err != nil {
		return err
	}
	if err := d.wave(ctx, rest); err != nil {
		return err
	}
	return d.signatures(ctx)
}

// large is the size from which several requests for one member may pay.
const large = 8 << 20

// wave brings members by parallel requests, the large ones first.
func (d *download) wave(ctx context.Context, list []release.Member) error {
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b release.Member) int { return cmp.Compare(rank(a), rank(b)) })
	larges, _ := slices.BinarySearchFunc(list, 1, func(m release.Member, r int) int { return cmp.Compare(rank(m), r) })
	split := max(1, d.r.m.parallel()/max(1, larges))
	return each(ctx, d.r.m.parallel(), list, func(ctx context.Context, _ int, m release.Member) error {
		return d.member(ctx, m, split)
	})
}

// rank puts large members before the others, which keep their order.
func rank(m release.Member) int {
	if m.Size >= large {
		return 0
	}
	return 1
}

// member brings one member. What an earlier run left of it may be rubbish (the
// power went), so a mismatch counts only for bytes that this run has read.
func (d *download) member(ctx context.Context, m release.Member, split int) error {
	part, err := d.r.s.Part(m.SHA256)
	if err != nil {
		return err
	}
	defer part.Close()
	resumed := part.Size() > 0
	err = d.fill(ctx, m, part, split)
	if resumed && otherBytes(release.ReasonOf(err)) { // they may be those of the run before
		if err = part.Reset(); err == nil {
			err = d.fill(ctx, m, part, split)
		}
	}
	switch why := release.ReasonOf(err); {
	case err == nil:
		d.meter.member()
		return part.Done()
	case why != "" && why != release.TooSlow, errors.Is(err, objstore.ErrChanged):
		return errors.Join(err, part.Drop())
	}
	return err // the rest comes next time
}

// otherBytes reports whether a member has not the bytes that the release says.
// Any other reason is about bytes that are right.
func otherBytes(why release.Reason) bool {
	return why == release.DigestMismatch || why == release.SizeMismatch
}

// fill fetches and verifies the bytes of a member.
func (d *download) fill(ctx context.Context, m release.Member, part *store.Part, split int) error {
	var also io.Writer
	var bundle *release.Bundle
	if domain, ok := release.BundleOf(m.Path); ok {
		b, err := d.bundle(domain)
		if err != nil {
			return err
		}
		defer b.Close()
		bundle, also = b, b
	}
	err := d.src.Member(ctx, m.Path, m, part, also, split)
	if errors.Is(err, objstore.ErrNotFound) && d.beside {
		err = d.r.src.Member(ctx, m.Path, m, part, also, split)
	}
	if errors.Is(err, objstore.ErrNotFound) {
		return release.Refuse(release.MissingMember, "the release names %s, but it is not at the source: %w", m.Path, err).About(m.Path)
	}
	if err != nil || bundle == nil {
		return err
	}
	if err := bundle.Verify(); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.verified[m.Path] = true
	return nil
}

// bundle opens the signature of a bundle, which is in staging or among the
// objects by now.
func (d *download) bundle(domain string) (*release.Bundle, error) {
	path := release.BundlePath(domain)
	sig, _ := d.st.Find(path + release.SuffixJWS)
	jws, err := d.r.s.Staged(sig, release.MaxSignature)
	if err != nil {
		return nil, err
	}
	return d.r.m.Policy.OpenBundle(path, jws, d.r.feed.Name, d.r.m.now())
}

// signatures verifies every bundle that was not verified as it came: that was
// here already, or came under the name of a member with the same bytes.
func (d *download) signatures(ctx context.Context) error {
	for _, m := range d.st.Members {
		domain, ok := release.BundleOf(m.Path)
		if !ok || d.verified[m.Path] {
			continue
		}
		if sig, _ := d.st.Find(m.Path + release.SuffixJWS); d.r.wasPair(m, sig) {
			continue
		}
		if err := d.reverify(ctx, domain, m); err != nil {
			return err
		}
	}
	return nil
}

func (d *download) reverify(ctx context.Context, domain string, m release.Member) error {
	b, err := d.bundle(domain)
	if err != nil {
		return err
	}
	defer b.Close()
	if err := d.r.s.ReadMember(ctx, m, b); err != nil {
		return err
	}
	return b.Verify()
}

// wasPair reports whether the release that is shown has the same bundle with
// the same signature, and both were judged by this policy.
func (r *run) wasPair(bundle, sig release.Member) bool {
	if r.state.Shown.Layout != store.Signed && r.state.Shown.Layout != store.BundleOnly || !r.judged() || r.repair {
		return false
	}
	was, err := r.shown()
	return err == nil && was.Has(bundle) && was.Has(sig)
}
