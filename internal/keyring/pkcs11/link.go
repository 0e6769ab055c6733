//go:build pkcs11 && cgo

package pkcs11

import (
	"sync"

	p11 "github.com/miekg/pkcs11"
)

// link is a token we are logged in to, and its idle sessions. It ends when it
// was retired and the last call has come back: never under a call, which may
// hang in the module for as long as it likes.
type link struct {
	m      *module
	slot   uint
	serial string
	// anchor is a session that stays open: with the last session a token
	// forgets the login (section 5.6, C_CloseSession).
	anchor p11.SessionHandle

	mu    sync.Mutex
	idle  []p11.SessionHandle
	users int
	over  bool
}

// session is one session in the hands of one call.
type session struct {
	*link
	h p11.SessionHandle
}

// join must not be called on a link that was retired.
func (l *link) join() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.users++
}

func (l *link) leave() {
	l.mu.Lock()
	l.users--
	last := l.over && l.users == 0
	l.mu.Unlock()
	if last {
		_ = l.end() // nobody is left to be told
	}
}

// retire ends l, now or behind its last user.
func (l *link) retire() error {
	l.mu.Lock()
	l.over = true
	last := l.users == 0
	l.mu.Unlock()
	if last {
		return l.end()
	}
	return nil
}

func (l *link) end() error {
	for _, h := range append(l.idle, l.anchor) {
		_ = l.m.ctx.CloseSession(h) // after a loss the handle means nothing
	}
	return l.m.release()
}

func (l *link) take() (session, error) {
	l.mu.Lock()
	if n := len(l.idle); n > 0 {
		h := l.idle[n-1]
		l.idle = l.idle[:n-1]
		l.mu.Unlock()
		return session{l, h}, nil
	}
	l.mu.Unlock()
	h, err := openSession(l.m.ctx, l.slot)
	return session{l, h}, err
}

// put gives a session back. After an error it is closed, for an operation may
// be active in it, which would fail the next call.
func (s session) put(err error) {
	if err != nil {
		_ = s.m.ctx.CloseSession(s.h)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.idle = append(s.idle, s.h)
}

// alive reports an error unless the session is logged in to the token that it
// was opened with.
func (s session) alive() error {
	info, err := s.m.ctx.GetSessionInfo(s.h)
	if err != nil {
		return err
	}
	if info.State != p11.CKS_RW_USER_FUNCTIONS {
		return p11.Error(p11.CKR_USER_NOT_LOGGED_IN)
	}
	token, err := s.m.ctx.GetTokenInfo(s.slot)
	if err != nil {
		return err
	}
	if token.SerialNumber != s.serial {
		return p11.Error(p11.CKR_DEVICE_REMOVED)
	}
	return nil
}

func openSession(ctx *p11.Ctx, slot uint) (p11.SessionHandle, error) {
	return ctx.OpenSession(slot, p11.CKF_SERIAL_SESSION|p11.CKF_RW_SESSION)
}
