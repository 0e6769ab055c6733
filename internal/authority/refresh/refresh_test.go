package refresh_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/authority/refresh"
	"github.com/stella-ops/stella/internal/authority/store"
	"github.com/stella-ops/stella/internal/authority/store/mem"
)

type fixture struct {
	*testing.T
	store *failing
	now   time.Time
	f     *refresh.Families

	mu    sync.Mutex
	ended []refresh.Access
}

// failing is a store whose next insert fails, with or without effect.
type failing struct {
	store.Store
	fail, persist bool
	skip          int // inserts that are let through first
}

var errStore = errors.New("the store is away")

func (s *failing) Insert(ctx context.Context, r store.Record) error {
	if !s.fail {
		return s.Store.Insert(ctx, r)
	}
	if s.skip > 0 {
		s.skip--
		return s.Store.Insert(ctx, r)
	}
	s.fail = false
	if s.persist {
		_ = s.Store.Insert(ctx, r)
	}
	return errStore
}

func setup(t *testing.T) *fixture {
	fx := &fixture{T: t, store: &failing{Store: mem.New(0)}, now: time.Date(2026, 11, 22, 4, 0, 0, 0, time.UTC)}
	fx.f = &refresh.Families{
		Store: fx.store, Now: func() time.Time { return fx.now },
		Ended: func(_ context.Context, _ *refresh.Family, alive []refresh.Access) error {
			fx.mu.Lock()
			defer fx.mu.Unlock()
			for _, a := range alive { // told again, it is the same
				if !slices.Contains(fx.ended, a) {
					fx.ended = append(fx.ended, a)
				}
			}
			return nil
		},
	}
	return fx
}

func (fx *fixture) access(n int) refresh.Access {
	return refresh.Access{JTI: fmt.Sprintf("jti-%d", n), Expires: fx.now.Add(2 * time.Minute)}
}

func (fx *fixture) begin() string {
	fx.Helper()
	token, err := fx.f.Begin(fx.Context(), refresh.Family{
		ClientID: "c", Subject: "s", Scopes: []string{"a"}, Expires: fx.now.Add(time.Hour),
	}, fx.access(0))
	if err != nil {
		fx.Fatal(err)
	}
	return token
}

func (fx *fixture) use(token string, n int) (string, error) {
	h, err := fx.f.Look(fx.Context(), token)
	if err != nil {
		return "", err
	}
	return h.Rotate(fx.Context(), fx.access(n))
}

func (fx *fixture) mustUse(token string, n int) string {
	fx.Helper()
	next, err := fx.use(token, n)
	if err != nil {
		fx.Fatal(err)
	}
	return next
}

// A token works once; a second use ends the family with all that is alive.
func TestReuse(t *testing.T) {
	fx := setup(t)
	tokens := []string{fx.begin()}
	for n := 1; n <= 9; n++ {
		fx.now = fx.now.Add(time.Minute)
		tokens = append(tokens, fx.mustUse(tokens[n-1], n))
	}
	if _, err := fx.f.Look(t.Context(), tokens[9]); err != nil {
		t.Fatalf("control: %v", err)
	}
	if _, err := fx.use(tokens[4], 99); !errors.Is(err, refresh.ErrReused) {
		t.Fatalf("reuse: %v", err)
	}
	if _, err := fx.use(tokens[9], 10); !errors.Is(err, refresh.ErrInvalid) {
		t.Fatalf("the newest token of an ended family: %v", err)
	}
	// Access tokens live two minutes, one was made each minute.
	if len(fx.ended) != 2 || fx.ended[0].JTI != "jti-9" || fx.ended[1].JTI != "jti-8" {
		t.Fatalf("alive: %v", fx.ended)
	}
	if other := fx.begin(); fx.mustUse(other, 1) == "" {
		t.Fatal("control: another family")
	}
}

// Whoever does not have the secret can neither use a family nor end it.
func TestForged(t *testing.T) {
	fx := setup(t)
	token := fx.begin()
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(token, "srt_"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range raw {
		forged := append([]byte(nil), raw...)
		forged[i] ^= 1
		text := "srt_" + base64.RawURLEncoding.EncodeToString(forged)
		if _, err := fx.use(text, 1); !errors.Is(err, refresh.ErrInvalid) {
			t.Fatalf("byte %d changed: %v", i, err)
		}
		if err := fx.f.Revoke(t.Context(), text, "c"); !errors.Is(err, refresh.ErrInvalid) {
			t.Fatalf("byte %d changed: revoked: %v", i, err)
		}
	}
	fx.mustUse(token, 1)
}

func TestRevokeAndExpiry(t *testing.T) {
	fx := setup(t)
	token := fx.begin()
	next := fx.mustUse(token, 1)
	if err := fx.f.Revoke(t.Context(), next, "other"); !errors.Is(err, refresh.ErrInvalid) {
		t.Fatalf("another client's: %v", err)
	}
	newest := fx.mustUse(next, 2)
	if err := fx.f.Revoke(t.Context(), token, "c"); err != nil { // a spent one names the family too
		t.Fatal(err)
	}
	if _, err := fx.use(newest, 3); !errors.Is(err, refresh.ErrInvalid) {
		t.Fatalf("after Revoke: %v", err)
	}
	if len(fx.ended) != 3 {
		t.Fatalf("alive: %v", fx.ended)
	}
	token = fx.begin()
	fx.now = fx.now.Add(time.Hour - time.Second)
	token = fx.mustUse(token, 1)
	fx.now = fx.now.Add(time.Second)
	if _, err := fx.use(token, 2); !errors.Is(err, refresh.ErrInvalid) {
		t.Fatalf("after its end: %v", err)
	}
}

// Of 50 concurrent uses at most one is answered with a token, and the family
// is over.
func TestRace(t *testing.T) {
	fx := setup(t)
	token := fx.mustUse(fx.begin(), 1)
	var won atomic.Int64
	var next atomic.Pointer[string]
	var wg sync.WaitGroup
	start := make(chan struct{})
	for n := range 50 {
		h, err := fx.f.Look(t.Context(), token)
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			<-start
			switch token, err := h.Rotate(t.Context(), fx.access(100+n)); {
			case err == nil:
				won.Add(1)
				next.Store(&token)
			case !errors.Is(err, refresh.ErrReused) && !errors.Is(err, refresh.ErrInvalid):
				t.Error(err)
			}
		})
	}
	close(start)
	wg.Wait()
	if won.Load() > 1 {
		t.Fatalf("%d winners", won.Load())
	}
	if p := next.Load(); p != nil {
		if _, err := fx.use(*p, 2); !errors.Is(err, refresh.ErrInvalid) {
			t.Fatalf("the winner's token after reuse: %v", err)
		}
	}
}

// A store that fails gives no token; the next try goes on, or is taken for a
// reuse where the failed write had an effect after all.
func TestStoreFails(t *testing.T) {
	for _, persist := range []bool{false, true} {
		fx := setup(t)
		token := fx.begin()
		fx.store.fail, fx.store.persist = true, persist
		if next, err := fx.use(token, 1); !errors.Is(err, errStore) || next != "" {
			t.Fatalf("persist %v: %q %v", persist, next, err)
		}
		_, err := fx.use(token, 2)
		if want := map[bool]error{false: nil, true: refresh.ErrReused}[persist]; !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("persist %v: again: %v", persist, err)
		}
	}
}

// A reuse that cannot end the family is told as unknown, and the next use of any
// token that has ended finishes the job.
func TestEndFails(t *testing.T) {
	fx := setup(t)
	token := fx.begin()
	next := fx.mustUse(token, 1)
	h, err := fx.f.Look(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	fx.store.skip, fx.store.fail = 1, true // the spend, then the end
	if _, err := h.Rotate(t.Context(), fx.access(2)); !errors.Is(err, errStore) || errors.Is(err, refresh.ErrReused) {
		t.Fatalf("%v", err)
	}
	if _, err := fx.use(token, 3); !errors.Is(err, refresh.ErrReused) {
		t.Fatalf("again: %v", err)
	}
	fx.ended = nil
	if _, err := fx.use(next, 4); !errors.Is(err, refresh.ErrInvalid) || len(fx.ended) == 0 {
		t.Fatalf("the thief's: %v, ended %v", err, fx.ended)
	}
}

func FuzzToken(f *testing.F) {
	f.Add("srt_")
	f.Add("srt_" + strings.Repeat("A", 70))
	fam := &refresh.Families{Store: mem.New(0), Now: time.Now}
	f.Fuzz(func(t *testing.T, token string) {
		if _, err := fam.Look(t.Context(), token); !errors.Is(err, refresh.ErrInvalid) {
			t.Fatalf("%q: %v", token, err)
		}
	})
}
