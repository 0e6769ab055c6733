package hashivault

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/openbao/openbao/api/v2"

	"github.com/stella-ops/stella/internal/fault"
)

const (
	maxBody    = 1 << 20          // bytes of an answer, or of the CA file
	callWithin = 10 * time.Second // a call whose caller set no earlier deadline
	retryAfter = 50 * time.Millisecond
)

var errTooLarge = errors.New("the answer is larger than 1 MiB")

// newClient sets all that the library would otherwise take from the
// environment or from its defaults, which wait seconds between three tries,
// obey any Retry-After, follow a redirect with the token, and read bodies
// without a bound.
func newClient(u *url.URL, o Options) (*api.Client, error) {
	roots, err := readRoots(o.CAFile)
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
		HttpClient: &http.Client{
			Transport: bounded{&http.Transport{
				DialContext:            (&net.Dialer{Timeout: callWithin}).DialContext,
				TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
				MaxIdleConnsPerHost:    8,
				IdleConnTimeout:        30 * time.Second,
				MaxResponseHeaderBytes: 64 << 10,
				DisableCompression:     true,
			}},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	})
	if err != nil {
		return nil, fault.Errorf(fault.Config, "vault client: %w", err)
	}
	if o.Namespace != "" {
		client.SetNamespace(o.Namespace)
	}
	return client, nil
}

func readRoots(path string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil // the system's
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fault.Errorf(fault.Config, "reading the vault's CA file: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxBody))
	if err != nil {
		return nil, fault.Errorf(fault.Config, "reading the vault's CA file: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(data) {
		return nil, fault.Errorf(fault.Config, "the vault's CA file %q holds no PEM certificate", path)
	}
	return roots, nil
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

// bounded is a transport whose bodies end in errTooLarge beyond maxBody.
type bounded struct{ *http.Transport }

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.Transport.RoundTrip(r)
	if err == nil {
		resp.Body = &boundedBody{resp.Body, maxBody}
	}
	return resp, err
}

type boundedBody struct {
	io.ReadCloser
	left int
}

func (b *boundedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left+1)])
	if n > b.left {
		return b.left, errTooLarge
	}
	b.left -= n
	return n, err
}
