package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/spf13/pflag"

	"github.com/stella-ops/stella/internal/cli/config"
	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/keyring"
	"github.com/stella-ops/stella/internal/rotate"
	"github.com/stella-ops/stella/internal/ui"
)

// operatorOptions say in whose name the Authority's own APIs are called.
type operatorOptions struct{ bootstrap bool }

func (o *operatorOptions) addFlags(f *pflag.FlagSet) {
	f.BoolVar(&o.bootstrap, "bootstrap", false, "use auth.bootstrap_key instead of a token")
}

// operator calls the Authority's own APIs. Nothing is sent twice: what a call
// did that was not answered is not known.
type operator struct {
	base string
	doer rotate.Doer
	hint string // for a refusal
}

// open makes the way to the APIs that want scope: with the bootstrap key if
// that is asked for or all there is, else with a token. It opens nothing.
func (o operatorOptions) open(app *App, c *config.Config, scope string) (*operator, error) {
	if err := c.Require("authority.url"); err != nil {
		return nil, err
	}
	op := &operator{base: strings.TrimSuffix(c.Authority.URL, "/")}
	a := c.Auth
	if o.bootstrap || a.ClientID == "" && !c.HasToken() && a.BootstrapKey != "" {
		if err := c.Require("auth.bootstrap_key"); err != nil {
			return nil, err
		}
		client, err := app.Client(c)
		if err != nil {
			return nil, err
		}
		op.doer = &bootstrapDoer{client: client, header: a.BootstrapHeader, load: a.BootstrapKey.Load}
		op.hint = "check auth.bootstrap_key: stella config show --origin"
		return op, nil
	}
	if !c.HasToken() {
		if err := c.Require("auth.client_id"); err != nil {
			return nil, err
		}
	}
	want := lifecycleToken(a, []string{scope})
	if a.Audience != authorityAudience {
		want.audience = authorityAudience
	}
	s, err := openAuth(app, want)
	if err != nil {
		return nil, err
	}
	op.hint = "the token needs scope " + scope + ": stella auth login --force" + want.flags()
	op.doer = newTokenDoer(s, want)
	return op, nil
}

// call sends in as JSON (nil: nothing) and reads at most limit bytes of a
// JSON answer. what completes the sentence "… : refused".
func (o *operator) call(ctx context.Context, method, path, what string, in any, limit int64) ([]byte, error) {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("internal error: %w", err)
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, o.base+path, body)
	if err != nil {
		return nil, fault.As(fault.Config, err)
	}
	req.Header.Set("Accept", "application/json")
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := o.doer.Do(req)
	if err != nil {
		return nil, onTheWay(what, method, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, onTheWay(what, method, fmt.Errorf("reading the answer: %w", err))
	}
	if int64(len(data)) > limit {
		return nil, fault.Errorf(fault.Trust, "%s: the answer is larger than %d bytes", what, limit)
	}
	if resp.StatusCode/100 != 2 {
		return nil, o.refusal(resp, path, what, data)
	}
	return data, nil
}

// onTheWay judges an error that came without an answer.
func onTheWay(what, method string, err error) error {
	if _, ok := errors.AsType[*rotate.NoTokenError](err); ok || fault.KindOf(err) == fault.Offline {
		return fmt.Errorf("%s: %w", what, err) // nothing was sent
	}
	kind := fault.KindOf(err)
	if kind == fault.Unclassified {
		kind = fault.Transient
	}
	e := fault.Errorf(kind, "%s: %w", what, err)
	if method != http.MethodGet {
		e = e.Hint("it may have been done all the same; the Authority's audit log says")
	}
	return e
}

// refusal judges an error answer.
func (o *operator) refusal(resp *http.Response, path, what string, data []byte) error {
	kind := fault.Unclassified
	switch s := resp.StatusCode; {
	case s == http.StatusBadRequest:
		kind = fault.Input
	case s == http.StatusUnauthorized, s == http.StatusForbidden:
		kind = fault.Denied
	case s == http.StatusNotFound:
		kind = fault.NotFound
	case s == http.StatusConflict, s == http.StatusPreconditionFailed:
		kind = fault.Order
	case s >= 500, s == http.StatusTooManyRequests, s == http.StatusRequestTimeout:
		kind = fault.Transient
	case s/100 == 3:
		kind = fault.Trust
	}
	var p keyring.Problem
	var e *fault.Error
	if json.Unmarshal(data, &p) == nil && p.Error.Code != "" {
		e = fault.Errorf(kind, "%s: %.500s (trace %.80s)", what, ui.Clean(p.Error.Message), ui.Clean(p.Error.TraceID))
	} else {
		e = fault.Errorf(kind, "%s: %s answers %d without saying why", what, path, resp.StatusCode)
		if kind == fault.NotFound {
			return e.Hint("this Authority does not have that API; check authority.url: stella config show --origin")
		}
	}
	if kind == fault.Denied {
		e = e.Hint("%s", o.hint)
	}
	return e
}
