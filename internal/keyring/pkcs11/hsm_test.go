//go:build pkcs11 && cgo

package pkcs11

import (
	"testing"

	p11 "github.com/miekg/pkcs11"

	"github.com/stella-ops/stella/internal/keyring"
	"github.com/stella-ops/stella/internal/keyring/providertest"
	"github.com/stella-ops/stella/internal/secret"
	"github.com/stella-ops/stella/internal/testenv/softhsm"
)

func TestProvider(t *testing.T) {
	providertest.Run(t, func(t *testing.T) providertest.Subject {
		token := softhsm.New(t).Token(t, "stella test", "12345678")
		return providertest.Subject{
			Scheme:    "pkcs11",
			Open:      func(t *testing.T) keyring.Provider { return open(t, token) },
			Missing:   "pkcs11:token=stella%20test;object=stella-0a-9;id=%00%01;type=private",
			Malformed: []string{"pkcs11:token=other;id=%00", "pkcs11:id=%00?pin-value=12345678", "pkcs11:object=stella-0a-1"},
		}
	})
}

// open returns a Provider on token that is closed before the test's
// configuration goes.
func open(t *testing.T, token softhsm.Token) *Provider {
	t.Helper()
	p, err := Open(Options{Module: token.Module, Token: token.Label, PIN: secret.Ref("file:" + token.PINFile)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		settled(p)
	})
	return p
}

// settled waits until no call is inside, not even one whose caller has left.
func settled(p *Provider) {
	for range maxCalls {
		p.calls <- struct{}{}
	}
	for range maxCalls {
		<-p.calls
	}
}

// started is a token with a Provider that is logged in, by the key that was
// made and opened with it.
func started(t *testing.T) (*softhsm.HSM, softhsm.Token, *Provider, keyring.RemoteKey, reference) {
	t.Helper()
	hsm := softhsm.New(t)
	token := hsm.Token(t, "stella test", "12345678")
	p := open(t, token)
	text := makes(t, p, "stella-0a-1")
	r, err := p.o.parse(text)
	if err != nil {
		t.Fatal(err)
	}
	k, err := p.Open(t.Context(), text)
	if err != nil {
		t.Fatal(err)
	}
	return hsm, token, p, k, r
}

func makes(t *testing.T, p *Provider, name string) string {
	t.Helper()
	ref, err := p.Make(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// other is another program with the token, which keeps to none of our rules.
type other struct {
	ctx     *p11.Ctx
	slot    uint
	session p11.SessionHandle
}

// intrude opens a session of its own, without a login: that is the process's.
func intrude(t *testing.T, p *Provider) other {
	t.Helper()
	if err := p.m.acquire(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.m.release(); err != nil {
			t.Error(err)
		}
	})
	slot, _, err := p.slot()
	if err != nil {
		t.Fatal(err)
	}
	h, err := openSession(p.m.ctx, slot)
	if err != nil {
		t.Fatal(err)
	}
	return other{p.m.ctx, slot, h}
}

func (o other) login(t *testing.T, pin string) {
	t.Helper()
	if err := o.ctx.Login(o.session, p11.CKU_USER, pin); err != nil {
		t.Fatal(err)
	}
}

func (o other) logout(t *testing.T) {
	t.Helper()
	if err := o.ctx.Logout(o.session); err != nil {
		t.Fatal(err)
	}
}

// triesLow is the token's own memory of a wrong PIN since the last right one.
func (o other) triesLow(t *testing.T) bool {
	t.Helper()
	info, err := o.ctx.GetTokenInfo(o.slot)
	if err != nil {
		t.Fatal(err)
	}
	return info.Flags&p11.CKF_USER_PIN_COUNT_LOW != 0
}

// generate makes a pair with private attributes of the test's choice.
func (o other) generate(t *testing.T, curve []byte, name string, id []byte, attributes map[uint]any) p11.ObjectHandle {
	t.Helper()
	both := []*p11.Attribute{p11.NewAttribute(p11.CKA_TOKEN, true), p11.NewAttribute(p11.CKA_LABEL, name), p11.NewAttribute(p11.CKA_ID, id)}
	public := append([]*p11.Attribute{p11.NewAttribute(p11.CKA_EC_PARAMS, curve)}, both...)
	private := append([]*p11.Attribute{p11.NewAttribute(p11.CKA_PRIVATE, true)}, both...)
	for kind, value := range attributes {
		private = append(private, p11.NewAttribute(kind, value))
	}
	_, h, err := o.ctx.GenerateKeyPair(o.session, []*p11.Mechanism{p11.NewMechanism(p11.CKM_EC_KEY_PAIR_GEN, nil)}, public, private)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// find returns the private key with an id.
func (o other) find(t *testing.T, p *Provider, id []byte) p11.ObjectHandle {
	t.Helper()
	s := session{&link{m: p.m, slot: o.slot}, o.session}
	h, err := s.one(p11.CKO_PRIVATE_KEY, id)
	if err != nil {
		t.Fatal(err)
	}
	return h
}
