package jose_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stella-ops/stella/internal/jose"
)

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func unb64(t testing.TB, s string) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// opaque hides a key behind crypto.Signer alone, as an HSM does.
type opaque struct{ inner crypto.Signer }

func (o opaque) Public() crypto.PublicKey { return o.inner.Public() }
func (o opaque) Sign(r io.Reader, d []byte, opts crypto.SignerOpts) ([]byte, error) {
	return o.inner.Sign(r, d, opts)
}

func ecKey(t testing.TB, c elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func edKey(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	_, k, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// rsaKey is made once: it takes long under the race detector.
var rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

func keyFor(t testing.TB, alg jose.Alg) crypto.Signer {
	t.Helper()
	switch alg {
	case jose.ES256:
		return ecKey(t, elliptic.P256())
	case jose.ES384:
		return ecKey(t, elliptic.P384())
	case jose.ES512:
		return ecKey(t, elliptic.P521())
	case jose.EdDSA:
		return edKey(t)
	}
	return rsaKey()
}

func asymmetric() []jose.Alg {
	return []jose.Alg{jose.ES256, jose.ES384, jose.ES512, jose.PS256, jose.PS384, jose.PS512,
		jose.RS256, jose.RS384, jose.RS512, jose.EdDSA}
}

func allAlgs() []jose.Alg { return append(asymmetric(), jose.HS256, jose.HS384, jose.HS512) }

func newSigner(t testing.TB, key crypto.Signer, alg jose.Alg, kid string) *jose.Signer {
	t.Helper()
	s, err := jose.NewSigner(key, alg, kid)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// forge writes a compact JWS with any header text at all. The signature is a
// good ES256 one over whatever the input turns out to be.
func forge(t testing.TB, key *ecdsa.PrivateKey, header string, payload []byte) string {
	t.Helper()
	return forgeRaw(t, key, b64([]byte(header)), b64(payload))
}

func forgeRaw(t testing.TB, key *ecdsa.PrivateKey, header, payload string) string {
	t.Helper()
	return header + "." + payload + "." + b64(rawES256(t, key, header+"."+payload))
}

func rawES256(t testing.TB, key *ecdsa.PrivateKey, input string) []byte {
	t.Helper()
	sum := sha256.Sum256([]byte(input))
	r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	raw := make([]byte, 64)
	r.FillBytes(raw[:32])
	s.FillBytes(raw[32:])
	return raw
}

func forgeHS256(key []byte, header string, payload []byte) string {
	input := b64([]byte(header)) + "." + b64(payload)
	m := hmac.New(sha256.New, key)
	m.Write([]byte(input))
	return input + "." + b64(m.Sum(nil))
}

func public(t testing.TB, pub crypto.PublicKey) jose.Key {
	t.Helper()
	k, err := jose.NewKey(pub, "", "")
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func readJSON(t testing.TB, path string, v any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, v); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// walk returns every JSON file of a folder; an empty folder is a failure.
func walk(t testing.TB, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no vectors in %s: %v", dir, err)
	}
	return files
}
