package jose

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/stella-ops/stella/internal/jose/strictjson"
)

// Set is a JWK set (RFC 7517 section 5).
type Set struct {
	Keys []Key `json:"keys"`

	// Skipped says, one line a key, which keys ParseSet left out and why.
	Skipped []string `json:"-"`
}

// MaxSetBytes and MaxSetKeys bound a JWK set.
const (
	MaxSetBytes = 256 << 10
	MaxSetKeys  = 100
)

// ParseSet parses a JWK set of at most MaxSetBytes and MaxSetKeys. Keys that
// are well formed but not supported (an unknown kty or curve, an RSA modulus
// outside 2048 to 8192 bits) are left out and named in Skipped, as RFC 7517
// section 5 asks. Anything else that is wrong refuses the whole set: a private
// or symmetric key, a kid twice (skipped keys count), a broken key. Errors wrap
// ErrMalformed, ErrTooLarge or ErrKey.
func ParseSet(data []byte) (Set, error) {
	if len(data) > MaxSetBytes {
		return Set{}, tooLarge("JWK set", len(data), MaxSetBytes)
	}
	list, err := strictjson.Members(data)
	if err != nil {
		return Set{}, err
	}
	var raws []json.RawMessage
	found := false
	for _, m := range list {
		if m.Name != "keys" {
			continue
		}
		found = true
		if m.Raw[0] != '[' {
			return Set{}, malformed(`"keys" is not an array`)
		}
		if err := json.Unmarshal(m.Raw, &raws); err != nil {
			return Set{}, malformed("%w", err)
		}
	}
	if !found {
		return Set{}, malformed(`JWK set has no "keys"`)
	}
	if len(raws) > MaxSetKeys {
		return Set{}, fmt.Errorf("%w: JWK set has %d keys, at most %d are read", ErrTooLarge, len(raws), MaxSetKeys)
	}
	set := Set{Keys: make([]Key, 0, len(raws))}
	kids := make(map[string]bool, len(raws))
	for i, raw := range raws {
		if err := set.add(raw, kids); err != nil {
			return Set{}, fmt.Errorf("key %d of the JWK set: %w", i, err)
		}
	}
	return set, nil
}

func (s *Set) add(raw []byte, kids map[string]bool) error {
	j, err := readJWK(raw)
	if err != nil {
		return err
	}
	if kid := j.key.KeyID; kid != "" {
		if kids[kid] {
			return malformed("kid %q twice", kid)
		}
		kids[kid] = true
	}
	key, err := j.publicOnly()
	switch {
	case errors.Is(err, errUnsupported):
		s.Skipped = append(s.Skipped, fmt.Sprintf("key %q skipped: %v", j.key.KeyID, err))
		return nil
	case err != nil:
		return err
	}
	s.Keys = append(s.Keys, key)
	return nil
}

// Key finds the key with that kid. It never guesses: an empty kid finds
// nothing, and neither does one that two keys of a hand-made set share.
func (s Set) Key(kid string) (Key, bool) {
	var found Key
	n := 0
	for _, k := range s.Keys {
		if kid != "" && k.KeyID == kid {
			found, n = k, n+1
		}
	}
	if n != 1 {
		return Key{}, false
	}
	return found, true
}

// MarshalJSON writes the set without white space, keys in the order they have;
// an empty set is {"keys":[]}.
func (s Set) MarshalJSON() ([]byte, error) {
	b := []byte(`{"keys":[`)
	for i, k := range s.Keys {
		if i > 0 {
			b = append(b, ',')
		}
		raw, err := k.MarshalJSON()
		if err != nil {
			return nil, err
		}
		b = append(b, raw...)
	}
	return append(b, "]}"...), nil
}

// UnmarshalJSON is ParseSet.
func (s *Set) UnmarshalJSON(data []byte) error {
	parsed, err := ParseSet(data)
	if err != nil {
		return err
	}
	*s = parsed
	return nil
}
