package jose

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"math/big"
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

// public builds the public key from exactly the members that its type has.
func (j *jwk) public() (err error) {
	var need []string
	var build func() (any, error)
	switch crv := j.params["crv"]; {
	case j.kty == "EC" && coordinateSize(crv) != 0:
		need, build = []string{"crv", "x", "y"}, j.ec
	case j.kty == "OKP" && crv == "Ed25519":
		need, build = []string{"crv", "x"}, j.ed
	case j.kty == "RSA":
		need, build = []string{"n", "e"}, j.rsa
	case j.kty == "oct":
		return unusable("symmetric key where a public key belongs")
	default:
		return unusable("kty %q crv %q: %w", j.kty, crv, errUnsupported)
	}
	for _, name := range need {
		if j.params[name] == "" {
			return malformed("JWK of kty %q has no %q", j.kty, name)
		}
	}
	if len(j.params) != len(need) {
		return malformed("JWK of kty %q has members of another key type", j.kty)
	}
	if j.key.Public, err = build(); err != nil {
		return err
	}
	if s, known := suiteOf(j.key.Alg); known {
		return s.fits(j.key.Alg, j.key.Public)
	}
	return nil
}

func (j *jwk) ec() (any, error) {
	crv := j.params["crv"]
	n := coordinateSize(crv)
	point := append(make([]byte, 0, 1+2*n), 4)
	for _, name := range []string{"x", "y"} {
		b, err := decode64(j.params[name])
		if err != nil {
			return nil, err
		}
		if len(b) != n {
			return nil, malformed("JWK member %q has %d bytes, %s needs %d", name, len(b), crv, n)
		}
		point = append(point, b...)
	}
	pub, err := ecdsa.ParseUncompressedPublicKey(curveOf(crv), point)
	if err != nil {
		return nil, unusable("point is not on %s", crv)
	}
	return pub, nil
}

func curveOf(crv string) elliptic.Curve {
	switch crv {
	case "P-256":
		return elliptic.P256()
	case "P-384":
		return elliptic.P384()
	}
	return elliptic.P521()
}

func (j *jwk) ed() (any, error) {
	b, err := decode64(j.params["x"])
	if err != nil {
		return nil, err
	}
	pub := ed25519.PublicKey(b)
	return pub, checkMaterial(pub)
}

func (j *jwk) rsa() (any, error) {
	n, err := decodeUint("n", j.params["n"])
	if err != nil {
		return nil, err
	}
	e, err := decodeUint("e", j.params["e"])
	if err != nil {
		return nil, err
	}
	if e.BitLen() > 31 {
		return nil, unusable("RSA exponent has %d bits", e.BitLen())
	}
	pub := &rsa.PublicKey{N: n, E: int(e.Int64())}
	if bits := n.BitLen(); bits < minRSABits || bits > maxRSABits {
		return nil, unusable("RSA modulus has %d bits, need %d to %d: %w", bits, minRSABits, maxRSABits, errUnsupported)
	}
	return pub, checkMaterial(pub)
}

// decodeUint reads a Base64urlUInt: the least number of octets (RFC 7518 section 2).
func decodeUint(name, s string) (*big.Int, error) {
	b, err := decode64(s)
	if err != nil {
		return nil, err
	}
	if len(b) == 0 || b[0] == 0 {
		return nil, malformed("JWK member %q is not a minimal unsigned integer", name)
	}
	return new(big.Int).SetBytes(b), nil
}
