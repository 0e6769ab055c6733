package oauth

import (
	"context"
	"crypto/ecdsa"
	"net/http"
	"net/url"
	"strings"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/jose/dpop"
)

// postWithNonce posts form as the client. When the server demands a nonce it
// tries again exactly once (RFC 9449 section 8).
func (c *Client) postWithNonce(ctx context.Context, endpoint string, form url.Values, key *ecdsa.PrivateKey) (*reply, error) {
	for again := false; ; again = true {
		r, err := c.post(ctx, endpoint, form, key)
		if err != nil {
			return nil, err
		}
		fresh := c.nonces.learn(endpoint, r.header)
		if again || !fresh || r.status != http.StatusBadRequest || key == nil {
			return r, nil
		}
		if oe, err := parseOAuthError(r.body); err != nil || oe.Code != "use_dpop_nonce" {
			return r, nil
		}
	}
}

// post sends one request with a fresh assertion and a fresh proof.
func (c *Client) post(ctx context.Context, endpoint string, base url.Values, key *ecdsa.PrivateKey) (*reply, error) {
	if c.cfg.Credential == nil {
		return nil, fault.Errorf(fault.Config, "client %q has no secret and no key", c.cfg.ClientID).
			Hint("set auth.client_secret or auth.private_key (a reference, never the value)")
	}
	form := url.Values{}
	for k, v := range base {
		form[k] = v
	}
	h := http.Header{}
	who := assertionSubject{c.cfg.ClientID, c.cfg.Issuer, c.cfg.Now()}
	if err := c.cfg.Credential.apply(h, form, who); err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, fault.As(fault.Config, err)
	}
	req.Header = h
	h.Set("Content-Type", "application/x-www-form-urlencoded")
	h.Set("Accept", "application/json")
	if key != nil {
		prover, err := dpop.NewProver(key)
		if err != nil {
			return nil, err
		}
		proof, err := prover.Proof(http.MethodPost, endpoint, dpop.ProofOptions{Now: c.cfg.Now(), Nonce: c.nonces.get(endpoint)})
		if err != nil {
			return nil, err
		}
		h.Set("DPoP", proof)
	}
	return c.send(ctx, req, maxResponseBytes)
}
