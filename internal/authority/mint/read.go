package mint

import (
	"context"
	"errors"
	"time"

	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/jose/jwks"
)

// ErrNotOurs means that a text is none of this Authority's access tokens, or
// one that is not valid any more.
var ErrNotOurs = errors.New("no valid access token of this Authority")

// Reader reads back what a Minter made, whatever its audience and binding:
// what the text says is true, whether its bearer may use it is not decided.
type Reader struct {
	Issuer string
	// Keys finds the key that signed a token; jwks.ErrUnknownKey means that
	// there is none.
	Keys func(ctx context.Context, kid string) (jose.Key, error)
	Skew time.Duration
	Now  func() time.Time
}

// Read verifies a token. Errors wrap ErrNotOurs, or say that it cannot be told
// now.
func (r *Reader) Read(ctx context.Context, token string) (claims *jose.Claims, kid string, err error) {
	none := func(cause error) (*jose.Claims, string, error) { return nil, "", errors.Join(ErrNotOurs, cause) }
	j, err := jose.Parse(token, jose.Rules{Algs: []jose.Alg{jose.ES256}, Types: []string{typ}})
	if err != nil {
		return none(err)
	}
	key, err := r.Keys(ctx, j.Header.KeyID)
	if errors.Is(err, jwks.ErrUnknownKey) {
		return none(err)
	}
	if err != nil {
		return nil, "", err
	}
	payload, err := j.Verify(key)
	if err != nil {
		return none(err)
	}
	c, err := jose.ParseClaims(payload)
	if err == nil {
		err = c.ValidAt(r.Now(), r.Skew)
	}
	if err != nil || c.Issuer != r.Issuer || c.ID == "" {
		return none(err)
	}
	return c, j.Header.KeyID, nil
}
