package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"math/big"
	"net/http"
	"time"

	"github.com/stella-ops/stella/internal/authority/clients"
	"github.com/stella-ops/stella/internal/jose"
)

// identity is an authenticated client and what its authentication uses up.
type identity struct {
	client *clients.Client
	// once is the single-use id of a client assertion; empty for Basic.
	once      string
	onceUntil time.Time
}

// dummyClient stands in for a client that does not exist, so that the check
// costs the same.
type dummyClient struct {
	hash [32]byte
	keys map[jose.Alg]jose.Key // one for each algorithm of an assertion
}

func newDummyClient() (dummyClient, error) {
	var d dummyClient
	if _, err := rand.Read(d.hash[:]); err != nil {
		return d, fmt.Errorf("drawing random bytes: %w", err)
	}
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return d, fmt.Errorf("making a key: %w", err)
	}
	edwards, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return d, fmt.Errorf("making a key: %w", err)
	}
	// Nobody needs the private key: any odd number costs as much to verify
	// with, and is drawn at once.
	n := make([]byte, dummyRSABits/8)
	if _, err := rand.Read(n); err != nil {
		return d, fmt.Errorf("drawing random bytes: %w", err)
	}
	n[0] |= 0x80
	n[len(n)-1] |= 1
	d.keys = map[jose.Alg]jose.Key{}
	for alg, public := range map[jose.Alg]crypto.PublicKey{
		jose.ES256: priv.Public(), jose.EdDSA: edwards,
		jose.PS256: &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: 65537},
	} {
		if d.keys[alg], err = jose.NewKey(public, "", alg); err != nil {
			return d, fmt.Errorf("describing a key: %w", err)
		}
	}
	return d, nil
}

// dummyRSABits is the most usual size of an RSA key.
const dummyRSABits = 2048

const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// authenticate finds out who asks, by exactly one method.
func (e *Endpoint) authenticate(r *http.Request, f *form, set *Settings, now time.Time) (*identity, error) {
	auth := r.Header["Authorization"]
	asserted := f.assertion != "" || f.assertionType != ""
	switch {
	case len(auth) > 1, len(auth) == 1 && (asserted || f.clientSecret != ""), asserted && f.clientSecret != "":
		return nil, refusef(codeInvalidRequest, "more than one way of client authentication")
	case len(auth) == 1:
		return e.basic(r, auth[0], f)
	case asserted:
		if f.assertionType != assertionType || f.assertion == "" {
			return nil, refusef(codeInvalidClient, "client_assertion_type must be "+assertionType)
		}
		return e.assertion(r, f, set, now)
	case f.clientSecret != "":
		return nil, refusef(codeInvalidClient, "client_secret_post is not accepted; use client_secret_basic")
	}
	return nil, refusef(codeInvalidClient, "client authentication is missing")
}

// basic checks client_secret_basic. A wrong secret, an unknown client and a
// client with another method cost the same and get the same answer.
func (e *Endpoint) basic(r *http.Request, header string, f *form) (*identity, error) {
	id, secret, ok := parseBasic(header)
	if !ok {
		return nil, refusef(codeInvalidClient, "the Authorization header is not Basic credentials")
	}
	if f.clientID != "" && f.clientID != id {
		return nil, refusef(codeInvalidRequest, "client_id differs from the authenticated client")
	}
	c, err := e.Clients.Client(r.Context(), id)
	if err != nil && !unknown(err) {
		return nil, unavailable(err)
	}
	want := &e.dummy.hash
	if c != nil && c.Method == clients.SecretBasic {
		want = &c.SecretHash
	}
	have := sha256.Sum256([]byte(secret))
	if subtle.ConstantTimeCompare(have[:], want[:]) != 1 {
		return nil, refusef(codeInvalidClient, "client authentication failed")
	}
	return &identity{client: c}, nil
}
