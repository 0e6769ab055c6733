package jwks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/jose"
)

// Bounds of one fetch.
const (
	fetchTimeout = 5 * time.Second
	maxRedirects = 3
	maxETagBytes = 1 << 10
)

// Fetched is one answer of a JWKS endpoint as a checker sees it.
type Fetched struct {
	Set      jose.Set
	Raw      []byte
	MaxAge   time.Duration // from Cache-Control; -1 when absent
	Age      time.Duration // Age header
	NoStore  bool          // no-store or no-cache
	ETag     string
	Date     time.Time // zero when absent
	Warnings []string  // what a careful publisher would do otherwise; the answer is usable all the same
}

// Fetch gets a set once, without cache or retry, in at most 5 s and 256 KiB.
// Redirects are followed only within the host and never to plain HTTP. Errors
// have fault kinds: Transient when the endpoint is down, slow or answers with
// 408, 429 or 5xx; Denied for 401 and 403; NotFound for 404 and 410; Trust for
// a body that is not a JWK set, a refused redirect or any other status. A nil
// client means the default one.
func Fetch(ctx context.Context, client *http.Client, url string) (*Fetched, error) {
	return fetch(ctx, client, url, "")
}

// fetch gets the set; with an etag, and if it still holds, the Set is empty and Raw nil.
func fetch(ctx context.Context, client *http.Client, from, etag string) (*Fetched, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, fault.Errorf(fault.Input, "JWK set URL: %w", err)
	}
	if s := req.URL.Scheme; s != "http" && s != "https" || req.URL.Host == "" {
		return nil, fault.Errorf(fault.Input, "JWK set URL %q is not an absolute http or https URL", from)
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	if etag != "" {
		req.Header.Set("If-None-Match", etag)
	}
	resp, err := guarded(client).Do(req)
	if err != nil {
		if errors.Is(err, errRedirect) {
			return nil, fault.Errorf(fault.Trust, "fetching JWK set: %w", err)
		}
		if errors.Is(err, context.Canceled) {
			return nil, fault.Errorf(fault.Interrupted, "fetching JWK set: %w", err)
		}
		return nil, fault.Errorf(fault.Transient, "fetching JWK set: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK && (etag == "" || resp.StatusCode != http.StatusNotModified) {
		return nil, fault.Errorf(kindOfStatus(resp.StatusCode), "fetching JWK set from %s: status %d", from, resp.StatusCode)
	}
	f := readHeaders(resp.Header)
	if resp.StatusCode == http.StatusNotModified {
		return f, nil
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, jose.MaxSetBytes+1))
	if err != nil {
		return nil, fault.Errorf(fault.Transient, "reading JWK set from %s: %w", from, err)
	}
	if f.Set, err = jose.ParseSet(body); err != nil {
		return nil, fault.Errorf(fault.Trust, "JWK set from %s: %w", from, err)
	}
	f.Raw = body
	f.Warnings = warnings(f, resp.Header)
	return f, nil
}

func readHeaders(h http.Header) *Fetched {
	cc := parseCacheControl(h.Values("Cache-Control"))
	f := &Fetched{MaxAge: cc.maxAge, NoStore: cc.noStore, ETag: h.Get("ETag")}
	if len(f.ETag) > maxETagBytes {
		f.ETag = ""
	}
	f.Age, _ = age(h)
	if t, err := http.ParseTime(h.Get("Date")); err == nil {
		f.Date = t.UTC()
	}
	return f
}

func kindOfStatus(status int) fault.Kind {
	switch {
	case status == http.StatusRequestTimeout, status == http.StatusTooManyRequests, status >= 500:
		return fault.Transient
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return fault.Denied
	case status == http.StatusNotFound, status == http.StatusGone:
		return fault.NotFound
	}
	return fault.Trust
}

var errRedirect = errors.New("redirect refused")

// guarded is the client with our redirect rule and no cookies.
func guarded(client *http.Client) *http.Client {
	c := http.Client{}
	if client != nil {
		c = *client
	}
	c.Jar = nil
	c.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		if len(via) > maxRedirects {
			return fmt.Errorf("%w: more than %d", errRedirect, maxRedirects)
		}
		return sameSite(via[len(via)-1].URL, req.URL)
	}
	return &c
}

// sameSite allows a redirect on the same host and port, and from HTTP to HTTPS
// on the same host; never to plain HTTP from HTTPS.
func sameSite(from, to *url.URL) error {
	upgrade := from.Scheme == "http" && to.Scheme == "https" && from.Hostname() == to.Hostname()
	if upgrade || from.Scheme == to.Scheme && from.Host == to.Host {
		return nil
	}
	return fmt.Errorf("%w: from %s://%s to %s://%s", errRedirect, from.Scheme, from.Host, to.Scheme, to.Host)
}
