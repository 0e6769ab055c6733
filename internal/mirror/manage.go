package mirror

import (
	"context"
	"errors"
	"slices"
	"syscall"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/mirror/store"
	"github.com/stella-ops/stella/internal/release"
)

// Status is how a feed stands.
type Status struct {
	Feed       string                   `json:"feed"`
	Folder     string                   `json:"folder"`
	Shown      store.Facts              `json:"shown"`
	Previous   string                   `json:"previous,omitempty"`
	AcceptedAt time.Time                `json:"accepted_at,omitzero"`
	Held       bool                     `json:"held,omitempty"`
	HeldReason string                   `json:"held_reason,omitempty"`
	Newest     release.Pin              `json:"newest,omitzero"` // what may not be gone below
	Contact    store.Contact            `json:"contact,omitzero"`
	Lag        float64                  `json:"lag_s,omitempty"` // since the source was seen
	Stale      string                   `json:"stale,omitempty"` // why, if it is
	Refused    *store.LastRefusal       `json:"last_refusal,omitempty"`
	Refusals   map[release.Reason]int64 `json:"refusals,omitempty"`
	Releases   []string                 `json:"releases"`
	Unfinished bool                     `json:"unfinished,omitempty"` // a run was cut off before it showed what it accepted
}

// Status reads how a feed stands. It writes nothing and opens no socket.
func (m *Mirror) Status(feed string) (*Status, error) {
	s, err := store.Open(m.Folder(feed))
	if err != nil {
		return nil, err
	}
	defer s.Close()
	b, err := s.Book(false)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	st := &Status{
		Feed: feed, Folder: s.Path(), Shown: b.Shown, AcceptedAt: b.AcceptedAt, Held: b.Held, HeldReason: b.HeldReason,
		Newest: b.Pin, Contact: b.Contact, Refused: b.Refused, Refusals: b.Refusals,
	}
	at, err := s.Latest()
	if err != nil {
		return nil, err
	}
	st.Unfinished = at != b.Shown.ExportID
	if st.Previous, err = s.Previous(); err != nil {
		return nil, err
	}
	if st.Releases, err = s.Releases(); err != nil {
		return nil, err
	}
	if !b.Contact.At.IsZero() {
		st.Lag = max(0, m.now().Sub(b.Contact.At).Seconds())
	}
	if b.Shown.Layout != store.PlainTree && b.Shown.ExportID != "" && m.Policy != nil {
		if err := m.Policy.CheckTime(b.Shown.GeneratedAt, b.Shown.ExpiresAt, m.now()); err != nil {
			st.Stale = err.Error()
		}
	}
	return st, nil
}

// change runs do with the store locked and its book open. A dry run takes no
// lock and gets a book that cannot be added to.
func (m *Mirror) change(ctx context.Context, feed, who string, dry bool, do func(*store.Store, *store.Book) error) error {
	s, err := store.Open(m.Folder(feed))
	if err != nil {
		return err
	}
	defer s.Close()
	if !dry {
		l, err := s.Lock(ctx, who)
		if err != nil {
			return err
		}
		defer func() { _ = l.Release() }()
	}
	b, err := s.Book(!dry)
	if err != nil {
		return err
	}
	defer b.Close()
	if !dry {
		if _, err := b.Settle(); err != nil {
			return err
		}
	}
	return do(s, b)
}

// Rollback shows an older release that is still here: the one before, when to
// is empty. It stays until something newer than the newest accepted release
// comes. Any other than the one before needs a reason.
func (m *Mirror) Rollback(ctx context.Context, feed, to, reason string, dry bool) (*Result, error) {
	out := &Result{DryRun: dry, Outcome: Held, Facts: store.Facts{Feed: feed}}
	err := m.change(ctx, feed, "stella mirror rollback", dry, func(s *store.Store, b *store.Book) error {
		previous, err := s.Previous()
		if err != nil {
			return err
		}
		out.Before = b.Shown.ExportID
		if to == "" && b.Held { // the one before is the one that was rolled back from
			return fault.Errorf(fault.Order, "%s is held already, after a rollback; typed again this would bring back %s", b.Shown.ExportID, previous).
				Hint("to go further back, or forward: stella mirror rollback --feed %s --to EXPORT --reason TEXT", feed).
				Hint("what there is: stella mirror status --feed %s", feed)
		}
		if to == "" {
			to = previous
		}
		accepted, known := b.Export(to)
		switch {
		case to == "":
			return fault.Errorf(fault.Order, "there is no release before %q to go back to", b.Shown.ExportID).Hint("stella mirror status --feed %s", feed)
		case !release.ExportID(to) || !known:
			return fault.Errorf(fault.NotFound, "release %.80q was never accepted here, or is pruned", to).Hint("stella mirror status --feed %s", feed)
		case to == b.Shown.ExportID:
			return fault.Errorf(fault.Order, "release %s is shown already", to)
		case to != previous && reason == "":
			return fault.Errorf(fault.Input, "release %s is not the one before; say why it is chosen", to).Hint("stella mirror rollback --feed %s --to %s --reason TEXT", feed, to)
		}
		c, err := s.Content(to)
		if err != nil {
			return err
		}
		if c.Digest != accepted.Digest {
			return release.Refuse(release.DigestMismatch, "release %s is not the one that was accepted", to).Found(accepted.Digest, c.Digest)
		}
		if err := m.presentable(s, c, accepted); err != nil {
			return err
		}
		out.Facts = c.Facts
		if dry {
			return nil
		}
		err = b.Append(m.now(), store.RolledBack, store.Event{Facts: c.Facts, From: out.Before, Reason: reason, Operator: m.Operator, Version: m.Version})
		if err != nil {
			return err
		}
		return errors.Join(s.Show(context.WithoutCancel(ctx), to), b.Save())
	})
	return out, err
}

// presentable looks at what shall be shown again: that its files are there, and
// that keys which signed it are not revoked by now. Their bytes only Verify reads.
func (m *Mirror) presentable(s *store.Store, c *store.Content, accepted store.Export) error {
	if m.Policy != nil && !m.Policy.Holds(accepted.Signers) {
		return release.Refuse(release.KeyRevoked, "release %s was signed by a key that is not trusted any more", c.ExportID)
	}
	return s.Whole(c)
}

// Prune removes releases beyond the newest keep ones that were shown to nobody
// for longer than grace, and members that no release has. What latest and
// previous lead to always stays, and the newest accepted one. grace must be
// longer than what is served may be cached, or a reader loses members of what it
// reads.
func (m *Mirror) Prune(ctx context.Context, feed string, keep int, grace time.Duration, dry bool) (*store.PruneResult, error) {
	var out *store.PruneResult
	err := m.change(ctx, feed, "stella mirror prune", dry, func(s *store.Store, b *store.Book) error {
		var err error
		if out, err = b.PlanPrune(keep, m.now().Add(-grace)); err != nil || dry {
			return err
		}
		// What has no name in the record goes first: a full disk has no room for
		// a record either. If that was not enough, one release goes before it.
		if err := s.PruneLoose(ctx, out); err != nil {
			return err
		}
		if len(out.Releases) > 0 {
			ids := slices.Clone(out.Releases)
			ev := store.Event{Facts: store.Facts{Feed: feed}, Removed: ids, Operator: m.Operator, Version: m.Version}
			err := b.Append(m.now(), store.Pruned, ev)
			if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
				first := *out
				first.Releases = out.Releases[:1]
				if err = s.Prune(ctx, &first); err == nil {
					err = b.Append(m.now(), store.Pruned, ev)
				}
			}
			if err != nil {
				return err
			}
		}
		return errors.Join(s.Prune(ctx, out), b.Save())
	})
	return out, err
}
