//go:build pkcs11 && cgo

package pkcs11

import (
	"fmt"
	"os"
	"strings"
	"testing"

	p11 "github.com/miekg/pkcs11"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/testenv/softhsm"
)

func writePIN(t *testing.T, token softhsm.Token, pin string) {
	t.Helper()
	must(t, os.WriteFile(token.PINFile, []byte(pin+"\n"), 0o600))
}

func refused(t *testing.T, p *Provider) {
	t.Helper()
	_, err := p.Make(t.Context(), "stella-0a-1")
	text := fmt.Sprint(err, fault.HintsOf(err))
	if fault.KindOf(err) != fault.Config || !strings.Contains(text, "PIN") || strings.Contains(text, "8765") {
		t.Fatalf("%v %s", fault.KindOf(err), text)
	}
}

// The token itself counts: its flag goes up with a wrong PIN and down with a
// right one, which here another program gives.
func TestWrongPINIsTriedOnce(t *testing.T) {
	token := softhsm.New(t).Token(t, "stella test", "12345678")
	p, count := open(t, token), intrude(t, open(t, token))
	reset := func() {
		t.Helper()
		count.login(t, token.PIN)
		count.logout(t)
		if count.triesLow(t) {
			t.Fatal("the token goes on counting after a right PIN")
		}
	}
	writePIN(t, token, "87654321")
	refused(t, p)
	if !count.triesLow(t) {
		t.Fatal("a wrong PIN does not count: this test sees nothing") // control
	}
	reset()
	for range 5 {
		refused(t, p)
	}
	if count.triesLow(t) {
		t.Fatal("a refused PIN was tried again")
	}
	writePIN(t, token, "87651234") // another value is tried, once
	refused(t, p)
	if !count.triesLow(t) {
		t.Fatal("another PIN was not tried")
	}
	reset()
	refused(t, p)
	if count.triesLow(t) {
		t.Fatal("the second PIN was tried again")
	}
	writePIN(t, token, token.PIN)
	makes(t, p, "stella-0a-1")
}

// A PIN that is changed under us is met at the next login, not before.
func TestPINIsReadAtLogin(t *testing.T) {
	_, token, p, k, _ := started(t)
	o := intrude(t, p)
	must(t, o.ctx.SetPIN(o.session, token.PIN, "87654321"))
	must(t, signs(t.Context(), k))
	o.logout(t)
	refused(t, p)
	writePIN(t, token, "87654321")
	must(t, signs(t.Context(), k))
	must(t, os.Remove(token.PINFile))
	must(t, signs(t.Context(), k)) // logged in
	o.logout(t)
	if err := signs(t.Context(), k); fault.KindOf(err) != fault.Config {
		t.Errorf("login without the PIN file: %v", err)
	}
	writePIN(t, token, "87654321")
	must(t, signs(t.Context(), k))
}

// The last try is left to a person; SoftHSM never comes to it.
func TestLastTry(t *testing.T) {
	token := softhsm.New(t).Token(t, "stella test", "12345678")
	p := open(t, token)
	o := intrude(t, p)
	for _, flags := range []uint{p11.CKF_USER_PIN_FINAL_TRY, p11.CKF_USER_PIN_LOCKED} {
		if err := p.login(o.session, flags); fault.KindOf(err) != fault.Config {
			t.Errorf("flags %x: %v", flags, err)
		}
		if info, err := o.ctx.GetSessionInfo(o.session); err != nil || info.State == p11.CKS_RW_USER_FUNCTIONS {
			t.Errorf("flags %x: it logged in (%v)", flags, err)
		}
	}
	must(t, p.login(o.session, p11.CKF_USER_PIN_COUNT_LOW)) // control
}

func TestWhichToken(t *testing.T) {
	hsm := softhsm.New(t)
	token := hsm.Token(t, "stella test", "12345678")
	absent := token
	absent.Label = "stella tes"
	if _, err := open(t, absent).Make(t.Context(), "stella-0a-1"); fault.KindOf(err) != fault.Transient {
		t.Errorf("no such token: %v", err)
	}
	p := open(t, token)
	makes(t, p, "stella-0a-1")
	must(t, p.Close())
	hsm.Token(t, token.Label, token.PIN)
	if _, err := open(t, token).Make(t.Context(), "stella-0a-1"); fault.KindOf(err) != fault.Config {
		t.Errorf("two such tokens: %v", err)
	}
}
