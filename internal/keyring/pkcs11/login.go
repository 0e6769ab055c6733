//go:build pkcs11 && cgo

package pkcs11

import (
	"bytes"
	"crypto/subtle"
	"errors"
	"fmt"

	p11 "github.com/miekg/pkcs11"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/secret"
)

// connect finds the token and logs in. Its caller is the only one, and no
// context ends it: a token that takes longer than anybody's patience would never
// be connected to, while so it is there for the next call. If nothing
// else in the process uses the module, that initializes it anew, which is what
// clients of networked HSMs want after an outage.
func (p *Provider) connect() (_ *link, err error) {
	if err := p.m.acquire(); err != nil {
		return nil, err
	}
	l := &link{m: p.m}
	defer func() {
		if err != nil {
			_ = p.m.release()
		}
	}()
	slot, token, err := p.slot()
	if err != nil {
		return nil, err
	}
	l.slot, l.serial = slot, token.SerialNumber
	if l.anchor, err = openSession(p.m.ctx, slot); err != nil {
		return nil, fmt.Errorf("opening a session: %w", err)
	}
	defer func() {
		if err != nil {
			_ = p.m.ctx.CloseSession(l.anchor)
		}
	}()
	return l, p.login(l.anchor, token.Flags)
}

// slot finds the one slot whose token has the label.
func (p *Provider) slot() (slot uint, token p11.TokenInfo, err error) {
	slots, err := p.m.ctx.GetSlotList(true)
	if err != nil {
		return 0, token, fmt.Errorf("listing slots: %w", err)
	}
	found := 0
	var broken error
	for _, s := range slots {
		info, err := p.m.ctx.GetTokenInfo(s)
		if err != nil {
			broken = fmt.Errorf("asking for the token of slot %d: %w", s, err)
		} else if info.Flags&p11.CKF_TOKEN_INITIALIZED != 0 && info.Label == p.o.Token {
			slot, token = s, info
			found++
		}
	}
	switch {
	case found == 1:
		return slot, token, nil
	case found > 1:
		return 0, token, fault.Errorf(fault.Config, "%d tokens have the label %q", found, p.o.Token)
	case broken != nil:
		return 0, token, broken
	}
	return 0, token, fault.Errorf(fault.Transient, "no token has the label %q", p.o.Token).
		Hint("pkcs11-tool --module %s --list-token-slots", p.o.Module)
}

// login logs in, unless that could cost the token a try: a PIN that it refused
// is not shown to it again, nor is any PIN when there is one try left.
func (p *Provider) login(h p11.SessionHandle, flags uint) error {
	pin, err := p.o.PIN.Load()
	if err != nil {
		return fmt.Errorf("the PIN of token %q: %w", p.o.Token, err)
	}
	defer pin.Clear()
	if !p.refused.Empty() && subtle.ConstantTimeCompare(pin.Reveal(), p.refused.Reveal()) == 1 {
		return p.refusal("has refused the PIN, which is not tried again")
	}
	switch {
	case flags&p11.CKF_USER_PIN_LOCKED != 0:
		return p.refusal("has locked its PIN")
	case flags&p11.CKF_USER_PIN_FINAL_TRY != 0:
		return p.refusal("has one try left for its PIN, which is left to a person").
			Hint("pkcs11-tool --module %s --token-label %q --login --list-objects", p.o.Module, p.o.Token)
	}
	p.m.login.Lock()
	err = p.m.ctx.Login(h, p11.CKU_USER, string(pin.Reveal()))
	p.m.login.Unlock()
	if err == nil || errors.Is(err, p11.Error(p11.CKR_USER_ALREADY_LOGGED_IN)) { // logins are the process's
		p.refused.Clear()
		p.refused = secret.Bytes{}
		return nil
	}
	if lost(err) && !vendor(err) {
		return fmt.Errorf("logging in: %w", err)
	}
	// Of what else there is, nothing says that the PIN was not counted as wrong.
	p.refused = secret.New(bytes.Clone(pin.Reveal()))
	return p.refusal("has refused the PIN: %w", err)
}

func (p *Provider) refusal(format string, args ...any) *fault.Error {
	return fault.Errorf(fault.Config, "token %q "+format, append([]any{p.o.Token}, args...)...).
		Hint("put the right PIN where %s points; it is read again by itself", p.o.PIN)
}
