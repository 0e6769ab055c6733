package dpop_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/jose/dpop"
)

const (
	method = "POST"
	target = "https://a.example/token"
)

var now = time.Unix(1_800_000_000, 0)

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func ath(token string) string {
	sum := sha256.Sum256([]byte(token))
	return b64(sum[:])
}

// fixture is a key and what a good proof by it looks like.
type fixture struct {
	t   testing.TB
	key *ecdsa.PrivateKey
	jkt string
}

func newFixture(t testing.TB) fixture {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	jkt, err := jose.Key{Public: &key.PublicKey}.Thumbprint()
	if err != nil {
		t.Fatal(err)
	}
	return fixture{t, key, jkt}
}

func (f fixture) jwk() json.RawMessage {
	raw, err := jose.Key{Public: &f.key.PublicKey}.MarshalJSON()
	if err != nil {
		f.t.Fatal(err)
	}
	return raw
}

func (f fixture) header() map[string]any {
	return map[string]any{"typ": "dpop+jwt", "alg": "ES256", "jwk": f.jwk()}
}

func claims() map[string]any {
	return map[string]any{"jti": "id-1", "htm": method, "htu": target, "iat": now.Unix()}
}

// set copies m with some members changed; a nil value takes one away.
func set(m map[string]any, pairs ...any) map[string]any {
	out := make(map[string]any)
	for k, v := range m {
		out[k] = v
	}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] == nil {
			delete(out, pairs[i].(string))
			continue
		}
		out[pairs[i].(string)] = pairs[i+1]
	}
	return out
}

// sign writes a proof with a good ES256 signature, whatever the header says.
func (f fixture) sign(header, claims map[string]any) string {
	input := f.input(header, claims)
	sum := sha256.Sum256([]byte(input))
	r, s, err := ecdsa.Sign(rand.Reader, f.key, sum[:])
	if err != nil {
		f.t.Fatal(err)
	}
	raw := make([]byte, 64)
	r.FillBytes(raw[:32])
	s.FillBytes(raw[32:])
	return input + "." + b64(raw)
}

func (f fixture) input(header, claims map[string]any) string {
	h, err := json.Marshal(header)
	if err != nil {
		f.t.Fatal(err)
	}
	c, err := json.Marshal(claims)
	if err != nil {
		f.t.Fatal(err)
	}
	return b64(h) + "." + b64(c)
}

func (f fixture) hmac(key []byte, header, claims map[string]any) string {
	input := f.input(header, claims)
	m := hmac.New(sha256.New, key)
	m.Write([]byte(input))
	return input + "." + b64(m.Sum(nil))
}

func (f fixture) good() string { return f.sign(f.header(), claims()) }

func check() dpop.Check { return dpop.Check{Method: method, URL: target, Now: now} }
