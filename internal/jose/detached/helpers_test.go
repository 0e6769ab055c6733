package detached_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"io"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/jose/detached"
)

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func streamed() []jose.Alg {
	return []jose.Alg{jose.ES256, jose.ES384, jose.ES512, jose.PS256, jose.PS384, jose.PS512,
		jose.RS256, jose.RS384, jose.RS512, jose.EdDSA}
}

func rules() jose.Rules {
	return jose.Rules{Algs: streamed(), Critical: []string{"b64"}}
}

// keys are made once: RSA ones take long under the race detector.
var keys = sync.OnceValue(func() map[jose.Alg]crypto.Signer {
	must := func(k crypto.Signer, err error) crypto.Signer {
		if err != nil {
			panic(err)
		}
		return k
	}
	ec := func(c elliptic.Curve) crypto.Signer { k, err := ecdsa.GenerateKey(c, rand.Reader); return must(k, err) }
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	must(r, err)
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	must(ed, err)
	return map[jose.Alg]crypto.Signer{
		jose.ES256: ec(elliptic.P256()), jose.ES384: ec(elliptic.P384()), jose.ES512: ec(elliptic.P521()),
		jose.PS256: r, jose.PS384: r, jose.PS512: r, jose.RS256: r, jose.RS384: r, jose.RS512: r, jose.EdDSA: ed,
	}
})

func signer(t testing.TB, key crypto.Signer, alg jose.Alg) *jose.Signer {
	t.Helper()
	s, err := jose.NewSigner(key, alg, "k1")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func signerFor(t testing.TB, alg jose.Alg) *jose.Signer { return signer(t, keys()[alg], alg) }

type failer interface {
	Helper()
	Fatal(args ...any)
}

func sign(t failer, s *jose.Signer, payload string, enc detached.Encoding) string {
	t.Helper()
	compact, err := detached.Sign(context.Background(), s, nil, strings.NewReader(payload), enc)
	if err != nil {
		t.Fatal(err)
	}
	return compact
}

func with(key jose.Key) func(jose.Header) (jose.Key, error) {
	return func(jose.Header) (jose.Key, error) { return key, nil }
}

// verdict is that of the streaming verification over the pieces.
func verdict(compact string, key jose.Key, r jose.Rules, pieces ...string) error {
	v, err := detached.Open(compact, with(key), r)
	if err != nil {
		return err
	}
	defer v.Close()
	for _, p := range pieces {
		if _, err := io.WriteString(v, p); err != nil {
			return err
		}
	}
	return v.Verify()
}

// reference is the verdict of package jose on the whole payload.
func reference(compact string, key jose.Key, r jose.Rules, payload string) error {
	j, err := jose.ParseDetached(compact, []byte(payload), r)
	if err != nil {
		return err
	}
	_, err = j.Verify(key)
	return err
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

// opaque hides a key behind crypto.Signer alone, as an HSM does, and counts.
type opaque struct {
	inner crypto.Signer
	calls *int
}

func (o opaque) Public() crypto.PublicKey { return o.inner.Public() }
func (o opaque) Sign(r io.Reader, d []byte, opts crypto.SignerOpts) ([]byte, error) {
	*o.calls++
	return o.inner.Sign(r, d, opts)
}
