package mirror

import (
	"context"
	"errors"
	"slices"

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
		return r.absent(ctx, release.Refuse(release.Emptied, "%s is empty, though releases came from it before; nothing is removed here: %w", r.src.Place(), err),
			release.FileStatement, release.PathIndex)
	case r.state.Statement:
		return r.absent(ctx, release.Refuse(release.StatementMissing, "%s has no %s any more, though releases of it had one: somebody may have taken it away", r.src.Place(), release.FileStatement).
			About(release.FileStatement), release.FileStatement)
	case r.m.Policy.Statement == release.Required:
		return r.absent(ctx, release.Refuse(release.StatementMissing, "%s has no %s, and the trust policy wants one", r.src.Place(), release.FileStatement).
			About(release.FileStatement), release.FileStatement)
	}
	if same, err := r.sameObjects(ctx); err != nil || same {
		if err == nil {
			err = r.unchanged()
		}
		return err
	}
	return r.bundleOnly(ctx)
}

// absent judges a source that lacks what it must have. It is given the time to
// come back that a publisher needs who replaces everything.
func (r *run) absent(ctx context.Context, why *release.Refusal, keys ...string) error {
	if r.known(why.Reason, why.Member) {
		return why
	}
	moved := r.settle(ctx, why, func() (bool, error) {
		for _, key := range keys {
			if _, err := r.src.Info(ctx, key); !errors.Is(err, objstore.ErrNotFound) {
				return false, err
			}
		}
		return true, nil
	})
	if moved != nil {
		return moved
	}
	return why
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
	if slices.ContainsFunc(was.List, func(e store.Entry) bool { return e.ETag == "" }) {
		return false, nil
	}
	err = r.still(ctx, was.List) // which reads nothing: a bundle may be large
	if errors.Is(err, errMoved) {
		return false, nil
	}
	return err == nil, err
}
