package oauth

import (
	"errors"
	"fmt"

	"github.com/stella-ops/stella/internal/fault"
)

// oauthError is an error answer (RFC 6749 section 5.2). Its text comes from
// the other side and is printed quoted and cut.
type oauthError struct {
	Code        string
	Description string
}

func (e *oauthError) Error() string {
	if e.Description == "" {
		return fmt.Sprintf("%.60q", e.Code)
	}
	return fmt.Sprintf("%.60q (%.200q)", e.Code, e.Description)
}

// ErrorCode is the error code of the answer that err tells of (RFC 6749 section
// 5.2, RFC 9449 section 5), or "" if it tells of none.
func ErrorCode(err error) string {
	if e, ok := errors.AsType[*oauthError](err); ok {
		return e.Code
	}
	return ""
}

func parseOAuthError(data []byte) (*oauthError, error) {
	m, err := parseMembers(data)
	if err != nil {
		return nil, err
	}
	var e oauthError
	if err := m.all(map[string]any{"error": &e.Code, "error_description": &e.Description}); err != nil {
		return nil, err
	}
	if e.Code == "" {
		return nil, fmt.Errorf("no error code")
	}
	return &e, nil
}

// errorText is the OAuth error of a body as an addition to a sentence.
func errorText(body []byte) string {
	if e, err := parseOAuthError(body); err == nil {
		return ": " + e.Error()
	}
	return ""
}

// refusal turns an error answer into an error of the right kind.
func (c *Client) refusal(r *reply, what string) error {
	oe, err := parseOAuthError(r.body)
	if err != nil {
		kind := fault.Unclassified
		switch r.status {
		case 401, 403:
			kind = fault.Denied
		case 404, 410:
			kind = fault.NotFound
		}
		return fault.Errorf(kind, "%s: %s answers %d without an OAuth error", what, r.url, r.status)
	}
	e := fault.Errorf(refusalKind(oe.Code), "%s: %s refuses with %w", what, r.url, oe)
	switch oe.Code {
	case "invalid_client":
		e.Hint("check auth.client_id and the client secret or key: stella config show --origin")
		c.clockHint(e)
	case "invalid_dpop_proof", "use_dpop_nonce", "invalid_grant":
		c.clockHint(e)
	case "invalid_scope", "unauthorized_client", "access_denied":
		e.Hint("client %q may not have what was asked for; ask the Authority's operator, or ask for less with --scope", c.cfg.ClientID)
	}
	return e
}

func refusalKind(code string) fault.Kind {
	switch code {
	case "invalid_request", "invalid_target", "unsupported_grant_type":
		return fault.Input
	}
	return fault.Denied
}
