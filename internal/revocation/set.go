package revocation

import (
	"sync"
	"sync/atomic"
	"time"
)

// Claims are what a token says about itself that a revocation may name.
type Claims struct {
	TokenID  string // jti
	Subject  string // sub
	ClientID string // client_id
	KID      string // of the key that signed it
	IssuedAt time.Time
}

// Set is what a verifier refuses: the last bundle that it accepted. Make it
// with NewSet. It is safe for concurrent use.
type Set struct {
	issuer string
	now    func() time.Time
	skew   time.Duration
	state  *State // nil: kept in memory only

	mu      sync.Mutex // one Apply at a time; guards unsaved
	unsaved bool
	cur     atomic.Pointer[index]
}

// Options of a Set.
type Options struct {
	Issuer string           // exact
	Skew   time.Duration    // allowed between clocks, for validFrom and expiresAt
	Now    func() time.Time // nil: time.Now
	State  *State           // keeps the accepted bundle over restarts; nil: nothing does
}

// NewSet makes a Set that begins with what the State holds, if there is one.
// Errors of the State have the kind Trust when it is not what was written.
func NewSet(o Options) (*Set, error) {
	s := &Set{issuer: o.Issuer, now: o.Now, skew: o.Skew, state: o.State}
	if s.now == nil {
		s.now = time.Now
	}
	if o.State == nil {
		return s, nil
	}
	v, err := o.State.load()
	if err != nil || v == nil {
		return s, err
	}
	if v.Bundle.Issuer != o.Issuer {
		return nil, refuse(ErrIssuer, "the state in %q is of %q, not of %q; every issuer needs a directory of its own", o.State.dir.Path(), v.Bundle.Issuer, o.Issuer)
	}
	s.cur.Store(newIndex(v))
	return s, nil
}

// Apply takes a verified bundle in and reports whether that changed anything.
// It is in effect when Apply returns, and with a State it is durable when the
// error is nil. Refused, with the kind Trust, and without effect: another
// issuer (ErrIssuer); before validFrom or from expiresAt on (ErrTime); signed by a key that the last one revokes (ErrKey); a lower
// sequence, unless bundleId differs and issuedAt is newer (ErrOlder); the same
// sequence with other content (ErrFork).
func (s *Set) Apply(v *Verified) (changed bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, now := v.Bundle, s.now()
	switch {
	case b.Issuer != s.issuer:
		return false, refuse(ErrIssuer, "it is of %q, not of %q", b.Issuer, s.issuer)
	case now.Add(s.skew).Before(b.ValidFrom):
		return false, refuse(ErrTime, "it is valid from %s on", b.ValidFrom.Format(time.RFC3339))
	case !b.ExpiresAt.IsZero() && !now.Before(b.ExpiresAt.Add(s.skew)):
		return false, refuse(ErrTime, "it expired at %s", b.ExpiresAt.Format(time.RFC3339))
	}
	if cur := s.cur.Load(); cur != nil {
		old := cur.from.Bundle
		switch {
		case cur.revokesKey(v.KID):
			return false, refuse(ErrKey, "the list that was accepted before revokes the key %q that signed it", v.KID)
		case b.Sequence == old.Sequence && v.Digest == cur.from.Digest:
			return false, s.keep(cur.from)
		case b.Sequence == old.Sequence:
			return false, refuse(ErrFork, "sequence %d is %s here and %s there", b.Sequence, cur.from.Digest, v.Digest)
		case b.Sequence < old.Sequence && !restarted(old, b):
			return false, refuse(ErrOlder, "sequence %d, accepted before was %d", b.Sequence, old.Sequence)
		}
	}
	// First in effect, then durable: what is revoked is refused even by a
	// verifier with a broken disk.
	s.cur.Store(newIndex(v))
	s.unsaved = true
	return true, s.keep(v)
}

// keep makes v durable, unless it is; the next Apply of the same list tries
// again after a failure.
func (s *Set) keep(v *Verified) error {
	if s.state == nil || !s.unsaved {
		return nil
	}
	err := s.state.save(v)
	s.unsaved = err != nil
	return err
}

// restarted reports whether b begins a new count, such as after the issuer's
// database was restored.
func restarted(old, b *Bundle) bool {
	return old.BundleID != "" && b.BundleID != "" && old.BundleID != b.BundleID && b.IssuedAt.After(old.IssuedAt)
}

// Current returns the accepted bundle, or nil.
func (s *Set) Current() *Verified {
	if cur := s.cur.Load(); cur != nil {
		return cur.from
	}
	return nil
}

// Revoked reports whether a token is revoked, and the reason code, which may
// be empty.
func (s *Set) Revoked(c Claims) (reason string, revoked bool) {
	if cur := s.cur.Load(); cur != nil {
		return cur.revoked(c)
	}
	return "", false
}

// index answers in constant time.
type index struct {
	from   *Verified
	tokens map[string]string // reason
	keys   map[string]string
	upTo   map[Category]map[string]cut // subject and client
}

// cut is a time up to which tokens are refused.
type cut struct {
	unix   int64
	reason string
}

func newIndex(v *Verified) *index {
	x := &index{
		from: v, tokens: map[string]string{}, keys: map[string]string{},
		upTo: map[Category]map[string]cut{Subject: {}, Client: {}},
	}
	for _, e := range v.Bundle.Revocations {
		switch e.Category {
		case Token:
			x.tokens[e.ID] = e.Reason
		case Key:
			x.keys[e.ID] = e.Reason
		case Subject: // the later of two wins: entries are sorted by time
			x.extend(Subject, e.SubjectID, e)
		case Client:
			x.extend(Client, e.ClientID, e)
		}
	}
	return x
}

func (x *index) revokesKey(kid string) bool { _, ok := x.keys[kid]; return ok }

func (x *index) extend(c Category, name string, e Entry) {
	if at := Cutoff(e.RevokedAt); at >= x.upTo[c][name].unix {
		x.upTo[c][name] = cut{at, e.Reason}
	}
}

func (x *index) revoked(c Claims) (string, bool) {
	if reason, ok := x.tokens[c.TokenID]; ok {
		return reason, true
	}
	if reason, ok := x.keys[c.KID]; ok {
		return reason, true
	}
	for category, name := range map[Category]string{Subject: c.Subject, Client: c.ClientID} {
		if cut, ok := x.upTo[category][name]; ok && c.IssuedAt.Unix() <= cut.unix {
			return cut.reason, true
		}
	}
	return "", false
}

// Cutoff is the last iat (Unix seconds) that a revocation of a subject or
// client at a time refuses: iat has whole seconds, so revokedAt is rounded up.
func Cutoff(revokedAt time.Time) int64 {
	at := revokedAt.Unix()
	if revokedAt.Nanosecond() > 0 {
		at++
	}
	return at
}
