package storetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stella-ops/stella/internal/authority/store"
)

func user(name string) *store.User {
	at := time.Date(2026, 11, 22, 4, 0, 0, 1e6, time.UTC)
	return &store.User{
		Name: name, Subject: "usr_1", DisplayName: "N", PasswordHash: "$argon2id$x", Scopes: []string{"a"}, Roles: []string{"r"},
		Tenant: "t", Tenants: []string{"t"}, Disabled: true, CreatedAt: at, UpdatedAt: at,
	}
}

func users(t *testing.T, open func() store.Store) {
	a, b, ctx := open(), open(), t.Context()
	if _, err := a.User(ctx, "u"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("User before create: %v", err)
	}
	if err := a.ReplaceUser(ctx, user("u")); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("ReplaceUser before create: %v", err)
	}
	want := user("u")
	must(t, a.CreateUser(ctx, want))
	if err := b.CreateUser(ctx, want); !errors.Is(err, store.ErrExists) {
		t.Fatalf("second CreateUser: %v", err)
	}
	got, err := b.User(ctx, "u")
	must(t, err)
	if d := cmp.Diff(want, got); d != "" {
		t.Fatal(d)
	}
	got.Scopes[0] = "changed by the caller"
	want.Disabled, want.PasswordHash = false, "other"
	must(t, b.ReplaceUser(ctx, want))
	got, err = a.User(ctx, "u")
	must(t, err)
	if d := cmp.Diff(want, got); d != "" {
		t.Fatal(d)
	}
	must(t, a.DeleteUser(ctx, "u"))
	if err := b.DeleteUser(ctx, "u"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("second DeleteUser: %v", err)
	}
}

func userRaces(t *testing.T, open func() store.Store) {
	if n := race(t, open, func(ctx context.Context, s store.Store, _ int) (bool, error) {
		return winner(s.CreateUser(ctx, user("raced")), store.ErrExists)
	}); n != 1 {
		t.Errorf("%d winners of a create", n)
	}
	if n := race(t, open, func(ctx context.Context, s store.Store, _ int) (bool, error) {
		return winner(s.DeleteUser(ctx, "raced"), store.ErrNotFound)
	}); n != 1 {
		t.Errorf("%d winners of a delete", n)
	}
}

func records(t *testing.T, open func() store.Store) {
	a, b, ctx := open(), open(), t.Context()
	now := time.Date(2026, 11, 22, 4, 0, 0, 0, time.UTC)
	if _, err := a.Record(ctx, store.Grants, "x"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("Record before insert: %v", err)
	}
	var want []store.Record
	for n, id := range []string{"a", "b/1", "c"} {
		r := store.Record{Kind: store.Grants, ID: id, Data: fmt.Appendf(nil, `{"n":%d}`, n), Until: now.Add(time.Duration(n) * time.Minute)}
		must(t, a.Insert(ctx, r))
		want = append(want, r)
	}
	must(t, a.Insert(ctx, store.Record{Kind: store.Tokens, ID: "a", Data: []byte(`{}`), Until: now}))
	if err := b.Insert(ctx, want[0]); !errors.Is(err, store.ErrExists) {
		t.Fatalf("second Insert: %v", err)
	}
	got, err := b.Record(ctx, store.Grants, "b/1")
	must(t, err)
	if d := cmp.Diff(&want[1], got); d != "" {
		t.Fatal(d)
	}
	got.Data[0] = 'x' // the caller's
	list, err := b.List(ctx, store.Grants)
	must(t, err)
	if d := cmp.Diff(want, list); d != "" {
		t.Fatal(d)
	}
	must(t, b.SweepRecords(ctx, now.Add(time.Second)))
	list, err = a.List(ctx, store.Grants)
	must(t, err)
	if d := cmp.Diff(want[1:], list); d != "" {
		t.Fatalf("after the sweep: %s", d)
	}
	must(t, a.Remove(ctx, store.Grants, "c"))
	if err := b.Remove(ctx, store.Grants, "c"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("second Remove: %v", err)
	}
}

// Each kind on its own: none may lack what makes its keys unique.
func recordRaces(t *testing.T, open func() store.Store) {
	for _, kind := range store.Kinds() {
		r := store.Record{Kind: kind, ID: "r", Data: []byte(`{}`), Until: time.Now().Add(time.Hour)}
		if n := race(t, open, func(ctx context.Context, s store.Store, _ int) (bool, error) {
			return winner(s.Insert(ctx, r), store.ErrExists)
		}); n != 1 {
			t.Errorf("%d winners of an insert into %s", n, kind)
		}
		if n := race(t, open, func(ctx context.Context, s store.Store, _ int) (bool, error) {
			return winner(s.Remove(ctx, kind, "r"), store.ErrNotFound)
		}); n != 1 {
			t.Errorf("%d winners of a removal from %s", n, kind)
		}
	}
}
