package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/stella-ops/stella/internal/fault"
)

// PruneResult is what a prune removes.
type PruneResult struct {
	Releases []string `json:"releases"`
	Objects  int      `json:"objects"` // members that no release has
	Bytes    int64    `json:"bytes"`
	Kept     []string `json:"kept"`

	before time.Time
}

// PlanPrune says what a prune would remove: releases beyond the newest keep
// ones that nobody was shown since a time, never what latest and previous lead
// to, nor the newest accepted one, which an operator may have rolled back from.
func (b *Book) PlanPrune(keep int, before time.Time) (*PruneResult, error) {
	s := b.s
	ids, err := b.inOrder()
	if err != nil {
		return nil, err
	}
	latest, err := s.Latest()
	if err != nil {
		return nil, err
	}
	previous, err := s.Previous()
	if err != nil {
		return nil, err
	}
	out := &PruneResult{Releases: []string{}, before: before}
	gone := map[string]bool{}
	for i, id := range ids {
		info, err := os.Lstat(s.ReleasePath(id))
		if err != nil {
			return nil, fmt.Errorf("planning a prune: %w", err)
		}
		until := info.ModTime()
		if x, ok := b.Export(id); ok && x.ReplacedAt.After(until) {
			until = x.ReplacedAt
		}
		if slices.Contains([]string{latest, previous, b.Pin.ExportID}, id) || len(ids)-i <= keep || until.After(before) || s.held(id) {
			out.Kept = append(out.Kept, id)
			continue
		}
		out.Releases, gone[id] = append(out.Releases, id), true
	}
	links := map[string]int{} // of objects, in releases that go
	for id := range gone {
		if err := s.eachFile(id, func(_ string, st *syscall.Stat_t) {
			links[fmt.Sprint(st.Dev, st.Ino)]++
		}); err != nil {
			return nil, err
		}
	}
	return out, s.eachObject(func(_ string, info fs.FileInfo, st *syscall.Stat_t) error {
		if int(st.Nlink)-links[fmt.Sprint(st.Dev, st.Ino)] <= 1 && !info.ModTime().After(before) {
			out.Objects++
			out.Bytes += info.Size()
		}
		return nil
	})
}

// inOrder lists the releases that are there, those first that nobody accepted,
// then by the order of acceptance.
func (b *Book) inOrder() ([]string, error) {
	ids, err := b.s.Releases()
	slices.SortStableFunc(ids, func(x, y string) int {
		at := func(id string) int { return slices.IndexFunc(b.Exports, func(e Export) bool { return e.ID == id }) }
		return cmp.Compare(at(x), at(y))
	})
	return ids, err
}

// PruneLoose is the part of Prune that removes no release: what was never
// fetched to the end, and objects that no release has.
func (s *Store) PruneLoose(ctx context.Context, plan *PruneResult) error {
	loose := *plan
	loose.Releases = nil
	return s.Prune(ctx, &loose)
}

// Prune carries a plan out. After a crash the next one goes on.
func (s *Store) Prune(ctx context.Context, plan *PruneResult) error {
	for _, id := range plan.Releases {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if err := s.discard(id); err != nil && fault.KindOf(err) != fault.NotFound {
			return fmt.Errorf("pruning release %s: %w", id, err)
		}
	}
	if err := errors.Join(s.sweep(), s.abandoned(dirStaging, plan.before), s.abandoned(DirUnpack, plan.before)); err != nil {
		return err
	}
	return s.eachObject(func(path string, info fs.FileInfo, st *syscall.Stat_t) error {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if st.Nlink > 1 || info.ModTime().After(plan.before) {
			return nil
		}
		return os.Remove(path)
	})
}

// abandoned removes what nobody has touched since a time from a folder of things
// on their way: members and packs that were never fetched to the end.
func (s *Store) abandoned(dir string, before time.Time) error {
	entries, err := os.ReadDir(s.path(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("pruning %s: %w", dir, err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || info.ModTime().After(before) {
			continue
		}
		if err := os.RemoveAll(s.path(dir, e.Name())); err != nil {
			return fmt.Errorf("pruning %s: %w", dir, err)
		}
	}
	return nil
}

func (s *Store) eachObject(each func(path string, info fs.FileInfo, st *syscall.Stat_t) error) error {
	return filepath.WalkDir(s.path(dirObjects), func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return errors.New("internal error: no link counts on this system")
		}
		return each(path, info, st)
	})
}

func (s *Store) eachFile(id string, each func(path string, st *syscall.Stat_t)) error {
	return filepath.WalkDir(s.ReleasePath(id), func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			each(path, st)
		}
		return nil
	})
}
