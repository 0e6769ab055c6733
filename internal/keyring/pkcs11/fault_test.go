//go:build pkcs11 && cgo

package pkcs11

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"sync"
	"testing"

	p11 "github.com/miekg/pkcs11"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/keyring"
	"github.com/stella-ops/stella/internal/testenv/softhsm"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func signs(ctx context.Context, k keyring.RemoteKey) error {
	digest := sha256.Sum256([]byte("x"))
	sig, err := k.SignDigest(ctx, digest[:])
	if err == nil && !ecdsa.VerifyASN1(k.Public(), digest[:], sig) {
		return errors.New("the signature does not verify")
	}
	return err
}

// What an outage does to sessions and logins is cured by one login, unseen.
func TestFaultLost(t *testing.T) {
	for name, lose := range map[string]func(*testing.T, other){
		"nothing":  func(*testing.T, other) {}, // control
		"sessions": func(t *testing.T, o other) { must(t, o.ctx.CloseAllSessions(o.slot)) },
		"login":    func(t *testing.T, o other) { o.logout(t) },
		"module":   func(t *testing.T, o other) { must(t, o.ctx.Finalize()); must(t, o.ctx.Initialize()) },
	} {
		t.Run(name, func(t *testing.T) {
			_, _, p, k, r := started(t)
			o := intrude(t, p)
			step := func(what string, call func() error) {
				t.Helper()
				before := p.link
				var err error
				o.session, err = openSession(o.ctx, o.slot) // the last one was lost, too
				must(t, err)
				lose(t, o)
				if err := call(); err != nil {
					t.Errorf("%s: %v", what, err)
				}
				if again := p.link != before; again != (name != "nothing") {
					t.Errorf("%s: connected again: %v", what, again)
				}
			}
			step("sign", func() error { return signs(t.Context(), k) })
			step("open", func() error { _, err := p.Open(t.Context(), r.String()); return err })
			step("make", func() error {
				if ref := makes(t, p, "stella-0a-1"); ref != r.String() {
					return fmt.Errorf("the name gives %s, was %s", ref, r)
				}
				return nil
			})
			// Without a login nothing is found, which must not pass for destroyed.
			step("destroy", func() error { return p.Destroy(t.Context(), r.String()) })
			if err := signs(t.Context(), k); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("signing with a destroyed key: %v", err)
			}
		})
	}
}

func TestFaultTokenGone(t *testing.T) {
	for _, shared := range []bool{false, true} { // is the module somebody else's, too?
		t.Run(fmt.Sprint("shared ", shared), func(t *testing.T) {
			hsm, token, p, k, r := started(t)
			if shared {
				intrude(t, p)
			}
			must(t, signs(t.Context(), k)) // control
			hsm.Delete(t, token.Label)
			_, openErr := p.Open(t.Context(), r.String())
			_, makeErr := p.Make(t.Context(), "stella-0a-1")
			_, adoptErr := p.Adopt(t.Context(), r.String())
			for what, err := range map[string]error{
				"sign": signs(t.Context(), k), "open": openErr, "make": makeErr, "adopt": adoptErr, "destroy": p.Destroy(t.Context(), r.String()),
			} {
				if fault.KindOf(err) != fault.Transient || errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%s without the token: %v", what, err)
				}
			}
		})
	}
}

// A new token of the old label is another token: the old key is not in it.
func TestFaultTokenMadeAnew(t *testing.T) {
	for _, noticed := range []bool{false, true} { // did a call fail in between?
		t.Run(fmt.Sprint("noticed ", noticed), func(t *testing.T) {
			hsm, token, p, k, r := started(t)
			hsm.Delete(t, token.Label)
			if noticed && signs(t.Context(), k) == nil {
				t.Error("a key of a deleted token signs")
			}
			hsm.Token(t, token.Label, token.PIN)
			if err := signs(t.Context(), k); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("sign: %v", err)
			}
			again := makes(t, p, "stella-0a-1")
			if again == r.String() {
				t.Fatal("the old key is back")
			}
			fresh, err := p.Open(t.Context(), again)
			must(t, err)
			must(t, signs(t.Context(), fresh))
		})
	}
}

// Calls that hang in the module cost their callers no more than their patience,
// and those who wait for a place as little; when they come back, all is well.
func TestFaultHang(t *testing.T) {
	_, _, p, k, _ := started(t)
	ctx, cancel := context.WithCancel(t.Context())
	inside, back := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	for range maxCalls {
		wg.Go(func() {
			_, err := do(ctx, p, func(context.Context, session) (int, error) {
				inside <- struct{}{}
				<-back
				return 1, nil
			})
			if !errors.Is(err, context.Canceled) {
				t.Errorf("a call that hangs: %v", err)
			}
		})
	}
	for range maxCalls {
		<-inside
	}
	wg.Go(func() {
		if err := signs(ctx, k); !errors.Is(err, context.Canceled) {
			t.Errorf("a call too many: %v", err)
		}
	})
	cancel()
	wg.Wait()
	if n := len(p.calls); n != maxCalls {
		t.Errorf("%d calls are inside, want %d", n, maxCalls)
	}
	close(back)
	must(t, signs(t.Context(), k))
}

// A token that is slower than its callers are patient is connected to all the
// same, but what was asked for is not done for a caller who has left.
func TestFaultSlowLogin(t *testing.T) {
	p := open(t, softhsm.New(t).Token(t, "stella test", "12345678"))
	ctx, cancel := context.WithCancel(t.Context())
	called := false
	ask := func(ctx context.Context) error {
		_, err := do(ctx, p, func(context.Context, session) (int, error) {
			called = true
			return 1, nil
		})
		return err
	}
	p.m.login.Lock()
	left := make(chan error)
	go func() { left <- ask(ctx) }()
	for len(p.dial) == 0 {
		runtime.Gosched()
	}
	cancel()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("the caller left with %v", err)
	}
	p.m.login.Unlock()
	settled(p)
	if called {
		t.Error("it was done for nobody")
	}
	if p.link == nil {
		t.Error("the login was given up")
	}
	must(t, ask(t.Context()))
	if !called {
		t.Error("it was not done") // control
	}
}

// Close leaves a call its session and the module, and ends both behind it.
func TestFaultCloseUnderCall(t *testing.T) {
	_, _, p, k, _ := started(t)
	inside, back, done := make(chan struct{}), make(chan struct{}), make(chan error)
	go func() {
		_, err := do(t.Context(), p, func(_ context.Context, s session) (int, error) {
			close(inside)
			<-back
			return 1, s.alive()
		})
		done <- err
	}()
	<-inside
	for range 2 {
		must(t, p.Close())
	}
	if err := signs(t.Context(), k); err == nil {
		t.Error("a closed provider signs")
	}
	close(back)
	if err := <-done; err != nil {
		t.Errorf("the call from before: %v", err)
	}
	settled(p)
	if _, err := p.m.ctx.GetInfo(); !errors.Is(err, p11.Error(p11.CKR_CRYPTOKI_NOT_INITIALIZED)) {
		t.Errorf("the module is still initialized: %v", err)
	}
}

func TestExplain(t *testing.T) {
	p := &Provider{}
	for c, want := range map[uint]fault.Kind{
		p11.CKR_DEVICE_REMOVED: fault.Transient, p11.CKR_VENDOR_DEFINED + 7: fault.Transient, p11.CKR_SESSION_COUNT: fault.Transient,
		p11.CKR_MECHANISM_INVALID: fault.Config, p11.CKR_DATA_LEN_RANGE: fault.Unclassified,
	} {
		err := p.explain(fmt.Errorf("signing: %w", p11.Error(c)))
		if fault.KindOf(err) != want || !errors.Is(err, p11.Error(c)) {
			t.Errorf("%v is %v, want %v", err, fault.KindOf(err), want)
		}
	}
	if lost(nil) || lost(errors.New("x")) || p.explain(nil) != nil {
		t.Error("no error is one")
	}
}
