package jose_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	gojose "github.com/go-jose/go-jose/v4"

	"github.com/stella-ops/stella/internal/jose"
)

// ours is what every error must wrap one of.
func ours(err error) bool {
	for _, e := range []error{jose.ErrMalformed, jose.ErrTooLarge, jose.ErrAlg, jose.ErrCritical, jose.ErrType,
		jose.ErrKey, jose.ErrSignature, jose.ErrExpired, jose.ErrNotYet, jose.ErrSigner} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func gojoseAlgs() []gojose.SignatureAlgorithm {
	var out []gojose.SignatureAlgorithm
	for _, a := range allAlgs() {
		out = append(out, gojose.SignatureAlgorithm(a))
	}
	return out
}

func seedJWS(f *testing.F) {
	var v struct{ Cases []struct{ JWS string } }
	readJSON(f, "testdata/rfc/rfc7515-appendix-a.json", &v)
	for _, c := range v.Cases {
		f.Add(c.JWS)
	}
	key := ecKey(f, elliptic.P256())
	f.Add(forge(f, key, `{"alg":"ES256","kid":"a","crit":["b64"],"b64":true}`, []byte("x")))
	f.Add(forge(f, key, `{"alg":"ES256","jwk":{`+goodEC+`}}`, nil))
	f.Add("eyJhbGciOiJIUzI1NiIsImI2NCI6ZmFsc2UsImNyaXQiOlsiYjY0Il19..A5dxf2s96_n5FLueVuW1Z_vh161FwXZC4YLPff6dmDY")
	f.Add("e30..AA")
	f.Add("a.b.c.d.e")
}

func FuzzParse(f *testing.F) {
	seedJWS(f)
	rules := jose.Rules{Algs: allAlgs(), Critical: []string{"b64", "x"}, AllowJWK: true}
	f.Fuzz(func(t *testing.T, compact string) {
		j, err := jose.Parse(compact, rules)
		if err != nil {
			if !ours(err) {
				t.Fatalf("foreign error %v", err)
			}
			return
		}
		parts := strings.Split(compact, ".")
		if len(parts) != 3 || b64(j.UnverifiedPayload()) != parts[1] || b64(unb64(t, parts[0])) != parts[0] || b64(unb64(t, parts[2])) != parts[2] {
			t.Fatalf("%q has a second spelling", compact)
		}
		if len(j.Header.Critical) > 0 {
			return // go-jose has its own list
		}
		if _, err := gojose.ParseSignedCompact(compact, gojoseAlgs()); err != nil {
			t.Fatalf("go-jose refuses %q: %v", compact, err)
		}
		// Nobody but its signer can have signed it.
		for _, k := range []jose.Key{{Public: &rsaKey().PublicKey}, {Public: bytes.Repeat([]byte{7}, 64)}} {
			if _, err := j.Verify(k); err == nil {
				t.Fatalf("%q verifies with a key that never signed it", compact)
			}
		}
	})
}

func FuzzParseDetached(f *testing.F) {
	seedJWS(f)
	rules := jose.Rules{Algs: allAlgs(), Critical: []string{"b64"}}
	key := jose.Key{Public: bytes.Repeat([]byte{7}, 64)}
	f.Fuzz(func(t *testing.T, compact string) {
		payload := []byte("the payload.")
		j, err := jose.ParseDetached(compact, payload, rules)
		if err != nil {
			if !ours(err) {
				t.Fatalf("foreign error %v", err)
			}
			return
		}
		parts := strings.Split(compact, ".")
		if len(parts) != 3 || parts[1] != "" || b64(unb64(t, parts[0])) != parts[0] || b64(unb64(t, parts[2])) != parts[2] {
			t.Fatalf("%q has a second spelling", compact)
		}
		if !bytes.Equal(j.UnverifiedPayload(), payload) {
			t.Fatal("payload changed")
		}
		if _, err := j.Verify(key); err == nil {
			t.Fatalf("%q verifies with a key that never signed it", compact)
		}
	})
}

func FuzzParseKey(f *testing.F) {
	f.Add([]byte(`{` + goodEC + `,"status":"active","kid":"k","use":"sig","alg":"ES256","key_ops":["verify"]}`))
	f.Add([]byte(`{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`))
	f.Add([]byte(`{"kty":"oct","k":"AAAA"}`))
	for _, name := range []string{"3_1.ec_public_key", "3_2.ec_private_key", "3_3.rsa_public_key", "3_4.rsa_private_key"} {
		raw, err := os.ReadFile("testdata/cookbook/jwk/" + name + ".json")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if signer, k, err := jose.ParsePrivateKey(data); err == nil && !samePublic(signer.Public(), k.Public) {
			t.Fatal("private and public half differ")
		}
		k, err := jose.ParseKey(data)
		if err != nil {
			if !ours(err) {
				t.Fatalf("foreign error %v", err)
			}
			return
		}
		first := stable(t, k)
		// go-jose wants x5c to be certificates; we never look at them.
		if k.Extra["x5c"] != nil || k.Extra["x5t"] != nil || k.Extra["x5t#S256"] != nil || k.Extra["x5u"] != nil {
			return
		}
		var theirs gojose.JSONWebKey
		if err := theirs.UnmarshalJSON(first); err != nil {
			t.Fatalf("go-jose refuses %s: %v", first, err)
		}
		if !samePublic(k.Public, theirs.Key) || theirs.KeyID != k.KeyID {
			t.Fatalf("go-jose reads another key from %s", first)
		}
		var m map[string]json.RawMessage
		if err := json.Unmarshal(first, &m); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"} {
			if m[name] != nil {
				t.Fatalf("private member in %s", first)
			}
		}
	})
}

// stable marshals a key that was read, and checks that doing so again, after
// reading it again, changes nothing.
func stable(t *testing.T, k jose.Key) []byte {
	t.Helper()
	first, err := k.MarshalJSON()
	if err != nil {
		t.Fatalf("read, but not written: %v", err)
	}
	again, err := jose.ParseKey(first)
	if err != nil {
		t.Fatalf("written, but not read: %s: %v", first, err)
	}
	second, err := again.MarshalJSON()
	if err != nil || !bytes.Equal(first, second) {
		t.Fatalf("%s\n%s\n%v", first, second, err)
	}
	switch k.Public.(type) {
	case *ecdsa.PublicKey, ed25519.PublicKey, *rsa.PublicKey:
	default:
		t.Fatalf("public key is a %T", k.Public)
	}
	a, err := k.Thumbprint()
	if b, err2 := again.Thumbprint(); err != nil || err2 != nil || a != b {
		t.Fatalf("thumbprints %q %q %v %v", a, b, err, err2)
	}
	return first
}

func FuzzParseSet(f *testing.F) {
	f.Add([]byte(`{"keys":[]}`))
	f.Add([]byte(`{"keys":[{` + goodEC + `,"kid":"a"},{` + goodEC + `,"kid":"b"},{"kty":"new"}],"more":1}`))
	f.Add([]byte(`{"keys":[{` + goodEC + `,"kid":"a"},{` + goodEC + `,"kid":"a"}]}`))
	f.Add([]byte(`{"keys":[{"kty":"oct","k":"AAAA"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		set, err := jose.ParseSet(data)
		if err != nil {
			if !ours(err) {
				t.Fatalf("foreign error %v", err)
			}
			return
		}
		kids := make(map[string]bool)
		for _, k := range set.Keys {
			if k.KeyID != "" && kids[k.KeyID] {
				t.Fatalf("kid %q twice", k.KeyID)
			}
			kids[k.KeyID] = true
		}
		first, err := set.MarshalJSON()
		if err != nil {
			t.Fatalf("read, but not written: %v", err)
		}
		again, err := jose.ParseSet(first)
		if err != nil {
			t.Fatalf("written, but not read: %s: %v", first, err)
		}
		if second, err := again.MarshalJSON(); err != nil || !bytes.Equal(first, second) {
			t.Fatalf("%s\n%s\n%v", first, second, err)
		}
	})
}

func FuzzParseClaims(f *testing.F) {
	f.Add([]byte(`{"iss":"a","sub":"b","aud":["x","y"],"exp":3,"nbf":1,"iat":2,"jti":"\u0063","cnf":{"jkt":"z"}}`))
	f.Add([]byte(`{"exp":1e9}`))
	f.Add([]byte(`{"aud":"a","aud":"b"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := jose.ParseClaims(data)
		if err != nil {
			if !ours(err) {
				t.Fatalf("foreign error %v", err)
			}
			return
		}
		first, err := json.Marshal(c.Raw)
		if err != nil {
			t.Fatal(err)
		}
		again, err := jose.ParseClaims(first)
		if err != nil {
			t.Fatalf("written, but not read: %s: %v", first, err)
		}
		if second, err := json.Marshal(again.Raw); err != nil || !bytes.Equal(first, second) {
			t.Fatalf("%s\n%s\n%v", first, second, err)
		}
		if again.Issuer != c.Issuer || again.Subject != c.Subject || !again.Expiry.Equal(c.Expiry) || again.ID != c.ID || len(again.Audience) != len(c.Audience) {
			t.Fatalf("%+v\n%+v", c, again)
		}
		if !c.Expiry.IsZero() && (c.Expiry.Unix() <= 0 || c.Expiry.Year() >= 2200) {
			t.Fatalf("exp %s", c.Expiry)
		}
	})
}

func FuzzDecodeStrict(f *testing.F) {
	f.Add([]byte(`{"name":"a","list":[{"name":"b"}]}`))
	f.Add([]byte(`{"Name":"a"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		type node struct {
			Name string         `json:"name"`
			List []node         `json:"list"`
			Map  map[string]int `json:"map"`
		}
		var v, again node
		if err := jose.DecodeStrict(data, &v); err != nil {
			if !errors.Is(err, jose.ErrMalformed) {
				t.Fatalf("foreign error %v", err)
			}
			return
		}
		first, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if err := jose.DecodeStrict(first, &again); err != nil {
			t.Fatalf("written, but not read: %s: %v", first, err)
		}
		if second, err := json.Marshal(again); err != nil || !bytes.Equal(first, second) {
			t.Fatalf("%s\n%s\n%v", first, second, err)
		}
	})
}
