package keyring

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/durable"
	"github.com/stella-ops/stella/internal/fault"
)

// clock is a settable time for all keyrings of one test.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time      { c.mu.Lock(); defer c.mu.Unlock(); return c.t }
func (c *clock) add(d time.Duration) { c.mu.Lock(); defer c.mu.Unlock(); c.t = c.t.Add(d) }
func newClock() *clock               { return &clock{t: epoch} }
func (c *clock) options(r string) Options {
	return Options{Policy: testPolicy(), CreateIfMissing: true, Replica: r, Now: c.now}
}

func openTestDir(t *testing.T, path string) (*Dir, *durable.Dir) {
	t.Helper()
	d, err := durable.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return NewDir(d), d
}

func secretDir(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func load(t *testing.T, path string, o Options) *Keyring {
	t.Helper()
	store, _ := openTestDir(t, path)
	k := New(store, o)
	if err := k.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	return k
}

// TestReplicasShareADirectory: many writers at once, each version once, and
// every replica ends at the same state.
func TestReplicasShareADirectory(t *testing.T) {
	path, c := secretDir(t), newClock()
	const replicas, each = 6, 5
	var rings [replicas]*Keyring
	var wg sync.WaitGroup
	for i := range replicas { // the creation is a race too
		rings[i] = load(t, path, c.options(fmt.Sprint("r", i)))
	}
	for i := range replicas {
		wg.Go(func() {
			for range each {
				if _, err := rings[i].Change(t.Context(), Change{Request: Request{Action: Stage}, Operator: "test"}); err != nil {
					t.Errorf("replica %d: %v", i, err)
				}
			}
		})
	}
	wg.Wait()
	for i, k := range rings {
		if err := k.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got, want := k.Ring().Version, uint64(1+replicas*each); got != want {
			t.Errorf("replica %d is at version %d, want %d", i, got, want)
		}
	}
	if records, err := rings[0].History(t.Context()); err != nil || len(records) != 1+replicas*each {
		t.Errorf("%d records, %v", len(records), err)
	}
	stored, err := rings[0].store.Keys(t.Context())
	if err != nil || len(stored) != 2+1+replicas*each {
		t.Errorf("%d private keys stored (%v), want two first keys, the history's, and each staged one", len(stored), err)
	}
}

func TestExpectedVersionAndDryRun(t *testing.T) {
	path, c := secretDir(t), newClock()
	k := load(t, path, c.options("a"))
	stage := Change{Request: Request{Action: Stage, ExpectVersion: 7}}
	if _, err := k.Change(t.Context(), stage); !errors.Is(err, ErrConflict) {
		t.Errorf("wrong version: %v", err)
	}
	stage.ExpectVersion, stage.DryRun = 1, true
	out, err := k.Change(t.Context(), stage)
	if err != nil || out.Ring.Version != 2 || k.Ring().Version != 1 {
		t.Errorf("dry run: %v, state at %d", err, k.Ring().Version)
	}
	if stored, _ := k.store.Keys(t.Context()); len(stored) != 3 {
		t.Errorf("a dry run left %d private keys", len(stored))
	}
	stage.DryRun = false
	if _, err := k.Change(t.Context(), stage); err != nil {
		t.Errorf("control: %v", err)
	}
}

// TestSignLease: a replica that cannot see the history stops signing, says
// that its set must not be stored, and recovers.
func TestSignLease(t *testing.T) {
	path, c := secretDir(t), newClock()
	a, b := load(t, path, c.options("a")), load(t, path, c.options("b"))
	if _, err := b.Signer(); err != nil {
		t.Fatal(err)
	}
	c.add(10 * time.Second)
	if _, err := b.Signer(); err != nil {
		t.Errorf("within the lease: %v", err)
	}
	c.add(time.Millisecond)
	if _, err := b.Signer(); !errors.Is(err, ErrLease) || b.MaxAge() != 0 {
		t.Errorf("past the lease: %v, max-age %v", err, b.MaxAge())
	}
	c.add(time.Hour)
	if _, err := a.Change(t.Context(), Change{Request: Request{Action: Taint, Reason: "x"}}); err != nil {
		t.Fatal(err)
	}
	if err := b.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	s, err := b.Signer()
	if err != nil || s.Key().KeyID != a.Ring().Active().KID || b.MaxAge() != 5*time.Minute {
		t.Errorf("after refresh: %v", err)
	}
}

// TestTampering: whatever is changed on disk is refused with kind Trust; the
// untouched copy loads.
func TestTampering(t *testing.T) {
	edit := func(from, to string) func(string) error {
		return func(file string) error {
			data, err := os.ReadFile(file)
			if err != nil || !strings.Contains(string(data), from) {
				return fmt.Errorf("nothing to edit: %w", err)
			}
			return os.WriteFile(file, []byte(strings.Replace(string(data), from, to, 1)), 0o600)
		}
	}
	cases := map[string]struct {
		file string
		do   func(string) error
		kind fault.Kind
	}{
		"control":                 {"history-0000000002", func(string) error { return nil }, fault.None},
		"one byte of a payload":   {"history-0000000002", edit(`"operator":"o"`, `"operator":"p"`), fault.Trust},
		"a signature":             {"history-0000000002", edit("\n", "\nA"), fault.Trust},
		"the first record's key":  {"history-0000000001", edit(`"x":"`, `"x":"B`), fault.Trust},
		"a record removed":        {"history-0000000002", os.Remove, fault.Trust},
		"a record emptied":        {"history-0000000003", func(f string) error { return os.Truncate(f, 0) }, fault.Trust},
		"two records swapped":     {"history-0000000002", func(f string) error { return os.Rename(filepath.Join(filepath.Dir(f), "history-0000000003"), f) }, fault.Trust},
		"another key for the kid": {"KID.pem", func(f string) error { return os.WriteFile(f, otherKey(t), 0o600) }, fault.Trust},
		"a readable private key":  {"KID.pem", func(f string) error { return os.Chmod(f, 0o640) }, fault.Config},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			path, c := secretDir(t), newClock()
			k := load(t, path, c.options("a"))
			for range 2 {
				if _, err := k.Change(t.Context(), Change{Request: Request{Action: Stage}, Operator: "o"}); err != nil {
					t.Fatal(err)
				}
			}
			file := strings.Replace(tc.file, "KID", k.Ring().Active().KID, 1)
			if err := tc.do(filepath.Join(path, file)); err != nil {
				t.Fatal(err)
			}
			store, _ := openTestDir(t, path)
			k = New(store, c.options("b"))
			err := k.Load(t.Context())
			if err == nil {
				_, err = k.Signer()
			}
			if got := fault.KindOf(err); got != tc.kind {
				t.Errorf("kind %v, want %v: %v", got, tc.kind, err)
			}
		})
	}
}

func otherKey(t *testing.T) []byte {
	path := secretDir(t)
	k := load(t, path, newClock().options("x"))
	data, err := os.ReadFile(filepath.Join(path, k.Ring().Active().KID+".pem"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestMissingKeyringIsNotMade(t *testing.T) {
	store, _ := openTestDir(t, secretDir(t))
	o := newClock().options("a")
	o.CreateIfMissing = false
	err := New(store, o).Load(context.Background())
	if !errors.Is(err, ErrMissing) || fault.KindOf(err) != fault.Config {
		t.Errorf("%v", err)
	}
}

func TestOpenDirRefusesOthers(t *testing.T) {
	path := secretDir(t)
	if d, err := OpenDir(path); err != nil {
		t.Fatalf("control: %v", err)
	} else if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenDir(path); fault.KindOf(err) != fault.Config {
		t.Errorf("%v", err)
	}
}
