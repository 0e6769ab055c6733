package release

import (
	"fmt"
	"slices"
	"time"
)

// Pin is what a mirror remembers of the newest release that it accepted.
type Pin struct {
	ExportID    string    `json:"export_id"`
	Sequence    int64     `json:"sequence,omitempty"` // 0: it had no statement
	GeneratedAt time.Time `json:"generated_at"`
	Digest      string    `json:"digest"`            // of the statement, or of what stands for it
	Signers     []string  `json:"signers,omitempty"` // thumbprints
}

// CheckTime judges a release by the clock: Future when it was made after now,
// Stale when it has expired or is older than the policy allows.
func (p *Policy) CheckTime(generated, expires, now time.Time) error {
	skew := p.ClockSkew.Std()
	switch age := now.Sub(generated); {
	case generated.After(now.Add(skew)):
		return Refuse(Future, "the release was generated at %s, but it is %s now; check this host's clock", stamp(generated), stamp(now)).
			Found(stamp(now), stamp(generated))
	case !expires.IsZero() && !now.Add(-skew).Before(expires):
		return Refuse(Stale, "the release has expired at %s, and it is %s now: nothing newer came", stamp(expires), stamp(now)).
			Found(stamp(now), stamp(expires))
	case p.MaxAge > 0 && age > p.MaxAge.Std()+skew:
		return Refuse(Stale, "the release was generated at %s; the policy allows an age of %s", stamp(generated), p.MaxAge).
			Found(p.MaxAge.String(), age.Round(time.Second).String())
	}
	return nil
}

// CheckPin judges whether a release may follow the pinned one; same says that
// it is that very release. A pin counts only while the keys that signed it are
// trusted: whoever steals a key can pin a mirror far ahead, and the operator
// gets out of it by revoking that key, as in TUF.
func (p *Policy) CheckPin(s *Statement, digest string, pin Pin) (same bool, err error) {
	if least := p.minimumSequence(s.Feed); s.Sequence < least {
		return false, Refuse(Rollback, "the release has sequence %d, the policy asks for %d or more", s.Sequence, least).
			Found(fmt.Sprint(least), fmt.Sprint(s.Sequence))
	}
	if s.Sequence > maxSequence-p.MaxStep {
		return false, Refuse(FastForward, "sequence %d leaves no room for the next ones", s.Sequence)
	}
	if pin.ExportID == "" || !p.Holds(pin.Signers) {
		return false, nil
	}
	if digest == pin.Digest {
		return true, nil
	}
	was, is := fmt.Sprintf("%s (sequence %d)", pin.ExportID, pin.Sequence), fmt.Sprintf("%s (sequence %d)", s.ExportID, s.Sequence)
	switch {
	case s.Sequence < pin.Sequence:
		return false, Refuse(Rollback, "the release %s is older than %s, which was accepted before", is, was).Found(was, is)
	case s.Sequence == pin.Sequence, s.ExportID == pin.ExportID:
		return false, Refuse(Equivocation, "the release %s is not the %s that was accepted before, though it says so: somebody shows different releases to different mirrors", is, was).
			Found(pin.Digest, digest)
	case s.GeneratedAt.Before(pin.GeneratedAt):
		return false, Refuse(Rollback, "the release %s was generated at %s, before %s", is, stamp(s.GeneratedAt), was).
			Found(stamp(pin.GeneratedAt), stamp(s.GeneratedAt))
	case pin.Sequence > 0 && s.Sequence-pin.Sequence > p.MaxStep:
		return false, Refuse(FastForward, "the release %s leaps from sequence %d; the policy allows steps of %d", is, pin.Sequence, p.MaxStep).
			Found(fmt.Sprint(pin.Sequence+p.MaxStep), fmt.Sprint(s.Sequence))
	}
	return false, nil
}

// Holds reports whether what keys have signed, by their thumbprints, counts
// still: one of them is in the policy and not revoked. What nobody has signed
// always counts.
func (p *Policy) Holds(signers []string) bool {
	return len(signers) == 0 || slices.ContainsFunc(signers, func(print string) bool {
		return slices.ContainsFunc(p.Keys, func(k TrustedKey) bool { return k.thumbprint == print }) && !p.revoked(print)
	})
}

// revoked reports whether a key is revoked, under whatever id.
func (p *Policy) revoked(thumbprint string) bool {
	return slices.ContainsFunc(p.Keys, func(k TrustedKey) bool { return k.thumbprint == thumbprint && k.RevokedAt != nil })
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
