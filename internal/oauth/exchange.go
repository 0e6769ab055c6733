package oauth

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/stella-ops/stella/internal/fault"
)

// reply is one answer, read whole within a bound.
type reply struct {
	url    string
	status int
	header http.Header
	body   []byte
}

// send sends req once and reads at most limit bytes of the answer. A failure
// on the way, 408, 429 and 5xx are passing; an untrusted certificate, a
// redirect and an oversized body are of kind Trust. Other statuses are the
// caller's to judge.
func (c *Client) send(ctx context.Context, req *http.Request, limit int64) (*reply, error) {
	if c.cfg.Offline {
		return nil, offlineError(req.URL.Redacted())
	}
	actx, cancel := context.WithTimeout(ctx, c.cfg.AttemptTimeout)
	defer cancel()
	url := req.URL.Redacted()
	sent := c.cfg.Now()
	resp, err := c.http.Do(req.WithContext(actx))
	if err != nil {
		return nil, transportError(ctx, actx, c, url, err)
	}
	defer resp.Body.Close()
	c.watchClock(url, resp.Header, sent, c.cfg.Now())
	if resp.StatusCode/100 == 3 {
		return nil, fault.Errorf(fault.Trust, "%s answers with a redirect (status %d) to %.200q, which is not followed",
			url, resp.StatusCode, resp.Header.Get("Location")).
			Hint("set authority.url to the Authority itself: stella config show --origin")
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, transportError(ctx, actx, c, url, fmt.Errorf("reading the answer: %w", err))
	}
	if int64(len(body)) > limit {
		return nil, fault.Errorf(fault.Trust, "the answer of %s is larger than %d bytes", url, limit)
	}
	if s := resp.StatusCode; s >= 500 || s == http.StatusTooManyRequests || s == http.StatusRequestTimeout {
		return nil, &passing{
			err:   fmt.Errorf("%s answers %d %s%s", url, s, http.StatusText(s), errorText(body)),
			after: retryAfter(resp.Header, c.cfg.Now()), answered: true,
		}
	}
	return &reply{url: url, status: resp.StatusCode, header: resp.Header, body: body}, nil
}

func transportError(ctx, actx context.Context, c *Client, url string, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var cert *tls.CertificateVerificationError
	var known *fault.Error
	switch {
	case errors.As(err, &known): // the transport refused by itself
		return known
	case errors.As(err, &cert):
		return fault.Errorf(fault.Trust, "the certificate of %s is not trusted: %w", url, cert.Err).
			Hint("if the Authority has a CA of its own, set authority.ca_file")
	case actx.Err() != nil:
		return &passing{err: fmt.Errorf("%s: no whole answer within %s", url, c.cfg.AttemptTimeout)}
	}
	return &passing{err: err}
}

// json checks that the answer says it is JSON.
func (r *reply) json() error {
	mt, _, err := mime.ParseMediaType(r.header.Get("Content-Type"))
	if err == nil && (mt == "application/json" || strings.HasSuffix(mt, "+json")) {
		return nil
	}
	return fault.Errorf(fault.Trust, "%s answers %d with content type %.80q instead of JSON",
		r.url, r.status, r.header.Get("Content-Type")).
		Hint("something else than the Authority may be answering; check authority.url: stella config show --origin")
}

func offlineError(url string) error {
	return fault.Errorf(fault.Offline, "%s is not asked: offline mode is on", url).
		Hint("leave out --offline, or unset STELLA_OFFLINE")
}
