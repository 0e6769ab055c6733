package jose_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"

	"github.com/stella-ops/stella/internal/jose"
)

// smallRSA is a public key of 1024 bits; nothing is ever verified with it.
func smallRSA() (*rsa.PublicKey, error) {
	n := new(big.Int).Lsh(big.NewInt(1), 1023)
	return &rsa.PublicKey{N: n.Add(n, big.NewInt(12345)), E: 65537}, nil
}

const goodEC = `"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"`

func TestParseKeyRefusals(t *testing.T) {
	n := b64(rsaKey().N.Bytes())
	small, _ := smallRSA()
	ed := b64(edKey(t).Public().(ed25519.PublicKey))
	rows := []struct {
		name, bad, control string
		want               error
	}{
		{"K04 private d", `{` + goodEC + `,"d":"AA"}`, `{` + goodEC + `}`, jose.ErrKey},
		{"K04 private k", `{` + goodEC + `,"k":"AA"}`, `{` + goodEC + `}`, jose.ErrKey},
		{"K04 private oth", `{` + goodEC + `,"oth":[]}`, `{` + goodEC + `}`, jose.ErrKey},
		{"K04 symmetric", `{"kty":"oct"}`, `{` + goodEC + `}`, jose.ErrKey},
		{"off the curve", `{` + strings.Replace(goodEC, "5a0", "5a4", 1) + `}`, `{` + goodEC + `}`, jose.ErrKey},
		{"point of another curve", `{` + strings.Replace(goodEC, "P-256", "P-384", 1) + `}`, `{` + goodEC + `}`, jose.ErrMalformed},
		{"unknown curve", `{` + strings.Replace(goodEC, "P-256", "secp256k1", 1) + `}`, `{` + goodEC + `}`, jose.ErrKey},
		{"kty missing", `{"crv":"P-256"}`, `{` + goodEC + `}`, jose.ErrMalformed},
		{"kty twice", `{` + goodEC + `,"kty":"EC"}`, `{` + goodEC + `}`, jose.ErrMalformed},
		{"deep duplicate", `{` + goodEC + `,"z":{"a":1,"a":1}}`, `{` + goodEC + `,"z":{"a":1}}`, jose.ErrMalformed},
		{"y missing", `{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"}`, `{` + goodEC + `}`, jose.ErrMalformed},
		{"member of another type", `{` + goodEC + `,"e":"AQAB"}`, `{` + goodEC + `}`, jose.ErrMalformed},
		{"padded coordinate", `{` + strings.Replace(goodEC, `5a0"`, `5a0="`, 1) + `}`, `{` + goodEC + `}`, jose.ErrMalformed},
		{"trailing bits", `{` + strings.Replace(goodEC, `5a0"`, `5a1"`, 1) + `}`, `{` + goodEC + `}`, jose.ErrMalformed},
		{"alg of another curve", `{` + goodEC + `,"alg":"ES384"}`, `{` + goodEC + `,"alg":"ES256"}`, jose.ErrKey},
		{"key_ops twice the same", `{` + goodEC + `,"key_ops":["verify","verify"]}`, `{` + goodEC + `,"key_ops":["verify"]}`, jose.ErrMalformed},
		{"empty kid", `{` + goodEC + `,"kid":""}`, `{` + goodEC + `,"kid":"a"}`, jose.ErrMalformed},
		{"K06 RSA of 1024 bits", fmt.Sprintf(`{"kty":"RSA","e":"AQAB","n":%q}`, b64(small.N.Bytes())), fmt.Sprintf(`{"kty":"RSA","e":"AQAB","n":%q}`, n), jose.ErrKey},
		{"RSA modulus with a leading zero", fmt.Sprintf(`{"kty":"RSA","e":"AQAB","n":%q}`, b64(append([]byte{0}, rsaKey().N.Bytes()...))), fmt.Sprintf(`{"kty":"RSA","e":"AQAB","n":%q}`, n), jose.ErrMalformed},
		{"RSA even exponent", fmt.Sprintf(`{"kty":"RSA","e":"Ag","n":%q}`, n), fmt.Sprintf(`{"kty":"RSA","e":"Aw","n":%q}`, n), jose.ErrKey},
		{"RSA exponent 1", fmt.Sprintf(`{"kty":"RSA","e":"AQ","n":%q}`, n), fmt.Sprintf(`{"kty":"RSA","e":"Aw","n":%q}`, n), jose.ErrKey},
		{"RSA exponent of 40 bits", fmt.Sprintf(`{"kty":"RSA","e":"AQAAAAE","n":%q}`, n), fmt.Sprintf(`{"kty":"RSA","e":"AQAB","n":%q}`, n), jose.ErrKey},
		{"Ed25519 of 31 bytes", `{"kty":"OKP","crv":"Ed25519","x":"` + b64(make([]byte, 31)) + `"}`, `{"kty":"OKP","crv":"Ed25519","x":"` + ed + `"}`, jose.ErrKey},
		{"X25519", `{"kty":"OKP","crv":"X25519","x":"` + ed + `"}`, `{"kty":"OKP","crv":"Ed25519","x":"` + ed + `"}`, jose.ErrKey},
		{"trailing data", `{` + goodEC + `}x`, `{` + goodEC + "}\n", jose.ErrMalformed},
		{"too large", `{` + goodEC + `,"x5c":["` + strings.Repeat("A", 33<<10) + `"]}`, `{` + goodEC + `,"x5c":["` + strings.Repeat("A", 30<<10) + `"]}`, jose.ErrTooLarge},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			if _, err := jose.ParseKey([]byte(r.control)); err != nil {
				t.Errorf("control refused: %v", err)
			}
			if _, err := jose.ParseKey([]byte(r.bad)); !errors.Is(err, r.want) {
				t.Errorf("got %v, want %v", err, r.want)
			}
		})
	}
}

// Ed25519 keys of small order: the standard library verifies a constant
// signature with them for some messages, so that they must not become keys.
func TestSmallOrderKeysRefused(t *testing.T) {
	eight := []string{
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
		"0000000000000000000000000000000000000000000000000000000000000000",
		"0100000000000000000000000000000000000000000000000000000000000000",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	}
	constant := make([]byte, 64)
	constant[0] = 1 // R is the neutral point, S is zero
	for _, text := range eight {
		for _, sign := range []byte{0, 0x80} {
			var pub ed25519.PublicKey
			if _, err := fmt.Sscanf(text, "%x", &pub); err != nil {
				t.Fatal(err)
			}
			pub[31] |= sign
			forged := false
			for i := range 200 {
				forged = forged || ed25519.Verify(pub, fmt.Append(nil, i), constant)
			}
			if sign == 0 && !forged {
				t.Errorf("%s: control: the library refuses it by itself", text)
			}
			if _, err := jose.NewKey(pub, "", ""); !errors.Is(err, jose.ErrKey) {
				t.Errorf("%s: NewKey gives %v", text, err)
			}
			if _, err := jose.ParseKey([]byte(`{"kty":"OKP","crv":"Ed25519","x":"` + b64(pub) + `"}`)); !errors.Is(err, jose.ErrKey) {
				t.Errorf("%s: ParseKey gives %v", text, err)
			}
		}
	}
}

func TestExtraMembersSurvive(t *testing.T) {
	in := `{` + goodEC + `, "status" : "retiring", "kid":"a<b", "x-notes":[1, {"z":null}] }`
	k, err := jose.ParseKey([]byte(in))
	if err != nil {
		t.Fatal(err)
	}
	if string(k.Extra["status"]) != `"retiring"` {
		t.Errorf("Extra %v", k.Extra)
	}
	roundTrip(t, k)
	out, err := k.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	want := `{"crv":"P-256","kid":"a\u003cb","kty":"EC","status":"retiring","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","x-notes":[1,{"z":null}],"y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}`
	if string(out) != want {
		t.Errorf("got  %s\nwant %s", out, want)
	}
	for name, raw := range map[string]string{"d": `"AA"`, "kty": `"EC"`, "twice": `{"a":1,"a":2}`, "cut": `{`} {
		k.Extra = map[string]json.RawMessage{name: json.RawMessage(raw)}
		if _, err := k.MarshalJSON(); !errors.Is(err, jose.ErrKey) {
			t.Errorf("extra member %q written: %v", name, err)
		}
	}
}

func TestParsePrivateKey(t *testing.T) {
	a, b := ecKey(t, elliptic.P256()), ecKey(t, elliptic.P256())
	jwk := func(pub *ecdsa.PublicKey, d *ecdsa.PrivateKey, more string) string {
		text, err := public(t, pub).MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		raw, err := d.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSuffix(string(text), "}") + `,"d":"` + b64(raw) + `"` + more + `}`
	}
	signer, key, err := jose.ParsePrivateKey([]byte(jwk(&a.PublicKey, a, `,"key_ops":["sign"]`)))
	if err != nil {
		t.Fatal(err)
	}
	c, err := newSigner(t, signer, jose.ES256, "").Sign(nil, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	if err := (attempt{c, jose.Rules{Algs: []jose.Alg{jose.ES256}}, key}).run(); errors.Is(err, jose.ErrKey) {
		t.Errorf("key_ops of the private half stuck to the public one: %v", err)
	}
	for name, text := range map[string]string{
		"halves of two keys": jwk(&a.PublicKey, b, ""),
		"no private half":    `{` + goodEC + `}`,
		"more private parts": jwk(&a.PublicKey, a, `,"p":"AA"`),
	} {
		if _, _, err := jose.ParsePrivateKey([]byte(text)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
