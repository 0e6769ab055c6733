package oauth

import (
	"fmt"
	"net/url"
	"time"
)

// DeviceCode is what a person needs to log in elsewhere (RFC 8628 section
// 3.2). UserCode has letters, digits and hyphens only; the URIs are visible
// ASCII and lie on the issuer's origin or an allowed one. None of it is a
// secret of this machine.
type DeviceCode struct {
	UserCode                string
	VerificationURI         string
	VerificationURIComplete string // with the code in it; empty when not offered
	ExpiresAt               time.Time
}

// deviceResponse is a whole answer of a device authorization endpoint.
type deviceResponse struct {
	DeviceCode
	deviceCode string
	interval   time.Duration // between polls; 1 s to 60 s
}

const (
	defaultInterval = 5 * time.Second // RFC 8628 section 3.2
	maxDeviceLife   = 30 * time.Minute
	maxUserCode     = 32
	maxURI          = 512 // what a terminal and a QR code can hold
)

// parseDeviceResponse is strict about what is there and silent about members
// that it does not know. origins are those that a person may be sent to.
func parseDeviceResponse(data []byte, sent time.Time, origins map[string]bool) (*deviceResponse, error) {
	m, err := parseMembers(data)
	if err != nil {
		return nil, err
	}
	var r deviceResponse
	var life float64
	interval := defaultInterval.Seconds()
	err = m.all(map[string]any{
		"device_code": &r.deviceCode, "user_code": &r.UserCode, "verification_uri": &r.VerificationURI,
		"verification_uri_complete": &r.VerificationURIComplete, "expires_in": &life, "interval": &interval,
	})
	if err != nil {
		return nil, err
	}
	if err := checkOpaque("device_code", r.deviceCode); err != nil {
		return nil, err
	}
	if !isUserCode(r.UserCode) {
		return nil, fmt.Errorf("user_code is not 1 to %d letters, digits and hyphens", maxUserCode)
	}
	if err := checkVisit("verification_uri", r.VerificationURI, origins); err != nil {
		return nil, err
	}
	if r.VerificationURIComplete != "" {
		if err := checkVisit("verification_uri_complete", r.VerificationURIComplete, origins); err != nil {
			return nil, err
		}
	}
	if !(life >= 1) {
		return nil, fmt.Errorf("no expires_in of at least one second")
	}
	r.ExpiresAt = sent.Add(lifeOf(life, maxDeviceLife))
	r.interval = max(time.Second, lifeOf(interval, maxPollPause))
	return &r, nil
}

func isUserCode(s string) bool {
	for _, c := range []byte(s) {
		if (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return s != "" && len(s) <= maxUserCode
}

// checkVisit accepts a URL that a person may be sent to: nothing on it can
// look like more than a URL, and it leads to whom we mean to trust.
func checkVisit(name, raw string, origins map[string]bool) error {
	if raw == "" || len(raw) > maxURI {
		return fmt.Errorf("%s does not have 1 to %d characters", name, maxURI)
	}
	for _, c := range []byte(raw) {
		if c <= 0x20 || c > 0x7e || c == '"' || c == '<' || c == '>' || c == '\\' {
			return fmt.Errorf("%s has a character that no URL has", name)
		}
	}
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.User != nil || checkScheme(u) != nil {
		return fmt.Errorf("%s is not a plain https URL", name)
	}
	if !origins[originOf(raw)] {
		return fmt.Errorf("%s leads to another origin, %s", name, originOf(raw))
	}
	return nil
}
