package hashivault

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"unicode"

	"github.com/openbao/openbao/api/v2"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/httpd"
)

const maxText = 200 // characters of an answer that an error repeats

// query is one call, for what its errors say.
type query struct {
	p           *Provider
	path, about string
	token       string
}

// statusError is an answer that refuses, in the server's words.
type statusError struct {
	status int
	text   string
}

func (e *statusError) Error() string {
	if e.text == "" {
		return fmt.Sprintf("status %d", e.status)
	}
	return fmt.Sprintf("status %d: %s", e.status, e.text)
}

// passing statuses are those of an outage: sealed and standing by are 503, and
// 412 is a standby that lags behind.
func passing(status int) bool {
	return status >= 500 || status == http.StatusTooManyRequests || status == http.StatusPreconditionFailed
}

// network explains a call without a whole answer.
func (q query) network(ctx context.Context, err error) error {
	at := "asking the vault at " + q.p.o.Address
	if ctx.Err() != nil {
		err := fmt.Errorf("%s: %w", at, ctx.Err())
		if errors.Is(err, context.DeadlineExceeded) {
			return fault.As(fault.Transient, err)
		}
		return err
	}
	if errors.Is(err, httpd.ErrTooLarge) {
		return q.strange(err)
	}
	// The text of such an error can quote the answer, so it is not wrapped.
	text := clip(err.Error(), q.token)
	if _, untrusted := errors.AsType[*tls.CertificateVerificationError](err); untrusted {
		return fault.Errorf(fault.Trust, "%s: %s", at, text).
			Hint("set signing.hashivault.caFile to the PEM of the authority that issued the server's certificate")
	}
	return fault.Errorf(fault.Transient, "%s: %s", at, text)
}

// strange explains an answer that is not one of the API.
func (q query) strange(err error) error {
	return fault.Errorf(fault.Config, "the answer of %s about %s is not the transit engine's: %s", q.p.o.Address, q.about, clip(err.Error(), q.token)).
		Hint("check signing.hashivault.address and signing.hashivault.mount")
}

// refused explains an answer that is neither 200 nor 204; err is what the
// library made of its body.
func (q query) refused(status int, err error) error {
	e := &statusError{status: status}
	reply, read := errors.AsType[*api.ResponseError](err)
	if read {
		e.text = clip(strings.Join(reply.Errors, "; "), q.token)
	}
	switch {
	case status == http.StatusForbidden || status == http.StatusUnauthorized:
		return q.denied(e)
	case status == http.StatusNotFound && read && reply.Errors != nil && len(reply.Errors) == 0:
		return fmt.Errorf("vault key %s: %w", q.about, fs.ErrNotExist)
	case status == http.StatusNotFound:
		// With words in it, it is about the route: that is no missing key.
		return fault.Errorf(fault.Config, "there is no transit engine at %q: %w", q.p.o.Mount, e).
			Hint("vault secrets enable -path=%s transit", q.p.o.Mount)
	case passing(status):
		return fault.Errorf(fault.Transient, "the vault at %s cannot answer about key %s now: %w", q.p.o.Address, q.about, e)
	case status >= 300 && status < 400:
		return fault.Errorf(fault.Config, "the vault at %s sends us elsewhere, which is not followed: %w", q.p.o.Address, e).
			Hint("set signing.hashivault.address to the active node or to the cluster's load balancer")
	}
	return fault.Errorf(fault.Config, "the vault at %s refuses %s: %w", q.p.o.Address, q.path, e)
}

func (q query) denied(e *statusError) error {
	key := q.p.o.Mount + "/keys/" + q.about
	return fault.Errorf(fault.Denied, "the vault at %s does not permit %s: %w", q.p.o.Address, q.path, e).
		Hint("the token may have expired: vault token lookup").
		Hint(`its policy needs: path %q { capabilities = ["read", "update", "delete"] }`, key).
		Hint(`and: path %q { capabilities = ["update"] }`, key+"/config").
		Hint(`and: path %q { capabilities = ["update"] }`, q.p.o.Mount+"/sign/"+q.about+"/sha2-256")
}

// refusedBy reports whether err is an answer of one of the statuses.
func refusedBy(err error, statuses ...int) bool {
	e, ok := errors.AsType[*statusError](err)
	if !ok {
		return false
	}
	for _, s := range statuses {
		if e.status == s {
			return true
		}
	}
	return false
}

// clip makes one short printable line of a server's words, without the token
// if they echo it.
func clip(text, token string) string {
	if token != "" {
		text = strings.ReplaceAll(text, token, "[token]")
	}
	var b strings.Builder
	n, space := 0, false
	for _, c := range text {
		if c == unicode.ReplacementChar || !unicode.IsPrint(c) || c == ' ' {
			space = true
			continue
		}
		if n >= maxText {
			return b.String() + "…"
		}
		if space && n > 0 {
			b.WriteByte(' ')
			n++
		}
		space = false
		b.WriteRune(c)
		n++
	}
	return b.String()
}
