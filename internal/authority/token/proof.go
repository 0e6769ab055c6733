package token

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/stella-ops/stella/internal/authority/clients"
	"github.com/stella-ops/stella/internal/jose/dpop"
)

// proof checks the DPoP proof of a request, without using it up. Nil means
// that the client may have, and gets, a bearer token.
func (e *Endpoint) proof(r *http.Request, c *clients.Client, audience string, set *Settings, now time.Time) (*dpop.Proof, error) {
	values := r.Header["Dpop"] // the canonical form of DPoP
	if len(values) == 0 {
		if c.DPoPRequired {
			return nil, refusef(codeInvalidProof, "this client must send a DPoP proof")
		}
		return nil, nil
	}
	nonces := e.Nonces()
	if nonces == nil {
		return nil, unavailable(errors.New("the shared nonce secret is not known yet"))
	}
	required := set.RequireNonce || slices.Contains(set.NonceAudiences, audience)
	p, err := dpop.Verify(values, dpop.Check{
		Method: http.MethodPost, URL: set.URL, Now: now, MaxAge: set.ProofAge, MaxAhead: ahead(set.Skew),
		Nonce: func(nonce string) error {
			if nonce == "" && !required {
				return nil
			}
			return nonces.Check(nonce, now)
		},
	})
	switch {
	case errors.Is(err, dpop.ErrUseNonce):
		return nil, &refusal{code: codeUseNonce, description: "use the nonce of this answer's DPoP-Nonce header", cause: err}
	case err != nil:
		return nil, &refusal{code: codeInvalidProof, description: "the DPoP proof is not valid", cause: err}
	}
	return p, nil
}

// ahead is a skew for dpop.Check, to which 0 means its default.
func ahead(skew time.Duration) time.Duration {
	if skew == 0 {
		return -1
	}
	return skew
}

// use uses up the assertion and the proof of a request that is otherwise good.
func (e *Endpoint) use(ctx context.Context, who *identity, p *dpop.Proof) error {
	if p != nil {
		if e.Now().After(p.ReplayBy) {
			// The store was slow: it may have forgotten an earlier use by now.
			return refusef(codeInvalidProof, "the DPoP proof has become too old")
		}
		fresh, err := e.once(ctx, OnceProof, p.ReplayKey, p.ReplayBy)
		if err != nil {
			return err
		}
		if !fresh {
			return refusef(codeInvalidProof, "the DPoP proof has been used before")
		}
	}
	if who.once != "" {
		fresh, err := e.once(ctx, OnceAssertion, who.once, who.onceUntil)
		if err != nil {
			return err
		}
		if !fresh {
			return refusef(codeInvalidClient, "the client assertion has been used before")
		}
	}
	return nil
}
