package rotate

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/keyring"
	"github.com/stella-ops/stella/internal/ui"
)

// maxAnswer bounds an answer of the lifecycle API, in bytes.
const maxAnswer = 4 << 20

// ErrNoLifecycle means that the Authority knows no lifecycle API: it is an
// upstream one, or not an Authority.
var ErrNoLifecycle = errors.New("this Authority has no key lifecycle API")

const (
	hintURL = "something else than the Authority may be answering; check authority.url: stella config show"
	hintSee = "it may have been done; see: stella auth rotate status"
)

// call makes one request and decodes its answer. What breaks once ctx has
// ended is told as the end of ctx.
func (a *API) call(ctx context.Context, method, path string, in, out any) error {
	err := a.exchange(ctx, method, path, in, out)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		if fault.KindOf(err) != fault.KindOf(cause) {
			err = fmt.Errorf("%w: %w", cause, err)
		}
		if method != http.MethodGet {
			err = fault.Errorf(fault.KindOf(err), "%w", err).Hint(hintSee)
		}
	}
	return err
}

func (a *API) exchange(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(a.Base, "/")+path, body)
	if err != nil {
		return fault.As(fault.Config, err)
	}
	req.Header.Set("Accept", "application/json")
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := a.Doer.Do(req)
	if _, ok := errors.AsType[*NoTokenError](err); ok {
		return err // nothing was sent
	}
	if err != nil {
		return unreachable(err, method)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return unreachable(fmt.Errorf("reading the answer: %w", err), method)
	}
	if len(data) > maxAnswer {
		return fault.Errorf(fault.Trust, "the answer is larger than %d bytes", maxAnswer).Hint(hintURL)
	}
	if resp.StatusCode/100 != 2 {
		return a.refusal(resp, path, data)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fault.Errorf(fault.Trust, "the answer is not what the lifecycle API says: %w", err).Hint(hintURL)
	}
	return nil
}

// unreachable gives a failure on the way its kind.
func unreachable(err error, method string) error {
	if cert, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return fault.Errorf(fault.Trust, "the certificate of the Authority is not trusted: %w", cert.Err).
			Hint("if the Authority has a CA of its own, set authority.ca_file")
	}
	if kind := fault.KindOf(err); kind != fault.Unclassified && kind != fault.Transient {
		return err
	}
	e := fault.Errorf(fault.Transient, "%w", err)
	if len(fault.HintsOf(err)) == 0 {
		e = e.Hint("is the Authority up? see authority.url: stella config show")
	}
	if method != http.MethodGet {
		e = e.Hint(hintSee)
	}
	return e
}

func schema(found, want string) error {
	if found == want {
		return nil
	}
	return fault.Errorf(fault.Trust, "the answer has schema %.80q, not %q", found, want).
		Hint(hintURL).Hint("or this stella is too old or too new for it: stella version")
}

// refusal turns an error answer into the error that the Authority meant.
func (a *API) refusal(resp *http.Response, path string, data []byte) error {
	var p keyring.Problem
	if json.Unmarshal(data, &p) != nil || p.Error.Code == "" {
		err := mute(resp, path)
		if a.Refused != "" && fault.KindOf(err) == fault.Denied {
			err = fault.Errorf(fault.Denied, "%w", err).Hint("%s", a.Refused)
		}
		return err
	}
	d := p.Error
	d.Message, d.Next, d.TraceID = flat(d.Message), flat(d.Next), flat(d.TraceID)
	e := a.meant(resp, d)
	for _, hint := range d.Hints[:min(len(d.Hints), maxHints)] {
		if hint = flat(hint); hint != "" {
			e.Hint("%s", hint)
		}
	}
	return e
}

// meant judges a refusal by its code.
func (a *API) meant(resp *http.Response, d keyring.ProblemDetail) *fault.Error {
	text := fmt.Sprintf("%s (trace %s)", d.Message, d.TraceID)
	switch d.Code {
	case "order":
		o := &keyring.OrderError{Message: d.Message, Earliest: d.Earliest, Next: d.Next, Lagging: d.Lagging}
		return o.Fault()
	case "conflict":
		return fault.Errorf(fault.Order, "%w: %s", keyring.ErrConflict, text).
			Hint("somebody else changed the keys meanwhile; look, then decide again: stella auth rotate status")
	case "invalid":
		return fault.Errorf(fault.Input, "%s", text)
	case "not_found":
		return fault.Errorf(fault.NotFound, "%s", d.Message).Hint("see what there is: stella auth rotate status")
	case "unauthenticated":
		if a.Refused != "" {
			return fault.Errorf(fault.Denied, "%s", text).Hint("%s", a.Refused)
		}
		return fault.Errorf(fault.Denied, "%s", text).Hint("stella auth login --force")
	case "denied":
		if a.Refused != "" {
			return fault.Errorf(fault.Denied, "%s", text).Hint("%s", a.Refused)
		}
		return fault.Errorf(fault.Denied, "%s", text).
			Hint("the token needs scope %s: stella auth login --force --scope %s", keyring.ScopeManage, keyring.ScopeManage)
	case "unavailable":
		return fault.Errorf(fault.Transient, "%s", text).Hint("see which state it is in: stella auth rotate status")
	case "provider": // it refuses the Authority; nobody here can change that
		return fault.Errorf(fault.Config, "%s", text).Hint("the Authority's log has what to do under this trace id")
	case "untrusted":
		return fault.Errorf(fault.Trust, "%s", text)
	}
	return fault.Errorf(fault.Unclassified, "the Authority answered %s: %s", resp.Status, text)
}

// maxText bounds a text of the Authority, in runes, and maxHints how many
// hints of it are shown.
const (
	maxText  = 2000
	maxHints = 5
)

// flat makes a text of the Authority one line that is safe to show: a newline
// in it must not begin a line that looks like one of our own.
func flat(text string) string {
	text = ui.Clean(strings.Join(strings.Fields(text), " "))
	if runes := []rune(text); len(runes) > maxText {
		text = string(runes[:maxText]) + "…"
	}
	return text
}

// mute judges an error answer that does not say what it means: it comes from
// a proxy, or from something that is no Authority of ours.
func mute(resp *http.Response, path string) error {
	switch s := resp.StatusCode; {
	case s == http.StatusNotFound:
		return fault.Errorf(fault.NotFound, "%w: %s answers 404", ErrNoLifecycle, path).
			Hint("for an upstream Authority: stella auth rotate --key-id KID --location FILE --dry-run").
			Hint("otherwise check authority.url: stella config show")
	case s == http.StatusUnauthorized, s == http.StatusForbidden:
		return fault.Errorf(fault.Denied, "%s answers %s", path, resp.Status)
	case s >= 500, s == http.StatusTooManyRequests, s == http.StatusRequestTimeout:
		return fault.Errorf(fault.Transient, "%s answers %s", path, resp.Status)
	case s/100 == 3:
		return fault.Errorf(fault.Trust, "%s answers with a redirect to %.200q, which is not followed", path, resp.Header.Get("Location")).
			Hint(hintURL)
	}
	return fault.Errorf(fault.Unclassified, "%s answers %s", path, resp.Status)
}
