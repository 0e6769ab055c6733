package revoke

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/stella-ops/stella/internal/authority/store"
	"github.com/stella-ops/stella/internal/revocation"
)

// wanted is what a list should hold at some time, by category and name.
type wanted map[wantedKey]want

type wantedKey struct {
	category revocation.Category
	name     string
}

type want struct {
	entry revocation.Entry
	// optional entries can do no harm on a list and no good: every token that
	// they are about has just expired. Without them replicas whose clocks
	// differ would make lists against each other.
	optional bool
}

// nameOf is what an entry is about.
func nameOf(e *revocation.Entry) wantedKey {
	switch e.Category {
	case revocation.Subject:
		return wantedKey{e.Category, e.SubjectID}
	case revocation.Client:
		return wantedKey{e.Category, e.ClientID}
	}
	return wantedKey{e.Category, e.ID}
}

// want computes what the list should hold.
func (r *Register) want(ctx context.Context, now time.Time) (wanted, error) {
	all, err := r.o.Records.List(ctx, store.Revocations)
	if err != nil {
		return nil, err
	}
	w := wanted{}
	for i := range all {
		e, err := decode(&all[i])
		if err != nil {
			return nil, err
		}
		end := all[i].Until
		if e.Category != revocation.Token {
			end = e.RevokedAt.Add(r.o.TokenLifetime + r.o.Skew + margin)
		}
		left := end.Sub(now)
		k := nameOf(e)
		if old, ok := w[k]; left < 0 || ok && !e.RevokedAt.After(old.entry.RevokedAt) {
			continue
		}
		w[k] = want{*e, left < margin}
	}
	// A client that gives back more tokens than that (far above what honest
	// ones do) must not push everybody else off the list: its tokens of before
	// are refused together.
	many := map[string]int{}
	for k, v := range w {
		if k.category == revocation.Token {
			many[v.entry.ClientID]++
		}
	}
	for k, v := range w {
		if id := v.entry.ClientID; k.category == revocation.Token && many[id] > maxTokens {
			delete(w, k)
			all := wantedKey{revocation.Client, id}
			if old, ok := w[all]; !ok || v.entry.RevokedAt.After(old.entry.RevokedAt) {
				w[all] = want{entry: revocation.Entry{Category: revocation.Client, ID: id, ClientID: id, Reason: "too_many", RevokedAt: v.entry.RevokedAt}}
			}
		}
	}
	// Keys stay for ever: a thief can sign tokens that never expire. They are
	// taken from the last list too: a replica that does not know yet that a
	// key was revoked must not make a list without it.
	if r.last != nil {
		for _, e := range r.last.Bundle.Revocations {
			if e.Category == revocation.Key {
				w[nameOf(&e)] = want{entry: e}
			}
		}
	}
	for _, k := range r.o.Keys() {
		if k.At.IsZero() {
			k.At = now
		}
		e := revocation.Entry{Category: revocation.Key, ID: k.KID, Reason: k.Reason, RevokedAt: k.At.UTC().Truncate(time.Second)}
		if !revocation.Code(e.Reason) {
			e.Reason = "revoked"
		}
		if _, ok := w[nameOf(&e)]; !ok {
			w[nameOf(&e)] = want{entry: e}
		}
	}
	return w, nil
}

// satisfied reports whether a list holds everything that it must and nothing
// that it must not.
func (w wanted) satisfied(b *revocation.Bundle) bool {
	found := 0
	for i := range b.Revocations {
		have := &b.Revocations[i]
		want, ok := w[nameOf(have)]
		if !ok || !have.RevokedAt.Equal(want.entry.RevokedAt) {
			return false
		}
		if !want.optional {
			found++
		}
	}
	for _, want := range w {
		if !want.optional {
			found--
		}
	}
	return found == 0
}

// entries are what a new list holds, in the order of the format.
func (w wanted) entries() []revocation.Entry {
	out := make([]revocation.Entry, 0, len(w))
	for _, want := range w {
		if !want.optional {
			out = append(out, want.entry)
		}
	}
	slices.SortFunc(out, func(a, b revocation.Entry) int {
		return cmp.Or(cmp.Compare(a.Category, b.Category), cmp.Compare(a.ID, b.ID), a.RevokedAt.Compare(b.RevokedAt))
	})
	return out
}
