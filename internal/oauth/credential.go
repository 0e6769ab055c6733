package oauth

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/secret"
)

// assertionLife is how long a client assertion is valid; each is used once.
const assertionLife = time.Minute

const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// Credential proves at the token endpoint who the client is. Its secret is
// loaded when it is first needed, and once.
type Credential interface {
	// Method is the name of the method in token_endpoint_auth_methods_supported.
	Method() string
	// apply adds the proof to a request that is about to be encoded.
	apply(h http.Header, form url.Values, who assertionSubject) error
}

// assertionSubject is what an assertion is about.
type assertionSubject struct {
	clientID, issuer string
	now              time.Time
}

type public struct{}

// Public is a client without a credential (method none, RFC 7591 section 2):
// it only says who it is. What it gets is bound to a key of its own.
func Public() Credential { return public{} }

func (public) Method() string { return "none" }

func (public) apply(_ http.Header, form url.Values, who assertionSubject) error {
	form.Set("client_id", who.clientID)
	return nil
}

type basic struct{ load func() (secret.Bytes, error) }

// SecretBasic is client_secret_basic (RFC 6749 section 2.3.1).
func SecretBasic(load func() (secret.Bytes, error)) Credential {
	return basic{sync.OnceValues(load)}
}

func (basic) Method() string { return "client_secret_basic" }

func (b basic) apply(h http.Header, _ url.Values, who assertionSubject) error {
	s, err := b.load()
	if err != nil {
		return fmt.Errorf("loading the client secret: %w", err)
	}
	// Both halves are form-encoded before they are joined with a colon.
	req := http.Request{Header: h}
	req.SetBasicAuth(url.QueryEscape(who.clientID), url.QueryEscape(string(s.Reveal())))
	return nil
}

type privateKeyJWT struct{ load func() (*jose.Signer, error) }

// PrivateKeyJWT is private_key_jwt (RFC 7523 section 3). The assertion is
// meant for the issuer, not for one of its endpoints, so that no other server
// can use it there.
func PrivateKeyJWT(load func() (*jose.Signer, error)) Credential {
	return privateKeyJWT{sync.OnceValues(load)}
}

func (privateKeyJWT) Method() string { return "private_key_jwt" }

func (p privateKeyJWT) apply(_ http.Header, form url.Values, who assertionSubject) error {
	signer, err := p.load()
	if err != nil {
		return fmt.Errorf("loading the client key: %w", err)
	}
	payload, err := json.Marshal(map[string]any{
		"iss": who.clientID, "sub": who.clientID, "aud": who.issuer, "jti": rand.Text(),
		"iat": who.now.Unix(), "exp": who.now.Add(assertionLife).Unix(),
	})
	if err != nil {
		return fmt.Errorf("encoding the client assertion: %w", err)
	}
	assertion, err := signer.Sign(map[string]any{"typ": "JWT"}, payload)
	if err != nil {
		return fmt.Errorf("signing the client assertion: %w", err)
	}
	form.Set("client_assertion_type", assertionType)
	form.Set("client_assertion", assertion)
	return nil
}
