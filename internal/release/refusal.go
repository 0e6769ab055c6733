package release

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/jose/strictjson"
)

// Reason is why a release is refused, as the transcript, the metrics and the
// JSON output name it.
type Reason string

// The reasons.
const (
	Format           Reason = "format"            // a document is not what it must be
	HostileName      Reason = "hostile_name"      // a name that is not plain, or clashes
	TooLarge         Reason = "too_large"         // over a cap, or endless
	TooSlow          Reason = "too_slow"          // below the floor, though not silent
	StatementMissing Reason = "statement_missing" // the policy or the past wants one
	SignatureMissing Reason = "signature_missing"
	SignatureInvalid Reason = "signature_invalid"
	AlgRefused       Reason = "alg_refused"
	KeyUnknown       Reason = "key_unknown"
	KeyExpired       Reason = "key_expired" // outside its validity
	KeyRevoked       Reason = "key_revoked"
	Threshold        Reason = "threshold"       // good signatures, but too few keys
	WrongFeed        Reason = "wrong_feed"      // a release of another feed
	DigestMismatch   Reason = "digest_mismatch" // a member has other bytes
	SizeMismatch     Reason = "size_mismatch"   // a member is shorter or longer
	MixAndMatch      Reason = "mix_and_match"   // a member of another release
	MissingMember    Reason = "missing_member"
	ExtraMember      Reason = "extra_member"
	Rollback         Reason = "rollback"       // older than what was accepted
	FastForward      Reason = "fast_forward"   // a leap that leaves no room
	Equivocation     Reason = "equivocation"   // another release under a number or name that was accepted
	Future           Reason = "future"         // generated after now
	Stale            Reason = "stale"          // expired, or older than the policy allows
	Emptied          Reason = "emptied"        // the source suddenly has nothing
	HostileSource    Reason = "hostile_source" // a redirect, a link, an unusable key
)

// Reasons lists all of them, in the order above.
func Reasons() []Reason {
	return []Reason{
		Format, HostileName, TooLarge, TooSlow, StatementMissing, SignatureMissing, SignatureInvalid, AlgRefused,
		KeyUnknown, KeyExpired, KeyRevoked, Threshold, WrongFeed, DigestMismatch, SizeMismatch, MixAndMatch,
		MissingMember, ExtraMember, Rollback, FastForward, Equivocation, Future, Stale, Emptied, HostileSource,
	}
}

// Refusal is an error that says why a release is not believed. Its fault kind
// is Trust.
type Refusal struct {
	Reason   Reason
	Member   string // path, if it is about one
	KeyID    string // kid, if it is about one
	Expected string // digest or size
	Actual   string
	err      error
}

// Error implements error.
func (r *Refusal) Error() string { return r.err.Error() }

// Unwrap gives the cause and the kind.
func (r *Refusal) Unwrap() error { return r.err }

// MarshalJSON writes what a program wants to know.
func (r *Refusal) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Reason   Reason `json:"reason"`
		Member   string `json:"member,omitempty"`
		KeyID    string `json:"kid,omitempty"`
		Expected string `json:"expected,omitempty"`
		Actual   string `json:"actual,omitempty"`
		Message  string `json:"message"`
	}{r.Reason, r.Member, r.KeyID, r.Expected, r.Actual, r.Error()})
}

// Refuse makes a Refusal; the format may wrap causes with %w.
func Refuse(why Reason, format string, args ...any) *Refusal {
	return &Refusal{Reason: why, err: fault.As(fault.Trust, fmt.Errorf(format, args...))}
}

// About adds the member that a refusal is about.
func (r *Refusal) About(member string) *Refusal {
	r.Member = member
	return r
}

// Found adds what was expected and what was found.
func (r *Refusal) Found(expected, actual string) *Refusal {
	r.Expected, r.Actual = expected, actual
	return r
}

// ReasonOf returns the reason of the first Refusal in err's chain, or "".
func ReasonOf(err error) Reason {
	if r, ok := errors.AsType[*Refusal](err); ok {
		return r.Reason
	}
	return ""
}

func refuse(why Reason, format string, args ...any) error { return Refuse(why, format, args...) }

func decodeStrict(data []byte, v any) error { return strictjson.Decode(data, v) }
