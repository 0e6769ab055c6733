package hashivault

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/openbao/openbao/api/v2"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/httpd"
)

const (
	maxBody    = 1 << 20          // bytes of an answer
	callWithin = 10 * time.Second // a call whose caller set no earlier deadline
	retryAfter = 50 * time.Millisecond
)

// newClient sets all that the library would otherwise take from the
// environment or from its defaults, which wait seconds between three tries,
// obey any Retry-After, follow a redirect with the token, and read bodies
// without a bound.
func newClient(u *url.URL, o Options) (*api.Client, error) {
	hc, err := httpd.Client(httpd.ClientOptions{
		Timeout: callWithin, CAFile: o.CAFile, Loopback: true, MaxBody: maxBody, NoRedirect: true, NoProxy: true,
	})
	if err != nil {
		return nil, err
	}
	client, err := api.NewClient(&api.Config{
		Address:            u.Scheme + "://" + u.Host,
		DisableEnvironment: true,
		DisableRedirects:   true,
		MaxRetries:         1,
		MinRetryWait:       retryAfter,
		MaxRetryWait:       retryAfter,
		Backoff:            func(_, _ time.Duration, _ int, _ *http.Response) time.Duration { return retryAfter },
		CheckRetry:         mayRetry,
		HttpClient:         hc,
	})
	if err != nil {
		return nil, fault.Errorf(fault.Config, "vault client: %w", err)
	}
	if o.Namespace != "" {
		client.SetNamespace(o.Namespace)
	}
	return client, nil
}

// mayRetry: all calls are idempotent, so whatever may pass is tried once more.
func mayRetry(ctx context.Context, resp *http.Response, err error) (bool, error) {
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	if err != nil {
		_, untrusted := errors.AsType[*tls.CertificateVerificationError](err)
		return !untrusted, nil
	}
	return passing(resp.StatusCode), nil
}

// call asks the engine under its mount and returns the "data" of the answer,
// nil if there is none (Vault HTTP API, "Response"). about names the key in
// errors and hints.
func (p *Provider) call(ctx context.Context, method, path, about string, in map[string]any) (json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, callWithin)
	defer cancel()
	loaded, err := p.o.Token.Load()
	if err != nil {
		return nil, fmt.Errorf("reading the vault token: %w", err)
	}
	defer loaded.Clear()
	for _, c := range loaded.Reveal() {
		if c <= ' ' || c > '~' {
			return nil, fault.Errorf(fault.Config, "the vault token %s is not one line of printable characters", p.o.Token)
		}
	}
	q := query{p: p, path: path, about: about, token: string(loaded.Reveal())}
	r := p.client.NewRequest(method, "/v1/"+p.o.Mount+"/"+path)
	r.ClientToken = q.token // not the client's, which concurrent calls share
	if in != nil {
		if err := r.SetJSONBody(in); err != nil {
			return nil, err
		}
	}
	resp, err := p.client.RawRequestWithContext(ctx, r)
	if resp == nil {
		return nil, q.network(ctx, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusNoContent {
		return nil, q.refused(resp.StatusCode, err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, q.network(ctx, err)
	}
	if len(body) == 0 {
		return nil, nil
	}
	var answer struct {
		Data json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, q.strange(err)
	}
	return answer.Data, nil
}
