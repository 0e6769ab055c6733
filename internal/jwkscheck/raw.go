package jwkscheck

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	"github.com/stella-ops/stella/internal/jose"
)

// errNotSet means that bytes are not a JWK set at all.
var errNotSet = errors.New("not a JWK set")

// rawKey is one member of "keys", as it was written.
type rawKey struct {
	m                       map[string]json.RawMessage
	kty, kid, alg, use, crv string
	status                  string
	thumbprint              string // empty when the key is not usable
	hasKID, hasAlg, hasUse  bool
	wrong                   []string // members that have the wrong JSON type
	unusable                error    // why no public key can be made of it
}

// privateMembers lists what must never be published, whatever the type of the
// key says (RFC 7518 section 6, RFC 8037 section 2).
func privateMembers() []string { return []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"} }

// parseRaw takes a set apart without judging its keys. duplicate is set when a
// JSON object names a member twice.
func parseRaw(body []byte) (keys []rawKey, duplicate error, err error) {
	var top map[string]json.RawMessage
	if err := json.Unmarshal(body, &top); err != nil {
		return nil, nil, fmt.Errorf("%w: not a JSON object", errNotSet)
	}
	var list []json.RawMessage
	if err := json.Unmarshal(top["keys"], &list); err != nil || list == nil {
		return nil, nil, fmt.Errorf("%w: no array \"keys\"", errNotSet)
	}
	var strict map[string]json.RawMessage
	duplicate = jose.DecodeStrict(body, &strict)
	for i, raw := range list {
		k, err := parseRawKey(raw)
		if err != nil {
			return nil, nil, fmt.Errorf("%w: keys[%d] is not a JSON object", errNotSet, i)
		}
		keys = append(keys, k)
	}
	return keys, duplicate, nil
}

func parseRawKey(raw json.RawMessage) (rawKey, error) {
	var k rawKey
	if err := json.Unmarshal(raw, &k.m); err != nil || k.m == nil {
		return k, errNotSet
	}
	for name, into := range map[string]*string{
		"kty": &k.kty, "kid": &k.kid, "alg": &k.alg, "use": &k.use, "crv": &k.crv, "status": &k.status,
	} {
		if v, ok := k.m[name]; ok && json.Unmarshal(v, into) != nil {
			k.wrong = append(k.wrong, name)
		}
	}
	_, k.hasKID = k.m["kid"]
	_, k.hasAlg = k.m["alg"]
	_, k.hasUse = k.m["use"]
	k.thumbprint, k.unusable = thumbprint(k), tryPublic(k)
	return k, nil
}

// thumbprint is the RFC 7638 thumbprint, also of a key that is too weak or
// too odd for package jose to take; empty when a required member is missing.
func thumbprint(k rawKey) string {
	required := map[string][]string{
		"EC": {"crv", "x", "y"}, "OKP": {"crv", "x"}, "RSA": {"e", "n"},
	}[k.kty]
	members := map[string]string{"kty": k.kty}
	for _, name := range required {
		members[name] = k.text(name)
		if members[name] == "" {
			return ""
		}
	}
	if len(required) == 0 {
		return ""
	}
	data, err := json.Marshal(members) // in lexical order
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(data)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// tryPublic says why no public key can be made of k. Members that have checks
// of their own do not count, nor does a private part.
func tryPublic(k rawKey) error {
	public := maps.Clone(k.m)
	for _, name := range privateMembers() {
		delete(public, name)
	}
	for _, name := range []string{"alg", "use", "kid", "key_ops", "x5c", "x5t", "x5u", "x5t#S256"} {
		delete(public, name)
	}
	data, err := json.Marshal(public)
	if err != nil {
		return err
	}
	_, err = jose.ParseKey(data)
	return err
}

// text decodes a string member.
func (k rawKey) text(name string) string {
	var s string
	_ = json.Unmarshal(k.m[name], &s)
	return s
}
