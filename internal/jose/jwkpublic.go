package jose

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"math/big"
)

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
