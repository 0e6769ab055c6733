package mirror

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/mirror/fetch"
	"github.com/stella-ops/stella/internal/mirror/store"
	"github.com/stella-ops/stella/internal/objstore"
	"github.com/stella-ops/stella/internal/release"
)

// VerifyRemote reads a source as Sync would, every member whatever is here
// already, and keeps nothing. The release must have a statement.
func (m *Mirror) VerifyRemote(ctx context.Context, feed Feed) (*Report, error) {
	r := &run{m: m, feed: feed, dry: true, state: &store.State{}, result: &Result{}}
	for i := 0; ; i++ {
		if err := r.connect(ctx); err != nil {
			return nil, err
		}
		report, err := m.remote(ctx, r)
		if err == nil && len(report.Findings) > 0 && r.seen.facts.Digest != "" {
			err = r.samePair(ctx)
		}
		if !errors.Is(err, errMoved) && !errors.Is(err, objstore.ErrChanged) {
			return report, err
		}
		if i >= m.restarts() {
			return nil, fault.Errorf(fault.Transient, "%s was rewritten %d times while it was read", r.src.Place(), i+1).Hint("try again when the publisher is done")
		}
		if err := m.sleep(ctx, m.settle()/8); err != nil {
			return nil, err
		}
	}
}

// samePair reports, as errMoved, that the statement is another one by now, so
// that what was found about its members means nothing.
func (r *run) samePair(ctx context.Context) error {
	if err := r.m.sleep(ctx, r.m.settle()/8); err != nil {
		return err
	}
	data, _, _, err := r.pair(ctx, "")
	if errors.Is(err, objstore.ErrNotFound) || err == nil && release.Digest(data) != r.seen.facts.Digest {
		return errMoved
	}
	return err
}

// remote is one attempt of VerifyRemote.
func (m *Mirror) remote(ctx context.Context, r *run) (*Report, error) {
	feed := r.feed
	report := &Report{Feed: feed.Name, Place: r.src.Place(), Findings: []Finding{}}
	st, err := r.statement(ctx, "")
	if err == nil {
		report.Releases = append(report.Releases, r.seen.facts)
		err = m.Policy.CheckTime(st.GeneratedAt, st.ExpiresAt, m.now())
	}
	if err != nil {
		if release.ReasonOf(err) == "" {
			if fault.KindOf(err) == fault.NotFound {
				err = fault.Errorf(fault.NotFound, "%w", err).Hint("a release without a statement is verified while it is synced: stella mirror sync --dry-run tells what is there")
			}
			return nil, err
		}
		report.add(r.seen.facts.ExportID, err)
		if st == nil {
			return report, nil
		}
	}
	d, err := r.download(ctx, st, st.Bytes())
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	err = each(ctx, m.parallel(), st.Members, func(ctx context.Context, _ int, member release.Member) error {
		err := d.sink(ctx, member)
		if errors.Is(err, objstore.ErrNotFound) {
			err = release.Refuse(release.MissingMember, "the release names %s, but it is not at the source", member.Path).About(member.Path)
		}
		mu.Lock()
		defer mu.Unlock()
		report.Bytes += member.Size
		if release.ReasonOf(err) != "" {
			report.add(st.ExportID, err)
			return nil
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := d.remoteDocuments(ctx, report); err != nil {
		return nil, err
	}
	err = d.extra(ctx, func(key string) error {
		report.add(st.ExportID, release.Refuse(release.ExtraMember, "%.200q is at the source, but the release does not name it", key).About(key))
		return nil
	})
	if release.ReasonOf(err) != "" {
		report.add(st.ExportID, err)
		err = nil
	}
	return report, err
}

// remoteDocuments checks what index and manifests say, unless one of them is
// among the findings already.
func (d *download) remoteDocuments(ctx context.Context, report *Report) error {
	if len(report.Findings) > 0 {
		return nil
	}
	err := d.st.CheckDocuments(func(path string) ([]byte, error) {
		data, _, err := d.src.Small(ctx, path, release.MaxIndex, "")
		if m, _ := d.st.Find(path); err == nil && release.Digest(data) != "sha256:"+m.SHA256 {
			err = errMoved // it was right a moment ago
		}
		return data, err
	})
	if release.ReasonOf(err) != "" {
		report.add(d.st.ExportID, err)
		return nil
	}
	return err
}

// nowhere is a Partial that keeps nothing.
type nowhere struct{}

func (nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (nowhere) Size() int64                 { return 0 }
func (nowhere) Reader() io.Reader           { return nil }

// sink fetches and verifies a member and forgets it.
func (d *download) sink(ctx context.Context, m release.Member) error {
	err := d.sinkFrom(ctx, d.src, m)
	if errors.Is(err, objstore.ErrNotFound) && d.beside {
		err = d.sinkFrom(ctx, d.r.src, m)
	}
	return err
}

func (d *download) sinkFrom(ctx context.Context, from *fetch.Source, m release.Member) error {
	_, bundle := release.BundleOf(m.Path)
	if !bundle {
		return from.Member(ctx, m.Path, m, nowhere{}, nil, 1)
	}
	jws, _, err := from.Small(ctx, m.Path+release.SuffixJWS, release.MaxSignature, "")
	if err != nil {
		return err
	}
	b, err := d.r.m.Policy.OpenBundle(m.Path, jws, d.r.feed.Name, d.r.m.now())
	if err != nil {
		return err
	}
	defer b.Close()
	if err := from.Member(ctx, m.Path, m, nowhere{}, b, d.r.m.parallel()); err != nil {
		return err
	}
	return b.Verify()
}
