package oauth

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/stella-ops/stella/internal/durable"
	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/jose/dpop"
)

// slowDown is added to the interval for good by each slow_down (RFC 8628
// section 3.5).
const slowDown = 5 * time.Second

// maxPollPause bounds the pause between two polls while the issuer is down,
// unless it asks to be left alone for longer.
const maxPollPause = time.Minute

// Device logs a person in (RFC 8628): it asks for a code, gives it to show,
// and polls until the person has decided elsewhere, the code has expired, or
// ctx ends. The code is good for the client's key only, as are the tokens that
// come of it; they are kept for Token. An issuer that is down for a while only delays it.
// Errors are of the kinds of Token: Denied when the person refuses or the
// code expires; nothing that was cached has changed then.
func (c *Client) Device(ctx context.Context, show func(DeviceCode) error) (*Token, error) {
	if err := c.mayAsk(); err != nil {
		return nil, err
	}
	md, err := c.Rediscover(ctx)
	if err != nil {
		return nil, err
	}
	if md.DeviceEndpoint == "" {
		return nil, fault.Errorf(fault.Config, "%s does not offer logins by device authorization", md.Issuer)
	}
	if err := c.supports(md, grantDevice); err != nil {
		return nil, err
	}
	begin, err := c.endpoint(md.DeviceEndpoint, md.Aliases.DeviceEndpoint)
	if err != nil {
		return nil, err
	}
	end, err := c.endpoint(md.TokenEndpoint, md.Aliases.TokenEndpoint)
	if err != nil {
		return nil, err
	}
	if err := enter(ctx, c.tokenSem); err != nil {
		return nil, err
	}
	defer leave(c.tokenSem)
	if c.token == nil {
		if c.token, err = c.loadToken(); err != nil {
			return nil, err
		}
	}
	key, err := c.keyFor(c.token)
	if err != nil {
		return nil, err
	}
	code, err := c.deviceCode(ctx, begin, key)
	if err != nil {
		return nil, err
	}
	if err := show(code.DeviceCode); err != nil {
		return nil, err
	}
	t, err := c.poll(ctx, end, code, key)
	if err != nil {
		return nil, err
	}
	if c.cfg.CacheDir != "" {
		err = c.withEntry(ctx, func(d *durable.Dir) error { return c.saveToken(d, t) })
		if err != nil {
			return nil, err
		}
	}
	c.token = t
	return t, nil
}

// deviceCode asks for a code (RFC 8628 section 3.1).
func (c *Client) deviceCode(ctx context.Context, where string, key *ecdsa.PrivateKey) (*deviceResponse, error) {
	const what = "asking for a login code"
	return climb(ctx, c.ladder, what, where, func(ctx context.Context) (*deviceResponse, error) {
		form, sent := c.wishes(), c.cfg.Now()
		if key != nil { // as with an authorization code (RFC 9449 section 10)
			prover, err := dpop.NewProver(key)
			if err != nil {
				return nil, err
			}
			form.Set("dpop_jkt", prover.Thumbprint())
		}
		r, err := c.post(ctx, where, form, nil)
		if err != nil {
			return nil, err
		}
		if r.status != http.StatusOK {
			return nil, c.refusal(r, what)
		}
		if err := r.json(); err != nil {
			return nil, err
		}
		code, err := parseDeviceResponse(r.body, sent, c.origins)
		if err != nil {
			return nil, fault.Errorf(fault.Trust, "%s does not answer with a device authorization response: %w", where, err)
		}
		return code, nil
	})
}

// poll asks at the token endpoint until there is a token or a final answer.
func (c *Client) poll(ctx context.Context, where string, code *deviceResponse, key *ecdsa.PrivateKey) (*Token, error) {
	form := url.Values{"grant_type": {grantDevice}, "device_code": {code.deviceCode}}
	interval, pause := code.interval, code.interval
	for {
		left := code.ExpiresAt.Sub(c.cfg.Now())
		if left <= 0 {
			return nil, codeExpired(nil)
		}
		if err := c.cfg.Sleep(ctx, min(pause, left)); err != nil {
			return nil, err
		}
		t, err := c.askOnce(ctx, where, form, key, "logging in")
		if err == nil {
			return t, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if p, ok := errors.AsType[*passing](err); ok {
			// RFC 8628 section 3.5: an issuer that does not answer is asked less often.
			pause = max(min(2*pause, maxPollPause), p.after)
			c.emit(Event{Kind: EventWait, URL: where, Wait: pause, Message: err.Error()})
			continue
		}
		switch ErrorCode(err) {
		case "authorization_pending":
		case "slow_down":
			interval += slowDown
		case "expired_token":
			return nil, codeExpired(err)
		case "access_denied":
			return nil, fault.Errorf(fault.Denied, "the login was refused: %w", bare(err)).
				Hint("if that was a mistake, start again: stella auth login")
		default:
			return nil, err
		}
		pause = interval
	}
}

// bare drops the hints of err, which are for other requests.
func bare(err error) error {
	if oe, ok := errors.AsType[*oauthError](err); ok {
		return oe
	}
	return err
}

func codeExpired(err error) error {
	const hint = "start again and use the new code: stella auth login"
	if err == nil {
		return fault.Errorf(fault.Denied, "the login code expired before anybody used it").Hint(hint)
	}
	return fault.Errorf(fault.Denied, "the login code expired before anybody used it: %w", bare(err)).Hint(hint)
}
