package httpget

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/stella-ops/stella/internal/fault"
)

// Limits of an exchange. How fast a body must come is the caller's to say.
const (
	dialTime     = 10 * time.Second
	tlsTime      = 10 * time.Second
	headerTime   = 30 * time.Second // S3 may take long to its first byte
	maxHeader    = 64 << 10
	maxCAFile    = 1 << 20
	readBuffer   = 32 << 10
	defaultConns = 32
)

// TransportOptions shape a transport; the zero value is usable.
type TransportOptions struct {
	MaxConns int    // idle connections kept for a host; 0: 32
	CAFile   string // PEM of the only CAs to trust; "" for the system's
}

// NewTransport makes a transport for many objects from one host: connections
// are kept, nothing is decompressed behind the reader's back, and each stage up
// to the header has a limit. It speaks HTTP/1.1 only: with one connection an
// object a slow reader holds up nobody else. A CA file that cannot be used is
// of kind Config.
func NewTransport(o TransportOptions) (*http.Transport, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CAFile != "" {
		pool, err := loadPool(o.CAFile)
		if err != nil {
			return nil, err
		}
		cfg.RootCAs = pool
	}
	if o.MaxConns <= 0 {
		o.MaxConns = defaultConns
	}
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: dialTime, KeepAlive: 30 * time.Second}).DialContext,
		TLSClientConfig:        cfg,
		TLSHandshakeTimeout:    tlsTime,
		ResponseHeaderTimeout:  headerTime,
		ExpectContinueTimeout:  time.Second,
		IdleConnTimeout:        90 * time.Second,
		MaxIdleConnsPerHost:    o.MaxConns,
		MaxResponseHeaderBytes: maxHeader,
		ReadBufferSize:         readBuffer,
		DisableCompression:     true,
	}, nil
}

func loadPool(file string) (*x509.CertPool, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fault.Errorf(fault.Config, "reading CA file: %w", err)
	}
	defer f.Close()
	pem, err := io.ReadAll(io.LimitReader(f, maxCAFile+1))
	if err != nil {
		return nil, fault.Errorf(fault.Config, "reading CA file: %w", err)
	}
	pool := x509.NewCertPool()
	if len(pem) > maxCAFile || !pool.AppendCertsFromPEM(pem) {
		return nil, fault.Errorf(fault.Config, "CA file %q: no PEM certificates of at most %d bytes", file, maxCAFile)
	}
	return pool, nil
}
