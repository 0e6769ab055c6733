package clientauth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/stella-ops/stella/internal/authority/clients"
	"github.com/stella-ops/stella/internal/authority/wire"
	"github.com/stella-ops/stella/internal/jose"
)

// MaxLife is how far ahead an assertion may expire.
const MaxLife = 5 * time.Minute

// maxJTI bounds the jti of an assertion in bytes.
const maxJTI = 256

// assertion checks private_key_jwt (RFC 7523 section 3). The assertion is not
// yet used up when it returns.
func (q *query) assertion(compact, named string, set *Settings, now time.Time) (*Identity, error) {
	j, err := jose.Parse(compact, jose.Rules{Algs: []jose.Alg{jose.ES256, jose.EdDSA, jose.PS256}})
	if err != nil || !assertionTyp(j.Header.Type) {
		return nil, badAssertion(err, "it is not a signed JWT of an accepted algorithm and type")
	}
	// The subject names the client whose keys decide; nothing else of the
	// payload is believed before the signature is.
	claims, err := jose.ParseClaims(j.UnverifiedPayload())
	if err != nil || claims.Subject == "" {
		return nil, badAssertion(err, "its claims are malformed")
	}
	if named != "" && named != claims.Subject {
		return nil, wire.Refuse(wire.InvalidRequest, "client_id differs from the subject of the assertion")
	}
	c, err := q.find(claims.Subject)
	if err != nil {
		return nil, err
	}
	key, ok := q.a.assertionKey(c, j.Header)
	if _, err := j.Verify(key); err != nil || !ok {
		return nil, badAssertion(err, "client authentication failed")
	}
	if why := judgeAssertion(claims, set, now); why != "" {
		return nil, badAssertion(nil, why)
	}
	return &Identity{Client: c, once: onceID(c.ID, claims.ID), onceUntil: claims.Expiry.Add(set.Skew)}, nil
}

// judgeAssertion returns why verified claims are not acceptable, or "".
func judgeAssertion(c *jose.Claims, set *Settings, now time.Time) string {
	switch {
	case c.Issuer != c.Subject:
		return "iss and sub must both be the client id"
	case len(c.Audience) != 1 || !strings.HasPrefix(string(c.Raw["aud"]), `"`):
		return "aud must be one string"
	case !slices.Contains(set.Audiences, c.Audience[0]):
		return "aud must be the issuer or the token endpoint"
	case c.ID == "" || len(c.ID) > maxJTI:
		return "jti must have 1 to 256 bytes"
	case c.Expiry.IsZero():
		return "exp is missing"
	case c.Expiry.After(now.Add(MaxLife + set.Skew)):
		return "exp is more than five minutes ahead"
	}
	if err := c.ValidAt(now, set.Skew); err != nil {
		return "it is expired or not yet valid"
	}
	return ""
}

// assertionTyp accepts no typ, JWT, and the explicit type that the revision of
// RFC 7523 proposes; so neither a DPoP proof nor an access token will do.
func assertionTyp(typ string) bool {
	switch strings.TrimPrefix(strings.ToLower(typ), "application/") {
	case "", "jwt", "client-authentication+jwt":
		return true
	}
	return false
}

// assertionKey finds the key to verify an assertion with. Where there is none
// of that name and algorithm, a key of nobody stands in, so that it costs the
// same; ok is false then.
func (a *Authenticator) assertionKey(c *clients.Client, h jose.Header) (key jose.Key, ok bool) {
	key, ok = namedKey(c, h.KeyID)
	if !ok || !signs(key, h.Alg) {
		return a.nobody.keys[h.Alg], false
	}
	return key, true
}

// signs reports whether key is of the type that alg takes; Verify looks
// closer.
func signs(key jose.Key, alg jose.Alg) bool {
	switch key.Public.(type) {
	case *ecdsa.PublicKey:
		return alg == jose.ES256
	case ed25519.PublicKey:
		return alg == jose.EdDSA
	case *rsa.PublicKey:
		return alg == jose.PS256
	}
	return false
}

// namedKey finds the key that an assertion names, or the only one there is
// when it names none.
func namedKey(c *clients.Client, kid string) (jose.Key, bool) {
	if c == nil || c.Method != clients.PrivateKeyJWT {
		return jose.Key{}, false
	}
	if kid == "" && len(c.Keys.Keys) == 1 {
		return c.Keys.Keys[0], true
	}
	return c.Keys.Key(kid)
}

// onceID binds a jti to its client; fixed length whatever the jti.
func onceID(client, jti string) string {
	sum := sha256.Sum256([]byte("stella-authority/assertion-jti/v1\x00" + client + "\x00" + jti))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func badAssertion(cause error, why string) error {
	if cause == nil {
		cause = errors.New(why)
	}
	return &wire.Refusal{Code: wire.InvalidClient, Description: "client assertion: " + why, Cause: cause}
}
