package httpget

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/objstore"
)

// Refusal is the error of an answer without an object.
func (c *Client) Refusal(a Answer) error {
	if c.Explain != nil {
		if err := c.Explain(a); err != nil {
			return err
		}
	}
	status := fmt.Errorf("HTTP %d", a.Status)
	fail := func(why error) *fault.Error { return objstore.Fail(a.Op, c.Place, a.Key, why, status) }
	switch code := a.Status; {
	case code == http.StatusNotFound || code == http.StatusGone:
		return fail(objstore.ErrNotFound)
	case code == http.StatusUnauthorized:
		return fail(objstore.ErrDenied).Hint("the server wants credentials, or others than it got: check what is configured for %s", c.Place)
	case code == http.StatusForbidden:
		return fail(objstore.ErrDenied).Hint("check that the configured account may read %s; some servers answer so for objects that do not exist, too", c.Place)
	case Passing(code):
		return fail(objstore.ErrTransient)
	case code >= 300 && code < 400 && code != http.StatusNotModified:
		return objstore.Fail(a.Op, c.Place, a.Key, objstore.ErrRedirect, fmt.Errorf("HTTP %d to %q", code, target(a.Header.Get("Location")))).
			Hint("if that is where the objects live now, configure that place")
	}
	return fault.Errorf(fault.Unclassified, "%s: unexpected answer: %w", objstore.Naming(a.Op, c.Place, a.Key), status)
}

// Passing tells a status that another try may not meet.
func Passing(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported:
		return false
	}
	return status >= 500
}

// target is where a redirect points, without what may be a secret, bounded.
func target(location string) string {
	u, err := url.Parse(location)
	if err != nil || location == "" {
		return "nowhere"
	}
	u.User, u.RawQuery, u.Fragment, u.RawFragment = nil, "", "", ""
	s := u.String()
	if len(s) > 200 {
		s = strings.ToValidUTF8(s[:200], "") + "…"
	}
	return s
}

// Cut makes the error of an exchange that ended without a whole answer, while
// the caller's context was alive. A certificate that does not verify is of
// kind Trust and no ErrTransient: trying again does not help.
func Cut(op objstore.Op, place, key string, err error) error {
	var unverified *tls.CertificateVerificationError
	if errors.As(err, &unverified) {
		return fault.Errorf(fault.Trust, "%s: the server's certificate does not verify: %w", objstore.Naming(op, place, key), err).
			Hint("if the server has a private CA, name the CA's file in the configuration")
	}
	var self *fault.Error
	if errors.As(err, &self) {
		return fmt.Errorf("%s: %w", objstore.Naming(op, place, key), err)
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		// A limit of ours, not the caller's: must not look like an interruption.
		err = errors.New("timed out")
	}
	f := objstore.Fail(op, place, key, objstore.ErrTransient, err)
	var dns *net.DNSError
	if errors.As(err, &dns) && dns.IsNotFound {
		f.Hint("no such host: check the name in %s", place)
	}
	return f
}
