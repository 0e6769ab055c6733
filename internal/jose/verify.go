package jose

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"math/big"
)

// Verify checks the signature and returns the payload. The algorithm must fit
// the key's type and curve and the key's "alg", "use" and "key_ops", and an RSA
// key must not have the ROCA flaw (CVE-2017-15361). Errors wrap ErrKey when the
// key may not be used, ErrSignature when it does not match.
func (j *JWS) Verify(key Key) ([]byte, error) {
	if err := key.fits(j.Header.Alg); err != nil {
		return nil, err
	}
	s, _ := suiteOf(j.Header.Alg)
	ok := false
	switch pub := key.Public.(type) {
	case ed25519.PublicKey:
		ok = ed25519.Verify(pub, j.input, j.sig)
	case []byte:
		ok = hmac.Equal(mac(s.hash, pub, j.input), j.sig)
	default:
		if err := s.verifyDigest(key, digest(s.hash, j.input), j.sig); err != nil {
			return nil, err
		}
		return j.payload, nil
	}
	if !ok {
		return nil, mismatch(key)
	}
	return j.payload, nil
}

// verifyDigest checks an EC or RSA signature; that the key fits was seen to.
func (s suite) verifyDigest(key Key, digest, sig []byte) error {
	ok := false
	switch pub := key.Public.(type) {
	case *ecdsa.PublicKey:
		der, err := derFromRaw(sig, s.size, pub.Curve.Params().N)
		if err != nil {
			return err
		}
		ok = ecdsa.VerifyASN1(pub, digest, der)
	case *rsa.PublicKey:
		if s.family == familyPSS {
			ok = rsa.VerifyPSS(pub, s.hash, digest, sig, pssOptions(s.hash)) == nil
		} else {
			ok = rsa.VerifyPKCS1v15(pub, s.hash, digest, sig) == nil
		}
	default:
		return fmt.Errorf("%w: a %s key signs no digest", ErrAlg, describe(key.Public))
	}
	if !ok {
		return mismatch(key)
	}
	return nil
}

func mismatch(key Key) error {
	return fmt.Errorf("%w with %s key %q", ErrSignature, describe(key.Public), key.KeyID)
}

func pssOptions(h crypto.Hash) *rsa.PSSOptions {
	return &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: h}
}

func digest(h crypto.Hash, data []byte) []byte {
	switch h {
	case crypto.SHA384:
		d := sha512.Sum384(data)
		return d[:]
	case crypto.SHA512:
		d := sha512.Sum512(data)
		return d[:]
	}
	d := sha256.Sum256(data)
	return d[:]
}

func mac(h crypto.Hash, key, data []byte) []byte {
	m := hmac.New(h.New, key)
	m.Write(data)
	return m.Sum(nil)
}

// derFromRaw turns r||s (RFC 7518 section 3.4), each of exactly size bytes and
// within 1 to order-1, into the ASN.1 form that crypto/ecdsa reads.
func derFromRaw(sig []byte, size int, order *big.Int) ([]byte, error) {
	if len(sig) != 2*size {
		return nil, fmt.Errorf("%w: it has %d bytes, r||s has %d", ErrSignature, len(sig), 2*size)
	}
	body := make([]byte, 0, 2*size+6)
	for _, half := range [][]byte{sig[:size], sig[size:]} {
		v := new(big.Int).SetBytes(half)
		if v.Sign() == 0 || v.Cmp(order) >= 0 {
			return nil, fmt.Errorf("%w: r or s is out of range", ErrSignature)
		}
		for half[0] == 0 {
			half = half[1:]
		}
		if half[0]&0x80 != 0 {
			body = append(body, 2, byte(len(half)+1), 0)
		} else {
			body = append(body, 2, byte(len(half)))
		}
		body = append(body, half...)
	}
	head := []byte{0x30, byte(len(body))}
	if len(body) > 127 {
		head = []byte{0x30, 0x81, byte(len(body))}
	}
	return append(head, body...), nil
}

// rawFromDER turns the ASN.1 signature of a crypto.Signer into r||s.
func rawFromDER(der []byte, size int) ([]byte, error) {
	wrong := fmt.Errorf("%w: its answer is not an ECDSA signature in DER", ErrSigner)
	if len(der) < 2 || der[0] != 0x30 {
		return nil, wrong
	}
	body := der[2:]
	switch {
	case der[1] == 0x81 && len(der) > 2 && der[2] > 127 && int(der[2]) == len(der)-3:
		body = der[3:]
	case der[1] <= 127 && int(der[1]) == len(body):
	default:
		return nil, wrong
	}
	raw := make([]byte, 2*size)
	for i := range 2 {
		if len(body) < 3 || body[0] != 2 || body[1] > 127 || len(body)-2 < int(body[1]) || body[1] == 0 {
			return nil, wrong
		}
		n := body[2 : 2+body[1]]
		body = body[2+body[1]:]
		if n[0]&0x80 != 0 || n[0] == 0 && len(n) > 1 && n[1]&0x80 == 0 {
			return nil, wrong // negative, or not minimal
		}
		if n[0] == 0 {
			n = n[1:]
		}
		if len(n) == 0 || len(n) > size {
			return nil, wrong // zero, or of another curve
		}
		copy(raw[(i+1)*size-len(n):], n)
	}
	if len(body) != 0 {
		return nil, wrong
	}
	return raw, nil
}
