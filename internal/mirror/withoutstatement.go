package mirror

import (
	"context"
	"errors"

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
	return r.bundleOnly(ctx)
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
