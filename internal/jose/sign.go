package jose

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"fmt"

	"github.com/stella-ops/stella/internal/jose/strictjson"
)

// Signer makes JWS with one key. It takes any crypto.Signer (HSMs included) and
// writes JWS signatures, never DER. It is as safe for concurrent use as its key.
type Signer struct {
	signer crypto.Signer
	key    Key
	alg    Alg
	suite  suite
}

// NewSigner binds a private key to an algorithm and kid ("" for none). The key
// must fit the algorithm. Errors wrap ErrKey or ErrAlg.
func NewSigner(key crypto.Signer, alg Alg, kid string) (*Signer, error) {
	if key == nil {
		return nil, unusable("no key to sign with")
	}
	s, ok := suiteOf(alg)
	if !ok {
		return nil, unknownAlg(alg)
	}
	pub := key.Public()
	if p, ok := pub.(*ed25519.PublicKey); ok && p != nil {
		pub = *p
	}
	public, err := NewKey(pub, kid, alg)
	if err != nil {
		return nil, err
	}
	return &Signer{signer: key, key: public, alg: alg, suite: s}, nil
}

// Key is the signer's public JWK, with its kid, alg and use "sig".
func (s *Signer) Key() Key { return s.key }

// Sign makes a compact JWS. Header members besides alg and kid come from header
// (typ, jwk, …); kid is left out when empty. alg, kid, b64, zip and enc are
// refused there, and so is a jwk that is not a public key.
func (s *Signer) Sign(header map[string]any, payload []byte) (string, error) {
	b, err := s.Bind(header)
	if err != nil {
		return "", err
	}
	return b.Sign(payload)
}

// SignDetached makes a compact JWS with an empty payload part, b64=false and crit ["b64"] (RFC 7797).
func (s *Signer) SignDetached(header map[string]any, payload []byte) (string, error) {
	encoded, err := s.DetachedHeader(header, false)
	if err != nil {
		return "", err
	}
	b := append(make([]byte, 0, len(encoded)+1+len(payload)), encoded...)
	sig, err := s.signature(append(append(b, '.'), payload...))
	if err != nil {
		return "", err
	}
	return encoded + ".." + encode64(sig), nil
}

// Bound makes JWS that all have the same header, which is encoded once.
type Bound struct {
	signer *Signer
	header string
}

// Bind fixes the header of Sign.
func (s *Signer) Bind(header map[string]any) (*Bound, error) {
	encoded, err := s.header(header)
	if err != nil {
		return nil, err
	}
	return &Bound{s, encoded}, nil
}

// Sign makes a compact JWS.
func (b *Bound) Sign(payload []byte) (string, error) {
	out := make([]byte, 0, len(b.header)+(len(payload)+2)/3*4+2+180)
	out = append(append(out, b.header...), '.')
	out = append64(out, payload)
	sig, err := b.signer.signature(out)
	if err != nil {
		return "", err
	}
	return string(append64(append(out, '.'), sig)), nil
}

// header encodes the protected header: alg and kid, the caller's, then more.
func (s *Signer) header(from map[string]any, more ...strictjson.Member) (string, error) {
	list := make([]strictjson.Member, 0, len(from)+len(more)+2)
	add := func(name string, value any) error {
		raw, err := json.Marshal(value)
		if err == nil {
			err = strictjson.Check(raw)
		}
		if err != nil {
			return malformed("header %q: %w", name, err)
		}
		list = append(list, strictjson.Member{Name: name, Raw: raw})
		return nil
	}
	list = append(list, strictjson.Member{Name: "alg", Raw: json.RawMessage(`"` + s.alg + `"`)})
	if s.key.KeyID != "" {
		if err := add("kid", s.key.KeyID); err != nil {
			return "", err
		}
	}
	for name, value := range from {
		switch name {
		case "alg", "kid", "b64", "zip", "enc":
			return "", malformed("header %q is not the caller's to set", name)
		}
		if err := add(name, value); err != nil {
			return "", err
		}
		if name == "jwk" {
			if _, err := ParseKey(list[len(list)-1].Raw); err != nil {
				return "", fmt.Errorf("header jwk: %w", err)
			}
		}
	}
	raw, err := writeObject(append(list, more...))
	if err != nil {
		return "", err
	}
	return encode64(raw), nil
}

// signature signs the input in the form that JWS wants.
func (s *Signer) signature(input []byte) ([]byte, error) {
	if s.suite.family != familyEd {
		return s.SignDigest(digest(s.suite.hash, input))
	}
	sig, err := s.signer.Sign(rand.Reader, input, crypto.Hash(0))
	if err != nil {
		return nil, s.failed(err)
	}
	if len(sig) != ed25519.SignatureSize {
		return nil, fmt.Errorf("%w: its answer has %d bytes", ErrSigner, len(sig))
	}
	return sig, nil
}
