// Package keyring is the life of the Authority's signing keys: states,
// transitions, the timetable they obey, and access to private keys.
//
// It guarantees that at most one key is active, that no key signs before it
// has been published for one full cache lifetime at every vantage point, that
// no key but a revoked one disappears while something it signed may be alive,
// and that every transition is one durable append to a signed, hash-linked
// history, so a crash leaves the state before it or the state after it.
package keyring

import (
	"encoding/json"
	"fmt"
	"math"
	"time"

	"github.com/stella-ops/stella/internal/jose"
)

// State is where a key stands.
type State string

// The states of a key.
const (
	Staged    State = "staged"    // made, not yet published
	Published State = "published" // in the JWKS, has never signed
	Active    State = "active"    // signs
	Retiring  State = "retiring"  // signed once; in the JWKS until all of that has expired
	Retired   State = "retired"   // gone after its time
	Discarded State = "discarded" // staged, never published
	Withdrawn State = "withdrawn" // published, never signed, taken back
	Tainted   State = "tainted"   // not trusted any more, still in the JWKS
	Revoked   State = "revoked"   // dropped at once
)

// InSet reports whether a key in state s is in the JWKS. A tainted key is,
// if it was published before.
func (k Key) InSet() bool {
	switch k.State {
	case Published, Active, Retiring:
		return true
	case Tainted:
		return !k.PublishedAt.IsZero()
	}
	return false
}

// Ended reports whether no transition leads out of s.
func (s State) Ended() bool {
	return s == Retired || s == Discarded || s == Withdrawn || s == Revoked
}

// Key is one signing key and the times that its timetable is computed from.
// Times are UTC; the zero time means "never".
type Key struct {
	KID         string    `json:"kid"`
	Alg         jose.Alg  `json:"alg"`
	State       State     `json:"state"`
	JWK         jose.Key  `json:"jwk"`
	Private     string    `json:"private,omitempty"` // name in the store or reference at a provider; empty once destroyed
	Given       bool      `json:"given,omitempty"`   // made at the provider by an operator, not by us, and so not ours to destroy
	StagedAt    time.Time `json:"staged_at,omitzero"`
	PublishedAt time.Time `json:"published_at,omitzero"`
	ActivatedAt time.Time `json:"activated_at,omitzero"` // latest activation
	DemotedAt   time.Time `json:"demoted_at,omitzero"`   // latest time at which it stopped being active
	TaintedAt   time.Time `json:"tainted_at,omitzero"`
	EndedAt     time.Time `json:"ended_at,omitzero"`
	// ActivateAt is set when its activation is scheduled: advance activates
	// it as soon as the timetable allows, but not before this time.
	ActivateAt time.Time `json:"activate_at,omitzero"`
	// LongestLife is the longest life of anything it may have signed.
	LongestLife Seconds `json:"longest_life_s,omitzero"`
	// AliveUntil is when the last thing it may have signed expires, without
	// skew. Zero while it has never signed or still signs.
	AliveUntil time.Time `json:"alive_until,omitzero"`
}

// Policy is what the timetable is computed from. It is part of the state, so
// that all replicas use the same.
type Policy struct {
	CacheLifetime Seconds `json:"cache_lifetime_s"` // max-age of the JWKS
	Skew          Seconds `json:"skew_s"`           // allowed clock skew of verifiers
	TokenLifetime Seconds `json:"token_lifetime_s"` // longest life of anything signed
	SignLease     Seconds `json:"sign_lease_s"`     // a replica that cannot see the history for this long stops signing
}

// Seconds is a duration written as a JSON number of seconds.
type Seconds time.Duration

// Duration converts s.
func (s Seconds) Duration() time.Duration { return time.Duration(s) }

// String formats s like a time.Duration.
func (s Seconds) String() string { return time.Duration(s).String() }

// MarshalJSON writes seconds with at most millisecond precision.
func (s Seconds) MarshalJSON() ([]byte, error) {
	return json.Marshal(math.Round(time.Duration(s).Seconds()*1000) / 1000)
}

// UnmarshalJSON reads a number of seconds between 0 and ten years.
func (s *Seconds) UnmarshalJSON(data []byte) error {
	var f float64
	if err := json.Unmarshal(data, &f); err != nil {
		return err
	}
	if f < 0 || f > 10*366*24*3600 || math.IsNaN(f) {
		return fmt.Errorf("%v seconds is out of range", f)
	}
	*s = Seconds(time.Duration(math.Round(f*1000)) * time.Millisecond)
	return nil
}
