package oauth

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/stella-ops/stella/internal/jose"
)

// maxTokenLife bounds expires_in, maxRefreshLife that of a refresh token; a
// longer life is cut to it.
const (
	maxTokenLife   = 24 * time.Hour
	maxRefreshLife = 10 * 365 * 24 * time.Hour
)

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

	refreshToken string        // empty: none
	refreshLife  time.Duration // zero: not said
}

// parseTokenResponse is strict about what is there and silent about members
// it does not know.
func parseTokenResponse(data []byte) (*tokenResponse, error) {
	m, err := parseMembers(data)
	if err != nil {
		return nil, err
	}
	var r tokenResponse
	var seconds, refreshSeconds float64
	var scope *string
	err = m.all(map[string]any{
		"access_token": &r.accessToken, "token_type": &r.tokenType, "expires_in": &seconds, "scope": &scope,
		"refresh_token": &r.refreshToken, "refresh_token_expires_in": &refreshSeconds,
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
	r.life = lifeOf(seconds, maxTokenLife)
	if r.refreshToken != "" {
		if err := checkOpaque("refresh_token", r.refreshToken); err != nil {
			return nil, err
		}
		if refreshSeconds >= 1 {
			r.refreshLife = lifeOf(refreshSeconds, maxRefreshLife)
		}
	}
	if scope != nil {
		r.scopes = normalScopes([]string{*scope})
	}
	return &r, nil
}

// lifeOf cuts a number of seconds to at most longest.
func lifeOf(seconds float64, longest time.Duration) time.Duration {
	if seconds < 0 {
		return 0
	}
	if seconds < longest.Seconds() {
		return time.Duration(seconds) * time.Second
	}
	return longest
}

// checkOpaque accepts what RFC 6749 appendix A allows in a refresh token, and
// RFC 8628 in a device code: visible ASCII.
func checkOpaque(name, s string) error {
	if s == "" {
		return fmt.Errorf("no %s", name)
	}
	if len(s) > maxOpaqueBytes {
		return fmt.Errorf("%s is larger than %d bytes", name, maxOpaqueBytes)
	}
	for _, c := range []byte(s) {
		if c < 0x20 || c > 0x7e {
			return fmt.Errorf("%s has a character that is not visible ASCII", name)
		}
	}
	return nil
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
