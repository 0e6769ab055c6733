package jwks_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/jose/jwks"
)

// J11, K07: whatever the issuer does, the last good set serves through the
// tolerance, at once, and the issuer is asked at most once a cooldown.
func TestOldSetKept(t *testing.T) {
	for name, breakIt := range map[string]func(*issuer){
		"down":            func(i *issuer) { i.down = true },
		"503":             func(i *issuer) { i.status = 503 },
		"404":             func(i *issuer) { i.status = 404 },
		"HTML":            func(i *issuer) { i.body = "<html>" },
		"10 MB":           func(i *issuer) { i.body = strings.Repeat(" ", 10<<20) },
		"private key":     func(i *issuer) { i.body = `{"keys":[{"kty":"oct","k":"AAAA"}]}` },
		"unasked for 304": func(i *issuer) { i.status = 304; i.etag = "" },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				i := newIssuer(t, "a")
				if name == "unasked for 304" {
					i.etag = ""
				}
				remote := i.remote(jwks.Options{OfflineTolerance: 10 * time.Minute})
				wantKey(t, remote, "a")
				i.change(func() { breakIt(i) })
				time.Sleep(300 * time.Second)
				for range 59 {
					start := time.Now()
					for range 10 {
						wantKey(t, remote, "a")
					}
					if d := time.Since(start); d != 0 {
						t.Errorf("waited %s", d)
					}
					time.Sleep(10 * time.Second)
				}
				if got, _ := i.count(); got != 1+59 {
					t.Errorf("%d fetches in 590 s", got)
				}
				time.Sleep(10*time.Second - time.Nanosecond)
				wantKey(t, remote, "a")
				time.Sleep(time.Nanosecond)
				if _, err := remote.Key(t.Context(), "a"); fault.KindOf(err) != fault.Transient {
					t.Errorf("past the tolerance: %v of kind %s", err, fault.KindOf(err))
				}
				i.change(func() { i.down, i.status, i.body = false, 0, "" })
				time.Sleep(time.Second)
				wantKey(t, remote, "a")
			})
		})
	}
}

func TestRecoversInTheBackground(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer(t, "a")
		remote := i.remote(jwks.Options{})
		wantKey(t, remote, "a")
		i.change(func() { i.down = true })
		time.Sleep(300 * time.Second)
		wantKey(t, remote, "a")
		i.change(func() { i.down = false })
		i.publish(t, "b")
		time.Sleep(10 * time.Second)
		wantKey(t, remote, "a") // served at once; the refetch is on its way
		synctest.Wait()
		wantUnknown(t, remote, "a")
		wantKey(t, remote, "b")
	})
}

func TestNoTolerance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer(t, "a")
		remote := i.remote(jwks.Options{OfflineTolerance: -1, RetryDelays: []time.Duration{}})
		wantKey(t, remote, "a")
		i.change(func() { i.down = true })
		time.Sleep(300*time.Second - time.Nanosecond)
		wantKey(t, remote, "a")
		time.Sleep(time.Nanosecond)
		if _, err := remote.Set(t.Context()); fault.KindOf(err) != fault.Transient {
			t.Error(err)
		}
	})
}

// An issuer that hangs costs one caller a second, not every caller.
func TestHangingIssuer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer(t, "a")
		remote := i.remote(jwks.Options{})
		wantKey(t, remote, "a")
		i.change(func() { i.delay = time.Hour })
		time.Sleep(300 * time.Second)
		start := time.Now()
		wantKey(t, remote, "a")
		if d := time.Since(start); d != time.Second {
			t.Errorf("first caller waited %s", d)
		}
		for range 100 {
			wantKey(t, remote, "a")
		}
		if d := time.Since(start); d != time.Second {
			t.Errorf("the others waited %s", d-time.Second)
		}
		i.wantFetches(t, 2)
		time.Sleep(time.Minute) // the fetch ends by its own limit
		synctest.Wait()
	})
}

// A new key cannot be learnt from an issuer that is down: that is a passing
// failure and not an unknown key; and it is found out once a cooldown.
func TestUnknownKidWhileDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer(t, "a")
		remote := i.remote(jwks.Options{})
		wantKey(t, remote, "a")
		i.change(func() { i.down = true })
		for n := range 1000 {
			_, err := remote.Key(t.Context(), fmt.Sprint("new-", n))
			if errors.Is(err, jwks.ErrUnknownKey) || fault.KindOf(err) != fault.Transient {
				t.Fatalf("%v of kind %s", err, fault.KindOf(err))
			}
		}
		wantKey(t, remote, "a")
		i.wantFetches(t, 2)
		i.change(func() { i.down = false })
		i.publish(t, "a", "new-0")
		time.Sleep(10 * time.Second)
		wantKey(t, remote, "new-0")
	})
}
