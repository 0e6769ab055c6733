package detached

import (
	"bytes"
	"compress/gzip"
	"crypto/ed25519"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"

	"filippo.io/edwards25519"

	"github.com/stella-ops/stella/internal/jose"
)

// accepts is the verdict of this package on a raw message.
func accepts(pub, msg, sig []byte) bool {
	e, err := openEd(jose.Key{Public: ed25519.PublicKey(pub)}, sig)
	if err != nil {
		return false
	}
	h := e.hash()
	h.Write(msg)
	return e.verify(jose.Key{}, h.Sum(nil)) == nil
}

// same fails when crypto/ed25519 judges otherwise.
func same(t *testing.T, pub, msg, sig []byte) bool {
	t.Helper()
	ours, theirs := accepts(pub, msg, sig), ed25519.Verify(pub, msg, sig)
	if ours != theirs {
		t.Fatalf("key %x, message %x, signature %x: %v, crypto/ed25519 says %v", pub, msg, sig, ours, theirs)
	}
	return ours
}

// TestEd25519Wycheproof also counts, so that the vectors cannot go missing.
func TestEd25519Wycheproof(t *testing.T) {
	f, err := os.Open("../testdata/wycheproof/ed25519.json.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var groups []struct {
		JWK   struct{ X string }
		Tests []struct {
			TcID             int
			Msg, Sig, Result string
		}
	}
	if err := json.NewDecoder(r).Decode(&groups); err != nil {
		t.Fatal(err)
	}
	count := map[bool]int{}
	for _, g := range groups {
		pub, err := base64.RawURLEncoding.DecodeString(g.JWK.X)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range g.Tests {
			ok := same(t, pub, unhex(t, c.Msg), unhex(t, c.Sig))
			if ok != (c.Result == "valid") {
				t.Errorf("case %d is %s: accepted %v", c.TcID, c.Result, ok)
			}
			count[ok]++
		}
	}
	if count[true] != 88 || count[false] != 63 {
		t.Errorf("accepted and refused: %v", count)
	}
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// strange lists encodings of all points of small order: the eight in their
// canonical form, the others for y of at least p and for x = 0 with the sign
// bit set, and y from 0 to 18 plus p, some of which are no points.
func strange(t *testing.T) (points [][]byte) {
	t.Helper()
	add := func(b []byte) {
		for _, sign := range []byte{0, 0x80} {
			c := bytes.Clone(b)
			c[31] ^= sign
			points = append(points, c)
		}
	}
	for _, s := range []string{
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
		"0000000000000000000000000000000000000000000000000000000000000000",
		"0100000000000000000000000000000000000000000000000000000000000000",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	} {
		add(unhex(t, s))
	}
	for low := 0xed; low <= 0xff; low++ {
		b := bytes.Repeat([]byte{0xff}, 32)
		b[0], b[31] = byte(low), 0x7f
		add(b)
	}
	return points
}

// order is L, little-endian.
func order(t *testing.T) []byte {
	return unhex(t, "edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010")
}

func plusOrder(t *testing.T, s []byte) []byte {
	out, carry := make([]byte, 32), 0
	for i, b := range order(t) {
		carry += int(b) + int(s[i])
		out[i], carry = byte(carry), carry>>8
	}
	return out
}

// TestEd25519Strange puts points of small order and their second encodings in
// the place of A and of R, with s of 0, L and more (the cases of "Taming the
// many EdDSAs", made here): the verdict of crypto/ed25519, yes or no.
func TestEd25519Strange(t *testing.T) {
	count := map[bool]int{}
	for _, a := range strange(t) {
		for _, r := range strange(t) {
			for _, s := range [][]byte{make([]byte, 32), order(t), bytes.Repeat([]byte{0xff}, 32)} {
				for m := range byte(2) {
					count[same(t, a, []byte{m}, append(bytes.Clone(r), s...))]++
				}
			}
		}
	}
	if count[true] == 0 || count[false] == 0 {
		t.Errorf("accepted and refused: %v", count)
	}
}

// TestEd25519MixedOrder gives honest keys and commitments a part of small
// order, with which the cofactored equation holds always and the one of
// crypto/ed25519 now and then; and s a second form.
func TestEd25519MixedOrder(t *testing.T) {
	secret := scalar(t, "secret")
	count := map[string]int{}
	for _, torsion := range strange(t)[:10] {
		small, err := new(edwards25519.Point).SetBytes(torsion)
		if err != nil {
			continue
		}
		pub := new(edwards25519.Point).ScalarBaseMult(secret)
		pub.Add(pub, small)
		nonce := scalar(t, "nonce")
		for _, onR := range []bool{false, true} {
			commitment := new(edwards25519.Point).ScalarBaseMult(nonce)
			if onR {
				commitment.Add(commitment, small)
			}
			for m := range uint32(40) {
				msg := binary.BigEndian.AppendUint32(nil, m)
				h := sha512.Sum512(append(append(commitment.Bytes(), pub.Bytes()...), msg...))
				k, err := edwards25519.NewScalar().SetUniformBytes(h[:])
				if err != nil {
					t.Fatal(err)
				}
				s := edwards25519.NewScalar().MultiplyAdd(k, secret, nonce).Bytes()
				if same(t, pub.Bytes(), msg, append(commitment.Bytes(), s...)) {
					count["accepted"]++
				} else {
					count["refused"]++
				}
				if same(t, pub.Bytes(), msg, append(commitment.Bytes(), plusOrder(t, s)...)) {
					count["s+L"]++
				}
			}
		}
	}
	if count["accepted"] < 50 || count["refused"] < 50 || count["s+L"] != 0 {
		t.Errorf("%v", count)
	}
}

func scalar(t *testing.T, from string) *edwards25519.Scalar {
	t.Helper()
	h := sha512.Sum512([]byte(from))
	s, err := edwards25519.NewScalar().SetUniformBytes(h[:])
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// FuzzEd25519 looks for any input that crypto/ed25519 judges otherwise.
func FuzzEd25519(f *testing.F) {
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	sig := ed25519.Sign(key, []byte("message"))
	f.Add([]byte(key.Public().(ed25519.PublicKey)), []byte("message"), sig)
	f.Add(make([]byte, 32), []byte("message"), make([]byte, 64))
	one := append([]byte{1}, make([]byte, 31)...)
	f.Add(one, []byte("x"), append(bytes.Clone(one), make([]byte, 32)...))
	f.Fuzz(func(t *testing.T, pub, msg, sig []byte) {
		if len(pub) == ed25519.PublicKeySize {
			same(t, pub, msg, sig)
		}
		// And as the public key of an honest signature.
		good := ed25519.Sign(key, msg)
		if !same(t, key[32:], msg, good) {
			t.Fatal("honest signature refused")
		}
	})
}
