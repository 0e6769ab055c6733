package mirror

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/ledger"
	"github.com/stella-ops/stella/internal/mirror/store"
	"github.com/stella-ops/stella/internal/release"
)

// Finding is one thing that is wrong with a mirror or a source.
type Finding struct {
	ExportID string         `json:"export_id,omitempty"`
	Reason   release.Reason `json:"reason"`
	Member   string         `json:"member,omitempty"`
	Message  string         `json:"message"`
}

// Report is what Verify found.
type Report struct {
	Feed     string        `json:"feed"`
	Place    string        `json:"place"`
	Latest   string        `json:"latest,omitempty"`
	Previous string        `json:"previous,omitempty"`
	Releases []store.Facts `json:"releases"` // those that were read
	Records  uint64        `json:"history_records,omitempty"`
	Bytes    int64         `json:"bytes"` // read and hashed
	Findings []Finding     `json:"findings"`
}

func (r *Report) add(id string, err error) {
	f := Finding{ExportID: id, Reason: release.Format, Message: err.Error()}
	if refused, ok := errors.AsType[*release.Refusal](err); ok {
		f.Reason, f.Member = refused.Reason, refused.Member
	}
	r.Findings = append(r.Findings, f)
}

// Err is nil when nothing is wrong, else an error of kind Trust.
func (r *Report) Err() error {
	if len(r.Findings) == 0 {
		return nil
	}
	first := r.Findings[0]
	return fault.Errorf(fault.Trust, "%s: %d finding(s), the first: %s", r.Place, len(r.Findings), first.Message)
}

// VerifyDisk reads every byte of the releases of a feed on this host, or of one
// of them, and checks it against its statement, the bundles against their
// signatures, that the links lead to releases, and that the history has no
// gap and no changed record. It writes nothing and opens no socket.
// What a key has signed is judged as of the time when it was accepted.
func (m *Mirror) VerifyDisk(ctx context.Context, feed, export string) (*Report, error) {
	s, err := store.Open(m.Folder(feed))
	if err != nil {
		return nil, err
	}
	defer s.Close()
	r := &Report{Feed: feed, Place: s.Path(), Findings: []Finding{}}
	accepted := map[string]store.Event{}
	at := map[string]time.Time{}
	shown := []string{"", ""} // the last two that the history had shown
	r.Records, err = s.Audit(func(e *ledger.Entry, ev *store.Event) error {
		if k := store.Kind(e.Kind); k == store.Accepted || k == store.RolledBack {
			shown = []string{shown[1], ev.ExportID}
		}
		if store.Kind(e.Kind) == store.Accepted {
			accepted[ev.ExportID], at[ev.ExportID] = *ev, e.At
		}
		return nil
	})
	if err != nil {
		r.add("", fmt.Errorf("history: %w", err))
	}
	m.links(s, r, shown)
	ids := []string{export}
	if export == "" {
		if ids, err = s.Releases(); err != nil {
			return nil, err
		}
		if len(ids) == 0 && r.Latest == "" && len(r.Findings) == 0 {
			return nil, fault.Errorf(fault.NotFound, "%s holds no release yet", s.Path()).Hint("stella mirror sync --feed %s", feed)
		}
	} else if !s.HasRelease(export) {
		return nil, fault.Errorf(fault.NotFound, "release %q is not in %s", export, s.Path()).Hint("stella mirror status --feed %s", feed)
	}
	for _, id := range ids {
		if err := m.verifyOne(ctx, s, r, feed, id, accepted, at); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// links checks latest and previous, and that the history agrees with latest.
//
// A run that was cut off may have recorded a release and not shown it yet.
func (m *Mirror) links(s *store.Store, r *Report, shown []string) {
	var err error
	if r.Latest, err = s.Latest(); err != nil {
		r.add("", err)
	}
	if r.Previous, err = s.Previous(); err != nil {
		r.add("", err)
	}
	for name, id := range map[string]string{"latest": r.Latest, "previous": r.Previous} {
		if id != "" && !s.HasRelease(id) {
			r.add(id, release.Refuse(release.MissingMember, "%s leads to release %s, which is not there", name, id))
		}
	}
	if !slices.Contains(shown, r.Latest) {
		r.add(r.Latest, release.Refuse(release.ExtraMember, "latest leads to %q, the history to %q: somebody changed the link", r.Latest, shown[1]))
	}
}

func (m *Mirror) verifyOne(ctx context.Context, s *store.Store, r *Report, feed, id string, accepted map[string]store.Event, at map[string]time.Time) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	c, err := s.Content(id)
	if err != nil && !s.HasRelease(id) && id != r.Latest && id != r.Previous {
		return nil // pruned meanwhile
	}
	if err != nil {
		r.add(id, err)
		return nil
	}
	free, err := s.Hold(id) // prune leaves it alone until then
	if err != nil {
		if id != r.Latest && id != r.Previous {
			return nil // it is being pruned
		}
		return err
	}
	defer free()
	r.Releases = append(r.Releases, c.Facts)
	ev, known := accepted[id]
	when := at[id]
	switch {
	case !known && (id == r.Latest || id == r.Previous):
		r.add(id, release.Refuse(release.StatementMissing, "release %s is shown, but the history never accepted it", id))
		when = m.now()
	case !known:
		when = m.now() // placed by a run that was cut off; nobody sees it
	case ev.Digest != c.Digest:
		r.add(id, release.Refuse(release.DigestMismatch, "release %s is not the one that was accepted", id).Found(ev.Digest, c.Digest))
	}
	if c.Layout == store.Signed {
		if _, _, err := m.Policy.Verify(c.Statement, c.Signatures, feed, when); err != nil {
			r.add(id, err)
		}
	}
	if err := m.members(ctx, s, r, feed, c, when); err != nil {
		return err
	}
	extra, err := s.Extra(c)
	for _, path := range extra {
		r.add(id, release.Refuse(release.ExtraMember, "%s is not a member of release %s", path, id).About(path))
	}
	return err
}

// members hashes all members, on as many threads as there are requests in a
// sync; the disk decides how fast it goes.
func (m *Mirror) members(ctx context.Context, s *store.Store, r *Report, feed string, c *store.Content, when time.Time) error {
	var mu sync.Mutex
	var wg sync.WaitGroup
	var done int64
	queue := make(chan store.Entry)
	for range min(m.parallel(), 4) {
		wg.Go(func() {
			for e := range queue {
				err := m.member(ctx, s, feed, c, e.Member, when)
				mu.Lock()
				r.Bytes, done = r.Bytes+e.Size, done+e.Size
				if err != nil && ctx.Err() == nil {
					r.add(c.ExportID, err)
				}
				m.notify(Event{Type: Progress, Feed: feed, ExportID: c.ExportID, Bytes: done, Total: c.Bytes})
				mu.Unlock()
			}
		})
	}
	for _, e := range c.List {
		queue <- e
	}
	close(queue)
	wg.Wait()
	return context.Cause(ctx)
}

func (m *Mirror) member(ctx context.Context, s *store.Store, feed string, c *store.Content, member release.Member, when time.Time) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	path := filepath.Join(s.ReleasePath(c.ExportID), member.Path)
	domain, bundle := release.BundleOf(member.Path)
	if !bundle || c.Layout == store.PlainTree {
		return missing(member, s.ReadFile(ctx, path, member, nil))
	}
	jws, err := s.SmallFile(path+release.SuffixJWS, release.MaxSignature)
	if err != nil {
		return missing(release.Member{Path: release.BundlePath(domain) + release.SuffixJWS}, err)
	}
	b, err := m.Policy.OpenBundle(member.Path, jws, feed, when)
	if err != nil {
		return err
	}
	defer b.Close()
	if err := s.ReadFile(ctx, path, member, b); err != nil {
		return missing(member, err)
	}
	return b.Verify()
}

func missing(m release.Member, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return release.Refuse(release.MissingMember, "%s is not there", m.Path).About(m.Path)
	}
	return err
}
