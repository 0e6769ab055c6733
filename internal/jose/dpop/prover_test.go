package dpop_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	gojose "github.com/go-jose/go-jose/v4"

	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/jose/dpop"
)

func TestRFC9449Examples(t *testing.T) {
	data, err := os.ReadFile("testdata/rfc9449-examples.json")
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		JKT    string
		Token  string `json:"access_token"`
		Ath    string
		Proofs []struct {
			Name    string
			Proof   string
			Payload struct {
				Jti, Htm, Htu, Ath string
				Iat                int64
			}
		}
	}
	if err := json.Unmarshal(data, &v); err != nil || len(v.Proofs) == 0 {
		t.Fatal(err)
	}
	if ath(v.Token) != v.Ath {
		t.Error("ath of the example")
	}
	for _, p := range v.Proofs {
		c := dpop.Check{Method: p.Payload.Htm, URL: p.Payload.Htu, Now: time.Unix(p.Payload.Iat, 0), JKT: v.JKT}
		if p.Payload.Ath != "" {
			c.AccessToken = v.Token
		}
		got, err := dpop.Verify([]string{p.Proof}, c)
		if err != nil || got.JKT != v.JKT || got.ID != p.Payload.Jti || got.IssuedAt.Unix() != p.Payload.Iat {
			t.Errorf("%s: %+v, %v", p.Name, got, err)
		}
		c.Now = c.Now.Add(31 * time.Second)
		if _, err := dpop.Verify([]string{p.Proof}, c); !errors.Is(err, dpop.ErrInvalidProof) {
			t.Errorf("%s half a minute later: %v", p.Name, err)
		}
	}
}

// opaque hides a key behind crypto.Signer alone, as an HSM does.
type opaque struct{ inner crypto.Signer }

func (o opaque) Public() crypto.PublicKey { return o.inner.Public() }
func (o opaque) Sign(r io.Reader, d []byte, opts crypto.SignerOpts) ([]byte, error) {
	return o.inner.Sign(r, d, opts)
}

func TestProver(t *testing.T) {
	f := newFixture(t)
	p, err := dpop.NewProver(opaque{f.key})
	if err != nil {
		t.Fatal(err)
	}
	if p.Thumbprint() != f.jkt {
		t.Error("thumbprint")
	}
	seen := make(map[string]bool)
	for range 100 {
		proof, err := p.Proof(method, target+"?secret=1#x", dpop.ProofOptions{Now: now, AccessToken: "tok", Nonce: "n<1>"})
		if err != nil {
			t.Fatal(err)
		}
		c := check()
		c.AccessToken, c.JKT = "tok", f.jkt
		var nonce string
		c.Nonce = func(n string) error { nonce = n; return nil }
		got, err := dpop.Verify([]string{proof}, c)
		if err != nil || nonce != "n<1>" || got.Key.Alg != "" || got.Key.KeyID != "" {
			t.Fatalf("%+v, %v, nonce %q", got, err, nonce)
		}
		if seen[got.ID] || len(got.ID) < 22 {
			t.Errorf("jti %q", got.ID)
		}
		seen[got.ID] = true
		if j, err := gojose.ParseSignedCompact(proof, []gojose.SignatureAlgorithm{gojose.ES256}); err != nil {
			t.Error(err)
		} else if payload, err := j.Verify(j.Signatures[0].Protected.JSONWebKey); err != nil || strings.Contains(string(payload), "secret") {
			t.Errorf("%s, %v", payload, err)
		}
	}
	plain, err := p.Proof("GET", target, dpop.ProofOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dpop.Verify([]string{plain}, dpop.Check{Method: "GET", URL: target, Now: time.Now()}); err != nil {
		t.Error(err)
	}
}

func TestProverRefuses(t *testing.T) {
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	big, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []crypto.Signer{nil, p384, big} {
		if _, err := dpop.NewProver(key); !errors.Is(err, jose.ErrKey) {
			t.Errorf("%T: %v", key, err)
		}
	}
	p, err := dpop.NewProver(newFixture(t).key)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range [][2]string{{"", target}, {"GET", "/relative"}, {"GET", "ftp://a.example/"}, {"GET", "https://u@a.example/"}, {"GET", ""}} {
		if _, err := p.Proof(r[0], r[1], dpop.ProofOptions{}); err == nil {
			t.Errorf("%q accepted", r)
		}
	}
}
