package token

import (
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/stella-ops/stella/internal/authority/mint"
	"github.com/stella-ops/stella/internal/authority/wire"
	"github.com/stella-ops/stella/internal/jose/dpop"
	"github.com/stella-ops/stella/internal/optok"
)

// bind finds what the token is bound to: the key of the DPoP proof, the TLS
// certificate, both, or nothing where the client may have that. The proof is
// not used up.
func (e *Endpoint) bind(q *request, g *mint.Grant) (*dpop.Proof, error) {
	c := q.who.Client
	if cert := q.who.Certificate; cert != nil {
		g.X5T = optok.CertificateThumbprint(cert.Raw)
	} else if c.CertRequired {
		return nil, wire.Refuse(wire.InvalidRequest, "this client must present its certificate, at the token endpoint of mtls_endpoint_aliases")
	}
	proof, err := e.proof(q, g.Audience)
	if err != nil {
		return nil, err
	}
	if proof != nil {
		g.JKT = proof.JKT
	}
	return proof, nil
}

// proof checks the DPoP proof of a request, without using it up. Nil means
// that there is none and need not be.
func (e *Endpoint) proof(q *request, audience string) (*dpop.Proof, error) {
	values := q.Header["Dpop"] // the canonical form of DPoP
	if len(values) == 0 {
		if q.who.Client.DPoPRequired {
			return nil, wire.Refuse(wire.InvalidProof, "this client must send a DPoP proof")
		}
		return nil, nil
	}
	nonces := e.Nonces()
	if nonces == nil {
		return nil, wire.Unavailable(errors.New("the shared nonce secret is not known yet"))
	}
	required := q.set.RequireNonce || slices.Contains(q.set.NonceAudiences, audience)
	check := dpop.Check{
		Method: http.MethodPost, Now: q.now, MaxAge: q.set.ProofAge, MaxAhead: ahead(q.set.Skew),
		Nonce: func(nonce string) error {
			if nonce == "" && !required {
				return nil
			}
			return nonces.Check(nonce, q.now)
		},
	}
	var p *dpop.Proof
	var err error
	for _, check.URL = range q.set.URLs {
		if p, err = dpop.Verify(values, check); err == nil || errors.Is(err, dpop.ErrUseNonce) {
			break
		}
	}
	switch {
	case errors.Is(err, dpop.ErrUseNonce):
		return nil, &wire.Refusal{Code: wire.UseNonce, Description: "use the nonce of this answer's DPoP-Nonce header", Cause: err}
	case err != nil:
		return nil, &wire.Refusal{Code: wire.InvalidProof, Description: "the DPoP proof is not valid", Cause: err}
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
func (e *Endpoint) use(q *request, p *dpop.Proof) error {
	if p != nil {
		if e.Now().After(p.ReplayBy) {
			// The store was slow: it may have forgotten an earlier use by now.
			return wire.Refuse(wire.InvalidProof, "the DPoP proof has become too old")
		}
		fresh, err := e.Once.Once(q.Context(), OnceProof, p.ReplayKey, p.ReplayBy)
		if err != nil {
			return wire.Unavailable(err)
		}
		if !fresh {
			return wire.Refuse(wire.InvalidProof, "the DPoP proof has been used before")
		}
	}
	return q.who.Use(q.Context())
}
