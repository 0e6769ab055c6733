package jose_test

import (
	"bytes"
	"crypto"
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stella-ops/stella/internal/jose"
)

// vectorKey reads the public half of a vector's key, of whatever kind.
func vectorKey(t *testing.T, raw json.RawMessage) jose.Key {
	t.Helper()
	var m struct{ Kty, Kid, K, D string }
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	switch {
	case m.Kty == "oct":
		if _, err := jose.ParseKey(raw); !errors.Is(err, jose.ErrKey) {
			t.Errorf("symmetric JWK parsed: %v", err)
		}
		k, err := jose.NewKey(unb64(t, m.K), m.Kid, "")
		if err != nil {
			t.Fatal(err)
		}
		return k
	case m.D != "":
		if _, err := jose.ParseKey(raw); !errors.Is(err, jose.ErrKey) {
			t.Errorf("private JWK parsed as public: %v", err)
		}
		signer, k, err := jose.ParsePrivateKey(raw)
		if err != nil {
			t.Fatal(err)
		}
		if !samePublic(signer.Public(), k.Public) {
			t.Error("the signer's public key is another")
		}
		return k
	}
	k, err := jose.ParseKey(raw)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func samePublic(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

func TestRFC7515(t *testing.T) {
	var v struct {
		Cases []struct {
			Alg jose.Alg
			JWK json.RawMessage
			JWS string
		}
	}
	readJSON(t, "testdata/rfc/rfc7515-appendix-a.json", &v)
	for _, c := range v.Cases {
		t.Run(string(c.Alg), func(t *testing.T) {
			j, err := jose.Parse(c.JWS, jose.Rules{Algs: []jose.Alg{c.Alg}})
			if err != nil {
				t.Fatal(err)
			}
			payload, err := j.Verify(vectorKey(t, c.JWK))
			if err != nil {
				t.Fatal(err)
			}
			claims, err := jose.ParseClaims(payload)
			if err != nil {
				t.Fatal(err)
			}
			if claims.Issuer != "joe" || claims.Expiry.Unix() != 1300819380 {
				t.Errorf("claims %+v", claims)
			}
		})
	}
}

func TestRFC7638And8037(t *testing.T) {
	for _, name := range []string{"rfc7638-3.1-thumbprint", "rfc8037-appendix-a"} {
		var v struct {
			JWK  json.RawMessage
			JWS  string
			Want string `json:"sha256_thumbprint"`
		}
		readJSON(t, filepath.Join("testdata/rfc", name+".json"), &v)
		k := vectorKey(t, v.JWK)
		if got, err := k.Thumbprint(); err != nil || got != v.Want {
			t.Errorf("%s: thumbprint %q, %v; want %q", name, got, err, v.Want)
		}
		if v.JWS == "" {
			continue
		}
		j, err := jose.Parse(v.JWS, jose.Rules{Algs: []jose.Alg{jose.EdDSA}})
		if err != nil {
			t.Fatal(err)
		}
		if p, err := j.Verify(k); err != nil || string(p) != "Example of Ed25519 signing" {
			t.Errorf("%s: %q, %v", name, p, err)
		}
	}
}

// cookbook is one file of RFC 7520 section 4 and its like.
type cookbook struct {
	Input struct {
		Payload string
		Key     json.RawMessage
	}
	Output struct {
		Compact string
		JSON    struct {
			Payload    string
			Signatures []struct {
				Protected string
				Header    struct{ Alg string }
				Signature string
			}
		}
	}
}

func (c cookbook) keys(t *testing.T) []json.RawMessage {
	t.Helper()
	if c.Input.Key[0] != '[' {
		return []json.RawMessage{c.Input.Key}
	}
	var many []json.RawMessage
	if err := json.Unmarshal(c.Input.Key, &many); err != nil {
		t.Fatal(err)
	}
	return many
}

func TestCookbookJWS(t *testing.T) {
	files := append(walk(t, "testdata/cookbook/jws"), "testdata/cookbook/curve25519/jws.json")
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			var c cookbook
			readJSON(t, file, &c)
			if c.Output.Compact != "" {
				c.verify(t, c.Output.Compact, c.keys(t)[0])
			}
			for i, sig := range c.Output.JSON.Signatures {
				compact := sig.Protected + "." + c.Output.JSON.Payload + "." + sig.Signature
				if sig.Header.Alg == "" {
					c.verify(t, compact, c.keys(t)[i])
					continue
				}
				// The algorithm is not protected, and never taken from elsewhere.
				if _, err := jose.Parse(compact, jose.Rules{Algs: allAlgs()}); !errors.Is(err, jose.ErrMalformed) {
					t.Errorf("signature %d with an unprotected alg: %v", i, err)
				}
			}
		})
	}
}

func (c cookbook) verify(t *testing.T, compact string, rawKey json.RawMessage) {
	t.Helper()
	rules := jose.Rules{Algs: allAlgs()}
	var j *jose.JWS
	var err error
	if strings.Contains(compact, "..") {
		j, err = jose.ParseDetached(compact, []byte(c.Input.Payload), rules)
	} else {
		j, err = jose.Parse(compact, rules)
	}
	if err != nil {
		t.Fatal(err)
	}
	payload, err := j.Verify(vectorKey(t, rawKey))
	if err != nil || string(payload) != c.Input.Payload {
		t.Errorf("payload %q, %v", payload, err)
	}
}

func TestCookbookJWK(t *testing.T) {
	for _, file := range walk(t, "testdata/cookbook/jwk") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			var raw json.RawMessage
			readJSON(t, file, &raw)
			k := vectorKey(t, raw)
			if k.KeyID == "" {
				t.Error("no kid")
			}
			if _, symmetric := k.Public.([]byte); symmetric {
				if _, err := json.Marshal(k); !errors.Is(err, jose.ErrKey) {
					t.Errorf("symmetric key written: %v", err)
				}
				return
			}
			roundTrip(t, k)
		})
	}
}

func roundTrip(t *testing.T, k jose.Key) {
	t.Helper()
	first, err := k.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	again, err := jose.ParseKey(first)
	if err != nil {
		t.Fatal(err)
	}
	second, err := again.MarshalJSON()
	if err != nil || !bytes.Equal(first, second) {
		t.Errorf("%s\n%s\n%v", first, second, err)
	}
	outer, err := json.Marshal(k)
	if err != nil || !bytes.Equal(first, outer) {
		t.Errorf("json.Marshal gives other bytes:\n%s\n%s\n%v", first, outer, err)
	}
}

func TestRFC7797(t *testing.T) {
	var c cookbook
	readJSON(t, "testdata/cookbook/rfc7797/hmac-sha2_b64_false.json", &c)
	key := vectorKey(t, c.Input.Key)
	rules := jose.Rules{Algs: []jose.Alg{jose.HS256}, Critical: []string{"b64"}}
	parts := strings.SplitN(c.Output.Compact, ".", 3)
	detached := parts[0] + ".." + parts[2]
	check := func(compact, payload string) {
		t.Helper()
		j, err := jose.ParseDetached(compact, []byte(payload), rules)
		if err != nil {
			t.Fatal(err)
		}
		if j.Header.B64 {
			t.Error("b64 is true")
		}
		if p, err := j.Verify(key); err != nil || string(p) != payload {
			t.Errorf("%q, %v", p, err)
		}
	}
	check(detached, c.Input.Payload)
	// RFC 7797 section 4.2.
	check("eyJhbGciOiJIUzI1NiIsImI2NCI6ZmFsc2UsImNyaXQiOlsiYjY0Il19..A5dxf2s96_n5FLueVuW1Z_vh161FwXZC4YLPff6dmDY", "$.02")

	if _, err := jose.Parse(c.Output.Compact, rules); !errors.Is(err, jose.ErrMalformed) {
		t.Errorf("attached unencoded payload: %v", err)
	}
	if _, err := jose.ParseDetached(detached, nil, jose.Rules{Algs: rules.Algs}); !errors.Is(err, jose.ErrCritical) {
		t.Errorf("b64 not understood by the caller: %v", err)
	}
	// The example whose header has b64 but no crit.
	readJSON(t, "testdata/cookbook/rfc7797/4.2.hmac-sha2_b64_false.json", &c)
	s := c.Output.JSON.Signatures[0]
	if _, err := jose.ParseDetached(s.Protected+".."+s.Signature, []byte("$.02"), rules); !errors.Is(err, jose.ErrCritical) {
		t.Errorf("b64 outside crit: %v", err)
	}
}

func TestJWERefused(t *testing.T) {
	for _, file := range walk(t, "testdata/cookbook/jwe") {
		var c cookbook
		readJSON(t, file, &c)
		_, err := jose.Parse(c.Output.Compact, jose.Rules{Algs: allAlgs()})
		if !errors.Is(err, jose.ErrMalformed) || !strings.Contains(err.Error(), "JWE") {
			t.Errorf("%s: %v", file, err)
		}
	}
}
