package mirror

import (
	"context"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/ledger"
	"github.com/stella-ops/stella/internal/mirror/pack"
	"github.com/stella-ops/stella/internal/mirror/store"
	"github.com/stella-ops/stella/internal/objstore/fs"
	"github.com/stella-ops/stella/internal/release"
)

// SegmentDone is the event of a segment that is durable; Text is its name.
const SegmentDone EventType = "segment"

// PackResult is what Pack did.
type PackResult struct {
	store.Facts
	Dir         string         `json:"dir"`
	Size        int64          `json:"stream_bytes"`
	SHA256      string         `json:"stream_digest,omitempty"` // sha256:hex; not after a dry run
	SegmentSize int64          `json:"segment_bytes"`
	Segments    []pack.Segment `json:"segments"` // without digests after a dry run
	Kept        int            `json:"kept_segments"`
	Made        int            `json:"written_segments"`
	Unchanged   bool           `json:"unchanged,omitempty"` // the whole pack was there
	Seconds     float64        `json:"took_s"`
	DryRun      bool           `json:"dry_run,omitempty"`
}

// Pack writes a release of a feed, the latest one when export is empty, to a
// folder as segments of segmentSize bytes (0: pack.DefaultSegment). Segments
// that are there and right are kept, so that what was cut off goes on. Every
// member is read and checked; pack.json is written last. It takes no Lock, so
// that no sync waits for it; Prune passes over the release meanwhile, see
// store.Hold. A release without a statement cannot be packed (kind Order).
func (m *Mirror) Pack(ctx context.Context, feed, export, dir string, segmentSize int64, dry bool) (*PackResult, error) {
	began := m.now()
	out := &PackResult{Facts: store.Facts{Feed: feed}, Dir: dir, DryRun: dry}
	s, err := store.Open(m.Folder(feed))
	if err != nil {
		return out, err
	}
	defer s.Close()
	if export == "" {
		if export, err = s.Latest(); err != nil {
			return out, err
		}
		if export == "" {
			return out, fault.Errorf(fault.NotFound, "the feed %s has no release yet", feed).Hint("stella mirror sync")
		}
	}
	if !release.ExportID(export) {
		return out, fault.Errorf(fault.Input, "%.80q is not the name of an export", export).Hint("stella mirror status --feed %s", feed)
	}
	free, err := s.Hold(export)
	if err != nil {
		return out, err
	}
	defer free()
	c, st, err := m.packable(s, feed, export)
	if err != nil {
		return out, err
	}
	out.Facts = c.Facts
	from, err := fs.Open(s.ReleasePath(export))
	if err != nil {
		return out, err
	}
	defer from.Close()
	job := pack.Job{Release: st, Statement: c.Statement, Signatures: c.Signatures, From: from, Dir: dir, SegmentSize: segmentSize}
	job.Step = func(done int64, finished string) {
		e := Event{Type: Progress, Feed: feed, ExportID: export, Bytes: done, Total: out.Size}
		if finished != "" {
			e.Type, e.Text = SegmentDone, finished
		}
		m.notify(e)
	}
	job.Planned = func(p *pack.Manifest) {
		out.Size, out.SegmentSize, out.Segments = p.Size, p.SegmentSize, p.Segments
	}
	done, err := pack.Write(ctx, job, dry)
	if done != nil {
		out.Kept, out.Made, out.Unchanged = done.Kept, done.Made, done.Was
		if err == nil && !dry {
			out.SHA256 = "sha256:" + done.Manifest.SHA256
		}
	}
	out.Seconds = m.now().Sub(began).Seconds()
	if reason := release.ReasonOf(err); reason != "" {
		err = fault.Errorf(fault.Trust, "this mirror's copy of export %s is damaged, no pack was finished: %w", export, err).
			Hint("stella mirror verify --feed %s", feed)
	}
	return out, err
}

// packable reads a release that another mirror could accept: with a statement
// that was accepted here and verifies as of then.
func (m *Mirror) packable(s *store.Store, feed, export string) (*store.Content, *release.Statement, error) {
	c, err := s.Content(export)
	if err != nil {
		return nil, nil, err
	}
	if c.Layout != store.Signed {
		return nil, nil, fault.Errorf(fault.Order, "export %s of the feed %s has no signed statement, so a pack of it could not be verified", export, feed).
			Hint("have the publisher make one: stella mirror publish")
	}
	var at time.Time
	var digest string
	if _, err := s.Audit(func(e *ledger.Entry, ev *store.Event) error {
		if store.Kind(e.Kind) == store.Accepted && ev.ExportID == export {
			at, digest = e.At, ev.Digest
		}
		return nil
	}); err != nil {
		return nil, nil, err
	}
	if digest != c.Digest {
		return nil, nil, release.Refuse(release.DigestMismatch, "export %s is not the one that was accepted", export).Found(digest, c.Digest)
	}
	st, _, err := m.Policy.Verify(c.Statement, c.Signatures, feed, at)
	return c, st, err
}
