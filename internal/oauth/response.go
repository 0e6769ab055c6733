package oauth

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/jose"
)

// maxTokenLife bounds expires_in; a longer life is cut to it.
const maxTokenLife = 24 * time.Hour

// members reads a JSON object without repeated names, unknown ones allowed.
type members map[string]json.RawMessage

func parseMembers(data []byte) (members, error) {
	var m members
	if err := jose.DecodeStrict(data, &m); err != nil {
		return nil, err
	}
	if m == nil {
		return nil, fmt.Errorf("not a JSON object")
	}
	return m, nil
}

// get decodes one member into v; an absent or null one is left as it was.
func (m members) get(name string, v any) error {
	raw, ok := m[name]
	if !ok || string(raw) == "null" {
		return nil
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("member %q has the wrong type", name)
	}
	return nil
}

func (m members) all(into map[string]any) error {
	for name, v := range into {
		if err := m.get(name, v); err != nil {
			return err
		}
	}
	return nil
}

// tokenResponse is a successful answer of a token endpoint (RFC 6749
// section 5.1).
type tokenResponse struct {
	accessToken string
	tokenType   string
	life        time.Duration
	scopes      []string // nil when the answer names none: all that were asked for
}

// parseTokenResponse is strict about what is there and silent about members
// it does not know.
func parseTokenResponse(data []byte) (*tokenResponse, error) {
	m, err := parseMembers(data)
	if err != nil {
		return nil, err
	}
	var r tokenResponse
	var seconds float64
	var scope *string
	err = m.all(map[string]any{
		"access_token": &r.accessToken, "token_type": &r.tokenType, "expires_in": &seconds, "scope": &scope,
	})
	if err != nil {
		return nil, err
	}
	if err := checkTokenText(r.accessToken); err != nil {
		return nil, err
	}
	if r.tokenType == "" {
		return nil, fmt.Errorf("no token_type")
	}
	if _, ok := m["expires_in"]; !ok || !(seconds >= 1) {
		return nil, fmt.Errorf("no expires_in of at least one second")
	}
	r.life = maxTokenLife
	if seconds < maxTokenLife.Seconds() {
		r.life = time.Duration(seconds) * time.Second
	}
	if scope != nil {
		r.scopes = normalScopes([]string{*scope})
	}
	return &r, nil
}

// checkTokenText accepts a b64token of RFC 6750 section 2.1, so that a token
// can never break out of a header line.
func checkTokenText(s string) error {
	if s == "" {
		return fmt.Errorf("no access_token")
	}
	if len(s) > maxTokenBytes {
		return fmt.Errorf("access_token is larger than %d bytes", maxTokenBytes)
	}
	body := strings.TrimRight(s, "=")
	for _, c := range []byte(body) {
		switch {
		case 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z', '0' <= c && c <= '9', strings.IndexByte("-._~+/", c) >= 0:
		default:
			return fmt.Errorf("access_token has a character that no token has")
		}
	}
	return nil
}

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
