package jose

import (
	"encoding/json"
	"errors"
	"slices"

	"github.com/stella-ops/stella/internal/jose/strictjson"
)

// MaxKeyBytes bounds one JWK.
const MaxKeyBytes = 32 << 10

// errUnsupported marks a well-formed key that this package cannot use: a set
// skips it, everything else refuses it.
var errUnsupported = errors.New("not supported")

// jwk is a JWK taken apart and not yet judged.
type jwk struct {
	key     Key
	kty     string
	params  map[string]string // crv, x, y, n, e
	private map[string]json.RawMessage
}

// private names are those that carry secret material (RFC 7518 section 6, RFC 8037 section 2).
func isPrivate(name string) bool {
	switch name {
	case "d", "p", "q", "dp", "dq", "qi", "oth", "k":
		return true
	}
	return false
}

// isModelled names the members that Key holds in fields of its own.
func isModelled(name string) bool {
	switch name {
	case "kty", "crv", "x", "y", "n", "e", "kid", "alg", "use":
		return true
	}
	return false
}

func readJWK(data []byte) (*jwk, error) {
	if len(data) > MaxKeyBytes {
		return nil, tooLarge("JWK", len(data), MaxKeyBytes)
	}
	list, err := strictjson.Members(data)
	if err != nil {
		return nil, err
	}
	j := &jwk{params: make(map[string]string, 4)}
	for _, m := range list {
		if err := j.add(m); err != nil {
			return nil, err
		}
	}
	if j.kty == "" {
		return nil, malformed("JWK has no kty")
	}
	if len(j.key.KeyID) > MaxKeyIDBytes {
		return nil, tooLarge("kid", len(j.key.KeyID), MaxKeyIDBytes)
	}
	return j, j.checkOps()
}

func (j *jwk) add(m strictjson.Member) error {
	if isPrivate(m.Name) {
		if j.private == nil {
			j.private = make(map[string]json.RawMessage)
		}
		j.private[m.Name] = m.Raw
		return nil
	}
	if !isModelled(m.Name) {
		if j.key.Extra == nil {
			j.key.Extra = make(map[string]json.RawMessage)
		}
		j.key.Extra[m.Name] = slices.Clone(m.Raw)
		return nil
	}
	s, err := strictjson.Text(m.Name, m.Raw)
	if err != nil {
		return err
	}
	switch m.Name {
	case "kty":
		j.kty = s
	case "kid":
		j.key.KeyID = s
	case "alg":
		j.key.Alg = Alg(s)
	case "use":
		j.key.Use = s
	default:
		j.params[m.Name] = s
		return nil
	}
	if s == "" {
		return malformed("JWK member %q is empty", m.Name)
	}
	return nil
}

// checkOps holds key_ops to RFC 7517 section 4.3: an array of strings, none twice.
func (j *jwk) checkOps() error {
	raw, ok := j.key.Extra["key_ops"]
	if !ok {
		return nil
	}
	ops, err := strictjson.Texts("key_ops", raw)
	if err != nil {
		return err
	}
	slices.Sort(ops)
	if len(slices.Compact(slices.Clone(ops))) != len(ops) {
		return malformed("key_ops names an operation twice")
	}
	return nil
}
