package jose

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/stella-ops/stella/internal/jose/strictjson"
)

// ParseKey parses one public JWK of at most MaxKeyBytes. Private and symmetric
// members are refused, as are points off their curve, RSA moduli outside 2048
// to 8192 bits, an "alg" that does not fit the key and members of another key
// type. Members this package has no field for are kept in Extra. Errors wrap
// ErrMalformed, ErrTooLarge or ErrKey.
func ParseKey(data []byte) (Key, error) {
	j, err := readJWK(data)
	if err != nil {
		return Key{}, err
	}
	return j.publicOnly()
}

func (j *jwk) publicOnly() (Key, error) {
	for name := range j.private {
		return Key{}, unusable("private member %q in a public JWK", name)
	}
	if err := j.public(); err != nil {
		return Key{}, err
	}
	return j.key, nil
}

// MarshalJSON writes the public JWK with its members in lexical order and
// without white space, so that equal keys give equal bytes. A symmetric key, or
// an Extra member that is private or has a field of its own, is an error that
// wraps ErrKey.
func (k Key) MarshalJSON() ([]byte, error) {
	material, err := materialOf(k.Public)
	if err != nil {
		return nil, err
	}
	out := make([]strictjson.Member, 0, len(material)+3+len(k.Extra))
	for _, p := range material {
		out = append(out, strictjson.Member{Name: p.name, Raw: json.RawMessage(`"` + p.value + `"`)})
	}
	for _, p := range []param{{"alg", string(k.Alg)}, {"kid", k.KeyID}, {"use", k.Use}} {
		if p.value == "" {
			continue
		}
		raw, err := json.Marshal(p.value)
		if err != nil {
			return nil, unusable("%s: %v", p.name, err)
		}
		out = append(out, strictjson.Member{Name: p.name, Raw: raw})
	}
	for name, raw := range k.Extra {
		if isPrivate(name) || isModelled(name) {
			return nil, unusable("extra member %q", name)
		}
		if err := strictjson.Check(raw); err != nil {
			return nil, unusable("extra member %q: %v", name, err)
		}
		compact, err := json.Marshal(raw)
		if err != nil {
			return nil, unusable("extra member %q: %v", name, err)
		}
		out = append(out, strictjson.Member{Name: name, Raw: compact})
	}
	return writeObject(out)
}

// writeObject writes members in lexical order of their names.
func writeObject(list []strictjson.Member) ([]byte, error) {
	slices.SortFunc(list, func(a, b strictjson.Member) int { return strings.Compare(a.Name, b.Name) })
	size := 2
	for _, m := range list {
		size += len(m.Name) + len(m.Raw) + 8
	}
	b := append(make([]byte, 0, size), '{')
	for i, m := range list {
		if i > 0 {
			b = append(b, ',')
		}
		name, err := json.Marshal(m.Name)
		if err != nil {
			return nil, malformed("%w", err)
		}
		b = append(append(append(b, name...), ':'), m.Raw...)
	}
	return append(b, '}'), nil
}

// UnmarshalJSON is ParseKey.
func (k *Key) UnmarshalJSON(data []byte) error {
	parsed, err := ParseKey(data)
	if err != nil {
		return err
	}
	*k = parsed
	return nil
}
