package mirror

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/mirror/store"
	"github.com/stella-ops/stella/internal/objstore"
	"github.com/stella-ops/stella/internal/release"
)

// tree mirrors files of which nothing is signed. They are compared by ETag,
// size and time, and shown all at once like a release; what is fetched is what
// the source gave, and no more is claimed.
func (r *run) tree(ctx context.Context) error {
	list, err := r.listing(ctx)
	if err != nil {
		return err
	}
	was, err := r.treeBefore(ctx)
	if err != nil {
		return err
	}
	if len(list) == 0 {
		if len(was) == 0 {
			return fault.Errorf(fault.NotFound, "%s holds nothing", r.src.Place())
		}
		return r.treeGone(ctx, len(was))
	}
	changed := len(list) != len(was)
	var need []objstore.Info
	entries := make([]store.Entry, 0, len(list))
	for _, i := range list {
		e, ok := was[i.Key]
		if ok && e.ETag == i.ETag && e.Size == i.Size && e.Modified.Equal(i.Modified) && i.ETag != "" && r.s.HasObject(e.SHA256, e.Size) {
			entries = append(entries, e)
			continue
		}
		need, changed = append(need, i), true
		r.result.Received += i.Size
	}
	if !changed {
		r.result.Received = 0
		return r.unchanged()
	}
	now := r.m.now().Truncate(time.Second)
	if last := r.state.Pin.GeneratedAt; !now.After(last) {
		now = last.Add(time.Second) // the clock was set back; what is new now is newer still
	}
	id := now.Format("20060102T150405Z")
	r.result.Fetched, r.result.Kept, r.result.Outcome, r.result.Before = len(need), len(entries), Updated, r.state.Shown.ExportID
	r.m.notify(Event{Type: Found, Feed: r.feed.Name, ExportID: id, Members: len(need), Total: r.result.Received})
	if r.dry {
		r.result.ExportID, r.result.Layout = id, store.PlainTree
		return nil
	}
	if r.s.HasRelease(id) {
		return errMoved // of a run that was cut off, within this second
	}
	if err := r.room(r.result.Received); err != nil {
		return err
	}
	fresh := make([]store.Entry, len(need))
	err = each(ctx, r.m.parallel(), need, func(ctx context.Context, i int, info objstore.Info) (err error) {
		fresh[i], err = r.treeFile(ctx, i, info)
		return err
	})
	if err != nil {
		return err
	}
	entries = append(entries, fresh...)
	again, err := r.listing(ctx)
	if err != nil {
		return err
	}
	if fmt.Sprint(again) != fmt.Sprint(list) {
		return errMoved
	}
	return r.take(ctx, store.FromMembers(store.PlainTree, r.feed.Name, id, now, entries))
}

// treeBefore is the newest list that was accepted, also when an older one is
// shown: a rollback holds until there is something newer.
func (r *run) treeBefore(ctx context.Context) (map[string]store.Entry, error) {
	was := map[string]store.Entry{}
	if r.s == nil || r.state.Shown.Layout != store.PlainTree {
		return was, nil
	}
	c, err := r.s.Content(r.state.Pin.ExportID)
	if err != nil {
		return was, nil // then everything is fetched anew
	}
	if !r.dry {
		if err := r.sound(ctx, c.List); err != nil {
			return nil, err
		}
	}
	for _, e := range c.List {
		was[e.Path] = e
	}
	return was, nil
}

// treeGone judges a source that had files and has none, as absent does.
func (r *run) treeGone(ctx context.Context, had int) error {
	err := release.Refuse(release.Emptied, "%s is empty, though %d files came from it before; nothing is removed here", r.src.Place(), had)
	if r.knownError(err) {
		return err
	}
	moved := r.settle(ctx, err, func() (bool, error) {
		list, err := r.listing(ctx)
		return len(list) == 0, err
	})
	if moved != nil {
		return moved
	}
	return err
}

// listing lists the source within the limits of the policy.
func (r *run) listing(ctx context.Context) ([]objstore.Info, error) {
	var list []objstore.Info
	var total int64
	limits := r.m.Policy.Limits
	names := release.NewNames()
	err := r.src.List(ctx, "", func(i objstore.Info) error {
		if err := names.Add(i.Key); err != nil {
			return release.Refuse(release.HostileName, "listing %s: %w", r.src.Place(), err)
		}
		total += max(i.Size, 0)
		if len(list) >= limits.Members || i.Size > limits.Member || total > limits.Release {
			return release.Refuse(release.TooLarge, "%s holds more than the trust policy allows: %d files, %d bytes each, %d bytes in all", r.src.Place(), limits.Members, limits.Member, limits.Release)
		}
		list = append(list, i)
		return nil
	})
	switch {
	case errors.Is(err, objstore.ErrKey):
		err = release.Refuse(release.HostileName, "%w", err)
	case errors.Is(err, objstore.ErrIrregular):
		err = release.Refuse(release.ExtraMember, "%w", err)
	}
	return list, err
}

func (r *run) treeFile(ctx context.Context, n int, i objstore.Info) (store.Entry, error) {
	part, err := r.s.Part(fmt.Sprintf("incoming-%d", n))
	if err != nil {
		return store.Entry{}, err
	}
	defer part.Close()
	if err := part.Reset(); err != nil {
		return store.Entry{}, err
	}
	m, info, err := r.src.Whole(ctx, i.Key, r.m.Policy.Limits.Member, part, nil)
	if errors.Is(err, objstore.ErrNotFound) || err == nil && (info.ETag != i.ETag || info.Size != i.Size) {
		err = errMoved
	}
	if err != nil {
		return store.Entry{}, errors.Join(err, part.Drop())
	}
	return store.Entry{Member: m, ETag: i.ETag, Modified: i.Modified}, part.Keep(m.SHA256)
}

// shown reads the release that is shown, once a run.
func (r *run) shown() (*store.Content, error) {
	if r.content != nil {
		return r.content, nil
	}
	if r.s == nil || r.state.Shown.ExportID == "" {
		return nil, fault.Errorf(fault.NotFound, "nothing is shown yet")
	}
	c, err := r.s.Content(r.state.Shown.ExportID)
	r.content = c
	return c, err
}
