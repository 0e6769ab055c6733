package dpop

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/stella-ops/stella/internal/jose"
)

// Prover makes proofs with one key: ES256 for P-256, EdDSA for Ed25519. It is
// as safe for concurrent use as its key.
type Prover struct {
	bound *jose.Bound
	jkt   string
}

// NewProver binds a key; any crypto.Signer will do. Errors wrap jose.ErrKey.
func NewProver(key crypto.Signer) (*Prover, error) {
	if key == nil {
		return nil, fmt.Errorf("%w: no key to prove with", jose.ErrKey)
	}
	alg := jose.ES256
	switch key.Public().(type) {
	case ed25519.PublicKey, *ed25519.PublicKey:
		alg = jose.EdDSA
	}
	signer, err := jose.NewSigner(key, alg, "")
	if err != nil {
		return nil, err
	}
	public := jose.Key{Public: signer.Key().Public}
	jkt, err := public.Thumbprint()
	if err != nil {
		return nil, err
	}
	bound, err := signer.Bind(map[string]any{"typ": Type, "jwk": public})
	if err != nil {
		return nil, err
	}
	return &Prover{bound: bound, jkt: jkt}, nil
}

// Thumbprint is the jkt: the RFC 7638 SHA-256 thumbprint of the key, base64url.
func (p *Prover) Thumbprint() string { return p.jkt }

// ProofOptions are the optional parts of a proof.
type ProofOptions struct {
	Now         time.Time // zero means time.Now
	AccessToken string    // sets ath
	Nonce       string
}

// Proof makes a fresh proof for one request, with a random jti of 128 bits or
// more. The URL must be absolute; its query and fragment are left out of htu.
func (p *Prover) Proof(method, url string, o ProofOptions) (string, error) {
	if method == "" {
		return "", fmt.Errorf("making a DPoP proof: no method")
	}
	if i := strings.IndexAny(url, "?#"); i >= 0 {
		url = url[:i]
	}
	if _, err := normalURL(url); err != nil {
		return "", fmt.Errorf("making a DPoP proof: %w", err)
	}
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	claims := struct {
		ID     string `json:"jti"`
		Method string `json:"htm"`
		URL    string `json:"htu"`
		At     int64  `json:"iat"`
		Hash   string `json:"ath,omitempty"`
		Nonce  string `json:"nonce,omitempty"`
	}{ID: rand.Text(), Method: method, URL: url, At: o.Now.Unix(), Nonce: o.Nonce}
	if o.AccessToken != "" {
		claims.Hash = hash(o.AccessToken)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("making a DPoP proof: %w", err)
	}
	return p.bound.Sign(payload)
}
