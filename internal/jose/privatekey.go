package jose

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"math/big"

	"github.com/stella-ops/stella/internal/jose/strictjson"
)

// ParsePrivateKey parses a private JWK of kty EC, OKP (Ed25519) or RSA (two
// primes, both given) and returns it with its public JWK. The private and the
// public half must belong together; "key_ops" is not carried over, since it
// speaks of the private half. Errors wrap ErrMalformed, ErrTooLarge or ErrKey.
func ParsePrivateKey(data []byte) (crypto.Signer, Key, error) {
	j, err := readJWK(data)
	if err != nil {
		return nil, Key{}, err
	}
	if err := j.public(); err != nil {
		return nil, Key{}, err
	}
	delete(j.key.Extra, "key_ops")
	var signer crypto.Signer
	switch pub := j.key.Public.(type) {
	case *ecdsa.PublicKey:
		signer, err = j.privateEC(pub)
	case ed25519.PublicKey:
		signer, err = j.privateEd(pub)
	case *rsa.PublicKey:
		signer, err = j.privateRSA(pub)
	}
	if err != nil {
		return nil, Key{}, err
	}
	return signer, j.key, nil
}

// secret reads one private member; only those named may be there at all.
func (j *jwk) secret(name string) ([]byte, error) {
	raw, ok := j.private[name]
	if !ok {
		return nil, malformed("private JWK has no %q", name)
	}
	s, err := strictjson.Text(name, raw)
	if err != nil {
		return nil, err
	}
	return decode64(s)
}

func (j *jwk) privateEC(pub *ecdsa.PublicKey) (crypto.Signer, error) {
	d, err := j.secret("d")
	if err != nil {
		return nil, err
	}
	if n := coordinateSize(pub.Curve.Params().Name); len(d) != n || len(j.private) != 1 {
		return nil, malformed("private EC JWK: d has %d bytes, need %d and nothing else", len(d), n)
	}
	key, err := ecdsa.ParseRawPrivateKey(pub.Curve, d)
	if err != nil || !key.PublicKey.Equal(pub) {
		return nil, unusable("private and public half do not belong together")
	}
	return key, nil
}

func (j *jwk) privateEd(pub ed25519.PublicKey) (crypto.Signer, error) {
	d, err := j.secret("d")
	if err != nil {
		return nil, err
	}
	if len(d) != ed25519.SeedSize || len(j.private) != 1 {
		return nil, malformed("private OKP JWK: d has %d bytes, need %d and nothing else", len(d), ed25519.SeedSize)
	}
	key := ed25519.NewKeyFromSeed(d)
	if !pub.Equal(key.Public()) {
		return nil, unusable("private and public half do not belong together")
	}
	return key, nil
}

func (j *jwk) privateRSA(pub *rsa.PublicKey) (crypto.Signer, error) {
	v := make(map[string]*big.Int, 6)
	for name := range j.private {
		switch name {
		case "d", "p", "q", "dp", "dq", "qi":
		default:
			return nil, unusable("private RSA JWK with %q", name)
		}
		b, err := j.secret(name)
		if err != nil {
			return nil, err
		}
		v[name] = new(big.Int).SetBytes(b)
	}
	if v["d"] == nil || v["p"] == nil || v["q"] == nil {
		return nil, malformed("private RSA JWK needs d, p and q")
	}
	key := &rsa.PrivateKey{PublicKey: *pub, D: v["d"], Primes: []*big.Int{v["p"], v["q"]}}
	if err := key.Validate(); err != nil {
		return nil, unusable("private RSA JWK: %v", err)
	}
	key.Precompute()
	for name, have := range map[string]*big.Int{"dp": key.Precomputed.Dp, "dq": key.Precomputed.Dq, "qi": key.Precomputed.Qinv} {
		if want := v[name]; want != nil && (have == nil || want.Cmp(have) != 0) {
			return nil, unusable("private RSA JWK: %q is wrong", name)
		}
	}
	return key, nil
}
