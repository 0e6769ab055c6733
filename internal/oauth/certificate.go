package oauth

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"

	"github.com/stella-ops/stella/internal/fault"
)

const maxCertificateBytes = 256 << 10

// LoadCertificate reads the first certificate of a PEM file: the one that a
// client presents. Errors are of kind Config.
func LoadCertificate(path string) (*x509.Certificate, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fault.Errorf(fault.Config, "client certificate: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxCertificateBytes+1))
	if err != nil {
		return nil, fault.Errorf(fault.Config, "client certificate %q: %w", path, err)
	}
	if len(data) > maxCertificateBytes {
		return nil, fault.Errorf(fault.Config, "client certificate %q is larger than %d bytes", path, maxCertificateBytes)
	}
	cert, err := firstCertificate(data)
	if err != nil {
		return nil, fault.Errorf(fault.Config, "client certificate %q: %w", path, err)
	}
	return cert, nil
}

func firstCertificate(data []byte) (*x509.Certificate, error) {
	for {
		block, rest := pem.Decode(data)
		switch {
		case block == nil:
			return nil, fmt.Errorf("no PEM block CERTIFICATE in it")
		case block.Type == "CERTIFICATE":
			return x509.ParseCertificate(block.Bytes)
		}
		data = bytes.TrimSpace(rest)
	}
}

// x5t is the member x5t#S256 of cnf for cert (RFC 8705 section 3.1).
func x5t(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

type tlsClientAuth struct{ load func() (string, error) }

// TLSClientAuth is tls_client_auth (RFC 8705 section 2.1): the client is who
// the certificate of its connection says. Config.HTTP must present that
// certificate; load returns it. Tokens are bound to it, and one that is not
// is refused.
func TLSClientAuth(load func() (*x509.Certificate, error)) Credential {
	return tlsClientAuth{sync.OnceValues(func() (string, error) {
		cert, err := load()
		if err != nil {
			return "", fmt.Errorf("loading the client certificate: %w", err)
		}
		return x5t(cert), nil
	})}
}

func (tlsClientAuth) Method() string { return "tls_client_auth" }

// apply names the client: the certificate proves it, but does not say which
// of its clients is meant (RFC 8705 section 2).
func (tlsClientAuth) apply(_ http.Header, form url.Values, who assertionSubject) error {
	form.Set("client_id", who.clientID)
	return nil
}

// usesCertificate reports whether the client proves itself by a certificate.
func (c *Client) usesCertificate() bool {
	_, ok := c.cfg.Credential.(tlsClientAuth)
	return ok
}

// certificate returns the thumbprint of the certificate that tokens are bound
// to, or "" without one.
func (c *Client) certificate() (string, error) {
	if t, ok := c.cfg.Credential.(tlsClientAuth); ok {
		return t.load()
	}
	return "", nil
}

// Home returns the base URL, without a slash at its end, of the issuer's own
// APIs for this client: the issuer, unless the client presents a certificate
// and the issuer takes those elsewhere (RFC 8705 section 5). Its error is that
// of Discover.
func (c *Client) Home(ctx context.Context) (string, error) {
	home := strings.TrimSuffix(c.cfg.Issuer, "/")
	if !c.usesCertificate() {
		return home, nil
	}
	md, err := c.Discover(ctx)
	if err != nil {
		return "", err
	}
	path, below := strings.CutPrefix(md.TokenEndpoint, home)
	alias, err := c.endpoint(md.TokenEndpoint, md.Aliases.TokenEndpoint)
	if base, ok := strings.CutSuffix(alias, path); ok && below && base != "" {
		return base, err
	}
	return home, err
}
