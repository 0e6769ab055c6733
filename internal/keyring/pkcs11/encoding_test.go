package pkcs11

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/asn1"
	"math/big"
	"slices"
	"testing"
)

func point(t testing.TB) (*ecdsa.PrivateKey, []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := k.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return k, raw
}

func TestPublicKey(t *testing.T) {
	k, raw := point(t)
	wrapped := append([]byte{0x04, 0x41}, raw...)
	for _, form := range [][]byte{raw, wrapped} {
		if pub, err := publicKey(form); err != nil || !pub.Equal(&k.PublicKey) {
			t.Errorf("%x: %v, %v", form, pub, err)
		}
	}
	bent := slices.Clone(raw)
	bent[40] ^= 1
	other, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := other.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	compressed := append([]byte{2 + raw[64]&1}, raw[1:33]...)
	for name, form := range map[string][]byte{
		"nothing": nil, "empty": {}, "infinity": {0}, "off the curve": bent, "off, wrapped": append([]byte{0x04, 0x41}, bent...),
		"short": raw[:64], "wrapped, short": wrapped[:66], "wrapped, more": append(slices.Clone(wrapped), 0),
		"BIT STRING": append([]byte{0x03, 0x42, 0x00}, raw...), "twice wrapped": append([]byte{0x04, 0x43}, wrapped...),
		"compressed": compressed, "P-384": p384, "zero": make([]byte, pointSize),
	} {
		if pub, err := publicKey(form); err == nil {
			t.Errorf("%s: %v", name, pub)
		}
	}
}

func TestSignature(t *testing.T) {
	k, _ := point(t)
	for range 300 { // some halves start with zeros
		digest := sha256.Sum256([]byte(rand.Text()))
		der, err := ecdsa.SignASN1(rand.Reader, k, digest[:])
		if err != nil {
			t.Fatal(err)
		}
		var v struct{ R, S *big.Int }
		if _, err := asn1.Unmarshal(der, &v); err != nil {
			t.Fatal(err)
		}
		rs := append(v.R.FillBytes(make([]byte, halfSize)), v.S.FillBytes(make([]byte, halfSize))...)
		if got, err := signature(rs); err != nil || !bytes.Equal(got, der) {
			t.Fatalf("%x is %x, want %x (%v)", rs, got, der, err)
		}
	}
	one := bytes.Repeat([]byte{1}, halfSize)
	if _, err := signature(slices.Concat(one, one)); err != nil {
		t.Error(err) // control
	}
	for name, rs := range map[string][]byte{
		"nothing": nil, "short": make([]byte, 63), "long": bytes.Repeat([]byte{1}, 65), "P-384": bytes.Repeat([]byte{1}, 96),
		"no r": slices.Concat(make([]byte, halfSize), one), "no s": slices.Concat(one, make([]byte, halfSize)),
	} {
		if got, err := signature(rs); err == nil {
			t.Errorf("%s: %x", name, got)
		}
	}
}

// FuzzPublicKey: an accepted point is on the curve and is what was given.
func FuzzPublicKey(f *testing.F) {
	_, raw := point(f)
	f.Add(raw)
	f.Add(append([]byte{0x04, 0x41}, raw...))
	f.Add([]byte{0x04, 0x84, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		pub, err := publicKey(data)
		if err != nil {
			return
		}
		if raw, err := pub.Bytes(); err != nil || !bytes.HasSuffix(data, raw) || len(data)-len(raw) > 2 {
			t.Fatalf("%x accepted as %x, %v", data, raw, err)
		}
	})
}
