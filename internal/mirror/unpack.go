package mirror

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/mirror/pack"
	"github.com/stella-ops/stella/internal/mirror/store"
	"github.com/stella-ops/stella/internal/objstore"
	"github.com/stella-ops/stella/internal/release"
)

// Staged is the outcome of an Unpack that ended with kind Partial.
const Staged Outcome = "staged"

// keptFolder is where pieces of members wait for the rest, in a feed's folder.
const keptFolder = store.DirUnpack

// UnpackResult is what Unpack did.
type UnpackResult struct {
	Result
	Dirs     []string `json:"dirs"`
	Segments int      `json:"segments"` // of the whole pack
	Here     int      `json:"segments_here"`
	Missing  []string `json:"missing_segments,omitempty"` // still needed
	Staged   int      `json:"staged_members,omitempty"`   // whole and verified, waiting for the rest
}

// Unpack brings one feed up to date from the folders of a pack, one or several
// with a part of the segments each. It judges as Sync does and opens no socket.
//
// When segments are missing, what is there is taken, verified as far as it can
// be, made durable, and the error is of kind Partial; it names what to attach
// next. Nothing that was taken is needed again, and what no member needs that
// is missing here is never asked for. A segment that is not what pack.json says
// is pack.ErrDamaged, of kind Trust and no refusal of the release. What was
// taken is read again from this disk before it is shown.
func (m *Mirror) Unpack(ctx context.Context, feed string, dirs []string, dry bool) (*UnpackResult, error) {
	out := &UnpackResult{Dirs: dirs}
	out.Facts.Feed, out.DryRun = feed, dry
	set, err := pack.Open(ctx, dirs)
	if err != nil {
		return out, err
	}
	defer set.Close()
	out.Segments, out.Here = len(set.Manifest.Segments), set.Here()
	path, err := filepath.Abs(dirs[0])
	if err != nil {
		return out, err
	}
	from := *m
	from.Open = func(context.Context, objstore.Place) (objstore.Reader, error) { return set, nil }
	from.Parallel = 1                                                                           // a stick is read fastest in one go
	from.Delays = []time.Duration{}                                                             // it does not come back by waiting
	from.Sleep = func(ctx context.Context, _ time.Duration) error { return context.Cause(ctx) } // nor does it settle
	res, err := from.sync(ctx, &run{feed: Feed{Name: feed, Source: objstore.Place{Scheme: objstore.File, Path: path}}, dry: dry, medium: &carried{set: set, out: out}})
	if res != nil {
		out.Result = *res
	}
	out.Source = set.Place()
	return out, err
}

// carried is the medium of one Unpack.
type carried struct {
	set *pack.Set
	out *UnpackResult
	st  *release.Statement
}

// supply is how the members that are needed can be had.
type supply struct {
	whole   []release.Member // here, or in staging already
	lacking []release.Member
	bytes   int64 // to be read of whole
	absent  []int // segments
}

// begin takes what there is, if that is not all.
func (c *carried) begin(ctx context.Context, r *run, st *release.Statement) error {
	if err := c.set.Bind(st); err != nil {
		return err
	}
	c.st = st
	if err := c.useKept(r, !r.dry); err != nil {
		return err
	}
	content := store.FromStatement(st, r.seen.statement, r.seen.jws)
	need, bytes := r.missing(content)
	s, err := c.sort(ctx, r, need)
	if err != nil {
		return err
	}
	if len(s.lacking) == 0 {
		return nil
	}
	c.out.Missing = c.set.Named(s.absent)
	r.result.Facts, r.result.Before = content.Facts, r.state.Shown.ExportID
	r.result.Fetched, r.result.Received, r.result.Kept = len(s.whole), s.bytes, len(st.Members)-len(need)
	r.result.Outcome = Staged
	r.m.notify(Event{Type: Found, Feed: r.feed.Name, ExportID: st.ExportID, Members: len(need), Total: bytes})
	if !r.dry {
		if err := c.stage(ctx, r, s, bytes); err != nil {
			return err
		}
		c.out.Staged = len(s.whole)
	}
	return c.partial(r, len(need), s)
}

func (c *carried) useKept(r *run, only bool) error {
	if r.s == nil {
		return nil
	}
	return c.set.UseKept(filepath.Join(r.s.Path(), keptFolder), only)
}

// sort finds out how the members that are needed can be had. What is kept of
// those that are whole is looked at, and is not there when it is not right.
func (c *carried) sort(ctx context.Context, r *run, need []release.Member) (*supply, error) {
	s := &supply{}
	for _, m := range need {
		var have int64
		if r.s != nil {
			have = min(m.Size, r.s.PartSize(m.SHA256))
		}
		from, to, _ := c.set.Range(m.Path)
		staged := have > 0 && have == m.Size
		if !staged && !r.dry && c.set.Has(from, to) {
			if _, err := c.set.Sound(ctx, from, to); err != nil {
				return nil, err
			}
		}
		if staged || c.set.Has(from, to) {
			s.whole = append(s.whole, m)
			s.bytes += m.Size - have
			continue
		}
		s.lacking = append(s.lacking, m)
		s.absent = append(s.absent, c.set.Absent(from, to)...)
	}
	slices.Sort(s.absent)
	return s, nil
}

func (c *carried) partial(r *run, need int, s *supply) error {
	names := strings.Join(c.out.Missing[:min(8, len(c.out.Missing))], ", ")
	if n := len(c.out.Missing) - 8; n > 0 {
		names += fmt.Sprintf(" and %d more", n)
	}
	did := "was verified and is kept"
	if r.dry {
		did = "would be verified and kept"
	}
	return fault.Errorf(fault.Partial, "export %s: %w: %s; what is here of it (%d of %d members that were needed) %s, and nothing is shown yet",
		c.st.ExportID, pack.ErrAbsent, names, len(s.whole), need, did).
		Hint("attach the medium that has %s (with pack.json, release.json and release.json.jws), then: stella mirror unpack --feed %s FOLDER", c.out.Missing[0], r.feed.Name).
		Hint("the media that were attached until now are not needed again")
}

// end tells a bad copy from a bad release, and tidies up after a good one.
func (c *carried) end(ctx context.Context, r *run, err error) error {
	if err == nil {
		if r.dry || r.s == nil {
			return nil
		}
		if err := c.useKept(r, false); err != nil {
			return err
		}
		return c.set.Done()
	}
	if errors.Is(err, pack.ErrAbsent) && len(c.out.Missing) == 0 && c.st != nil { // what was staged had to be dropped
		need, _ := r.missing(store.FromStatement(c.st, r.seen.statement, r.seen.jws))
		if s, serr := c.sort(ctx, r, need); serr == nil {
			c.out.Missing = c.set.Named(s.absent)
		}
	}
	refused, ok := errors.AsType[*release.Refusal](err)
	if !ok || c.st == nil || refused.Member == "" || r.dry {
		return err
	}
	m, ok := c.st.Find(refused.Member)
	if !ok {
		return err
	}
	from, to, _ := c.set.Range(m.Path)
	if bad := c.set.CheckRange(ctx, from, to); bad != nil {
		return bad
	}
	if errors.Is(err, pack.ErrStream) {
		return fault.Errorf(fault.Trust, "%s in the segments is not where its statement puts it: %w", m.Path, pack.ErrStream).
			Hint("whoever wrote this pack did not do it as docs/formats/mirror-pack.md says; pack the release again")
	}
	// It was read twice, its segments are as pack.json says, and so was what
	// was kept of others: it is the release that is bad, or the whole pack.
	return errors.Join(err, c.set.Forget(from, to))
}
