package httpd

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/stella-ops/stella/internal/buildinfo"
	"github.com/stella-ops/stella/internal/fault"
)

// ClientOptions shapes a client; the zero value is strict.
type ClientOptions struct {
	Timeout   time.Duration // whole exchange, body included; default 10 s
	CAFile    string        // trust these CAs alone; "" for the system's
	CertFile  string        // client certificate for mTLS, with KeyFile
	KeyFile   string
	AllowHTTP bool // plain http:// URLs to any host
	Loopback  bool // plain http:// URLs to loopback addresses and localhost
	// MaxBody bounds the body of an answer in bytes, after decompression, by
	// ErrTooLarge; 0 leaves that to the caller.
	MaxBody    int64
	NoRedirect bool // a redirect is an answer, and not followed
	NoProxy    bool // proxies named by the environment are not used
}

const (
	dialTime     = 5 * time.Second
	maxRedirects = 3
	maxRespHead  = 64 << 10
)

// Client returns an HTTP client that keeps connections alive, follows at most
// three redirects and those only within scheme, host and port, and refuses
// http:// URLs unless allowed. Files that cannot be used are of kind Config.
func Client(o ClientOptions) (*http.Client, error) {
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Second
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, CipherSuites: suites()}
	if o.CAFile != "" {
		pool, err := loadPool(o.CAFile)
		if err != nil {
			return nil, fault.As(fault.Config, err)
		}
		cfg.RootCAs = pool
	}
	if o.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(o.CertFile, o.KeyFile)
		if err != nil {
			return nil, fault.Errorf(fault.Config, "loading client certificate %q: %w", o.CertFile, err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	transport := &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: dialTime, KeepAlive: 30 * time.Second}).DialContext,
		TLSClientConfig:        cfg,
		TLSHandshakeTimeout:    dialTime,
		ResponseHeaderTimeout:  o.Timeout,
		IdleConnTimeout:        90 * time.Second,
		MaxIdleConnsPerHost:    16,
		MaxResponseHeaderBytes: maxRespHead,
		ForceAttemptHTTP2:      true,
	}
	if o.NoProxy {
		transport.Proxy = nil
	}
	c := &http.Client{
		Timeout:       o.Timeout,
		Transport:     &guard{next: transport, allowHTTP: o.AllowHTTP, loopback: o.Loopback, maxBody: o.MaxBody, agent: "stella/" + buildinfo.Read().Version},
		CheckRedirect: sameOrigin,
	}
	if o.NoRedirect {
		c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	}
	return c, nil
}

// guard refuses what must not leave the machine, redirects included, and
// bounds what comes in.
type guard struct {
	next      *http.Transport
	allowHTTP bool
	loopback  bool
	maxBody   int64
	agent     string
}

func (g *guard) allows(u *url.URL) bool {
	switch u.Scheme {
	case "https":
		return true
	case "http":
		ip := net.ParseIP(u.Hostname())
		return g.allowHTTP || g.loopback && (u.Hostname() == "localhost" || ip != nil && ip.IsLoopback())
	}
	return false
}

// RoundTrip implements http.RoundTripper.
func (g *guard) RoundTrip(r *http.Request) (*http.Response, error) {
	if !g.allows(r.URL) {
		return nil, fault.Errorf(fault.Config, "refusing %s://%s: only https is allowed", r.URL.Scheme, r.URL.Host)
	}
	if r.Header.Get("User-Agent") == "" {
		r = r.Clone(r.Context())
		r.Header.Set("User-Agent", g.agent)
	}
	resp, err := g.next.RoundTrip(r)
	if err == nil && g.maxBody > 0 {
		resp.Body = &boundedBody{resp.Body, g.maxBody}
	}
	return resp, err
}

// CloseIdleConnections lets http.Client close what the transport keeps.
func (g *guard) CloseIdleConnections() { g.next.CloseIdleConnections() }

func sameOrigin(r *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return fmt.Errorf("more than %d redirects", maxRedirects)
	}
	if from := via[0].URL; !origin(from, r.URL) {
		return fmt.Errorf("refusing a redirect from %s to another origin, %s://%s", from.Host, r.URL.Scheme, r.URL.Host)
	}
	return nil
}

func origin(a, b *url.URL) bool { return a.Scheme == b.Scheme && a.Host == b.Host }
