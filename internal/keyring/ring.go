package keyring

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/stella-ops/stella/internal/jose"
)

// Ring is the state of all keys at one version. It is a value: transitions
// make new ones, nobody changes one in place.
type Ring struct {
	Version uint64    `json:"version"`
	At      time.Time `json:"at"`
	Policy  Policy    `json:"policy"`
	// PriorCache is the cache lifetime before the last change of policy, at
	// PolicyAt: answers given before it may be cached that long.
	PriorCache Seconds `json:"prior_cache_lifetime_s,omitzero"`
	// PriorLease is the sign lease before that change: a replica that has not
	// seen the change goes by it.
	PriorLease Seconds   `json:"prior_sign_lease_s,omitzero"`
	PolicyAt   time.Time `json:"policy_at,omitzero"`
	Keys       []Key     `json:"keys"` // in the order of staging; the newest endedKept ended ones
}

// endedKept bounds how many ended keys the state carries along; the history
// has all of them.
const endedKept = 64

// Set is the JWKS: every key that verifiers may need, with the extra member
// "status", which RFC 7517 readers ignore.
func (r *Ring) Set() jose.Set {
	set := jose.Set{Keys: []jose.Key{}}
	for _, k := range r.Keys {
		if !k.InSet() {
			continue
		}
		jwk := k.JWK
		jwk.Extra = map[string]json.RawMessage{"status": json.RawMessage(`"` + string(k.State) + `"`)}
		set.Keys = append(set.Keys, jwk)
	}
	return set
}

// MaxAge is the cache lifetime to serve with the set: the policy's, cut so
// that no cached set outlives the moment of a scheduled activation, and at
// least one second.
func (r *Ring) MaxAge(now time.Time) time.Duration {
	age := r.Policy.CacheLifetime.Duration()
	for i := range r.Keys {
		k := &r.Keys[i]
		if k.State != Published || k.ActivateAt.IsZero() {
			continue
		}
		if left := later(k.ActivateAt, r.Matures(k)).Sub(now); left > 0 {
			age = min(age, left)
		}
	}
	return max(age.Truncate(time.Second), time.Second)
}

// Matures is when k has been published for one full cache lifetime by every
// healthy replica: a replica may lag by one sign lease, an answer may be
// cached for the longest lifetime that was served before k was in it, and a
// clock may be off by the allowed skew. Zero when k is not published.
func (r *Ring) Matures(k *Key) time.Time {
	if k.PublishedAt.IsZero() {
		return time.Time{}
	}
	served := r.noticed(k.PublishedAt) // by every replica from then on
	cached := served.Add(r.Policy.CacheLifetime.Duration())
	if r.PriorCache > 0 {
		cached = later(cached, earlier(served, r.noticed(r.PolicyAt)).Add(r.PriorCache.Duration()))
	}
	return cached.Add(r.Policy.Skew.Duration())
}

// noticed is when no replica acts any more as if what happened at t had not:
// it has seen it or lost its lease, by the lease that it knows of.
func (r *Ring) noticed(t time.Time) time.Time {
	return later(t.Add(r.Policy.SignLease.Duration()), r.PolicyAt.Add(r.PriorLease.Duration()))
}

// Outlived is when the last thing that k signed has expired for every
// verifier. Zero while k signs and when it never has.
func (r *Ring) Outlived(k *Key) time.Time {
	if k.AliveUntil.IsZero() {
		return time.Time{}
	}
	return k.AliveUntil.Add(r.Policy.Skew.Duration())
}

// Find returns the key with that kid, or nil.
func (r *Ring) Find(kid string) *Key {
	for i := range r.Keys {
		if r.Keys[i].KID == kid {
			return &r.Keys[i]
		}
	}
	return nil
}

// Active returns the key that signs, or nil.
func (r *Ring) Active() *Key { return r.first(func(k *Key) bool { return k.State == Active }) }

// Standby returns the published key that activates next: a scheduled one,
// else the one published longest ago; nil when there is none.
func (r *Ring) Standby() *Key {
	if k := r.first(func(k *Key) bool { return k.State == Published && !k.ActivateAt.IsZero() }); k != nil {
		return k
	}
	return r.oldest(nil)
}

// oldest returns the key that has been published longest, but for those named.
func (r *Ring) oldest(except map[string]error) *Key {
	var best *Key
	for i := range r.Keys {
		k := &r.Keys[i]
		if k.State == Published && except[k.KID] == nil && (best == nil || k.PublishedAt.Before(best.PublishedAt)) {
			best = k
		}
	}
	return best
}

// lastDemoted returns the retiring key that signed last.
func (r *Ring) lastDemoted() *Key {
	var best *Key
	for i := range r.Keys {
		k := &r.Keys[i]
		if k.State == Retiring && (best == nil || k.DemotedAt.After(best.DemotedAt)) {
			best = k
		}
	}
	return best
}

func (r *Ring) first(is func(*Key) bool) *Key {
	for i := range r.Keys {
		if is(&r.Keys[i]) {
			return &r.Keys[i]
		}
	}
	return nil
}

func (r *Ring) clone() *Ring {
	c := *r
	c.Keys = slices.Clone(r.Keys)
	return &c
}

// trim forgets the oldest ended keys beyond endedKept.
func (r *Ring) trim() {
	ended := 0
	for i := len(r.Keys) - 1; i >= 0; i-- {
		if !r.Keys[i].State.Ended() {
			continue
		}
		if ended++; ended > endedKept {
			r.Keys = slices.Delete(r.Keys, i, i+1)
		}
	}
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
