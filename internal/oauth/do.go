package oauth

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/jose/dpop"
)

const freshFor = 5 * time.Second

// Do sends req with the client's token, and with a proof for this request
// when the token is bound (RFC 9449 section 7). A demand for a nonce is met
// with exactly one more attempt, and so is the refusal of a token that was
// fetched before this call: a new one is fetched first. Redirects are returned, not
// followed. The URL must be https, or http on loopback.
//
// req.Body is replayed; without req.GetBody it is read into memory, 8 MiB at
// most. Errors are of the kinds of Token; a failure to reach the server is
// Transient, once: whether to repeat a request is its owner's decision.
// The caller closes the body of the response.
func (c *Client) Do(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	if c.cfg.Offline {
		return nil, offlineError(req.URL.Redacted())
	}
	if err := checkScheme(req.URL); err != nil {
		return nil, err
	}
	if err := replayable(req); err != nil {
		return nil, err
	}
	t, err := c.Token(ctx)
	if err != nil {
		return nil, err
	}
	// A token that was made a moment ago will not get better by making another.
	nonceTried, tokenTried := false, !t.FromCache && c.cfg.Now().Sub(t.IssuedAt) < freshFor
	for {
		resp, err := c.doOnce(ctx, req, t)
		if err != nil {
			return nil, err
		}
		fresh := c.nonces.learn(req.URL.String(), resp.Header)
		if resp.StatusCode != http.StatusUnauthorized {
			return resp, nil
		}
		code := challengeError(resp.Header)
		switch {
		case code == "use_dpop_nonce" && fresh && !nonceTried && t.proof != nil:
			nonceTried = true
		case code == "invalid_token" && !tokenTried && c.cfg.StaticToken.Empty():
			tokenTried = true
			next, err := c.obtain(ctx, t)
			if err != nil {
				return resp, nil // the refusal is the better answer
			}
			t = next
		default:
			return resp, nil
		}
		drain(resp)
	}
}

// RoundTrip implements http.RoundTripper on a copy of req.
func (c *Client) RoundTrip(req *http.Request) (*http.Response, error) {
	return c.Do(req.Clone(req.Context()))
}

func (c *Client) doOnce(ctx context.Context, req *http.Request, t *Token) (*http.Response, error) {
	out := req.Clone(ctx)
	if req.GetBody != nil {
		body, err := req.GetBody()
		if err != nil {
			return nil, fault.Errorf(fault.Unclassified, "replaying the body for %s: %w", req.URL.Redacted(), err)
		}
		out.Body = body
	}
	out.Header.Set("Authorization", t.Type+" "+string(t.AccessToken.Reveal()))
	out.Header.Del("DPoP")
	if t.proof != nil {
		proof, err := t.proof.Proof(out.Method, out.URL.String(), dpop.ProofOptions{
			Now: c.cfg.Now(), AccessToken: string(t.AccessToken.Reveal()), Nonce: c.nonces.get(out.URL.String()),
		})
		if err != nil {
			return nil, fault.Errorf(fault.Unclassified, "making a proof for %s: %w", req.URL.Redacted(), err)
		}
		out.Header.Set("DPoP", proof)
	}
	sent := c.cfg.Now()
	resp, err := c.http.Do(out)
	if err != nil {
		err = transportError(ctx, ctx, c, req.URL.Redacted(), err)
		if _, ok := err.(*passing); ok {
			return nil, fault.Errorf(fault.Transient, "asking %s: %w", req.URL.Redacted(), err).
				Hint("check that the server runs and is reachable: curl -sSI %s", req.URL.Redacted())
		}
		return nil, err
	}
	c.watchClock(req.URL.Redacted(), resp.Header, sent, c.cfg.Now())
	return resp, nil
}

// replayable makes sure that the body can be sent twice.
func replayable(req *http.Request) error {
	if req.Method == "" {
		req.Method = http.MethodGet
	}
	if req.Header == nil {
		req.Header = http.Header{}
	}
	if req.Body == nil || req.Body == http.NoBody || req.GetBody != nil {
		return nil
	}
	defer req.Body.Close()
	data, err := io.ReadAll(io.LimitReader(req.Body, maxReplayBytes+1))
	if err != nil {
		return fault.Errorf(fault.Unclassified, "reading the body for %s: %w", req.URL.Redacted(), err)
	}
	if len(data) > maxReplayBytes {
		return fault.Errorf(fault.Input, "the body for %s is larger than %d bytes", req.URL.Redacted(), maxReplayBytes)
	}
	req.ContentLength = int64(len(data))
	req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
	return nil
}

// challengeError finds the error code in WWW-Authenticate challenges (RFC 6750
// section 3, RFC 9449 section 7.1).
func challengeError(h http.Header) string {
	for _, v := range h.Values("WWW-Authenticate") {
		_, rest, ok := strings.Cut(v, `error="`)
		if !ok {
			continue
		}
		if code, _, ok := strings.Cut(rest, `"`); ok {
			return code
		}
	}
	return ""
}

// drain lets the connection be used again.
func drain(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
	_ = resp.Body.Close()
}
