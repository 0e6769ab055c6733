package httpd

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/stella-ops/stella/internal/fault"
)

// lookEvery bounds how often a handshake looks at the certificate files.
const lookEvery = time.Second

// maxPEM bounds a PEM file, in bytes.
const maxPEM = 4 << 20

// suites are the TLS 1.2 suites: forward secrecy and AEAD only. TLS 1.3 has no
// others.
func suites() []uint16 {
	return []uint16{
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
		tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
	}
}

// certs holds the pair in use and follows its files.
type certs struct {
	files TLS
	log   *slog.Logger

	mu     sync.Mutex
	pair   *tls.Certificate
	pool   *x509.CertPool // nil without a client CA file
	stamp  string         // of the files that pair came from, or that were bad
	looked time.Time
}

// loadCerts reads the files once; what it cannot read is of kind Config.
func loadCerts(files TLS, log *slog.Logger) (*certs, error) {
	c := &certs{files: files, log: log}
	var err error
	c.stamp = c.fingerprint()
	if c.pair, c.pool, err = c.read(); err != nil {
		return nil, fault.As(fault.Config, err)
	}
	c.looked = time.Now()
	return c, nil
}

func (c *certs) config() *tls.Config {
	base := &tls.Config{
		MinVersion:   tls.VersionTLS12,
		CipherSuites: suites(),
		NextProtos:   []string{"h2", "http/1.1"},
		ClientAuth:   c.files.ClientAuth,
	}
	base.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		pair, pool := c.current()
		cfg := base.Clone()
		cfg.GetConfigForClient = nil
		cfg.Certificates = []tls.Certificate{*pair}
		cfg.ClientCAs = pool
		return cfg, nil
	}
	// ServeTLS wants to see a certificate source before any handshake.
	base.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		pair, _ := c.current()
		return pair, nil
	}
	return base
}

// current returns the pair in use, after a look at the files if the last one
// was a while ago.
func (c *certs) current() (*tls.Certificate, *x509.CertPool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.looked) >= lookEvery {
		c.looked = time.Now()
		if stamp := c.fingerprint(); stamp != c.stamp {
			c.replace(stamp)
		}
	}
	return c.pair, c.pool
}

// reload reads the files now and reports whether they are good.
func (c *certs) reload() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.replace(c.fingerprint())
}

// replace takes over what the files hold, or keeps the old pair and says so,
// once for each state of the files.
func (c *certs) replace(stamp string) bool {
	c.stamp = stamp
	pair, pool, err := c.read()
	if err != nil {
		c.log.Error("certificate not reloaded, keeping the old one", slog.Any("err", err))
		return false
	}
	c.pair, c.pool = pair, pool
	c.log.Info("certificate loaded", slog.String("cert_file", c.files.CertFile),
		slog.Time("not_after", pair.Leaf.NotAfter))
	return true
}

func (c *certs) read() (*tls.Certificate, *x509.CertPool, error) {
	certPEM, err := readPEM(c.files.CertFile)
	if err != nil {
		return nil, nil, err
	}
	keyPEM, err := readPEM(c.files.KeyFile)
	if err != nil {
		return nil, nil, err
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	clear(keyPEM)
	if err != nil {
		return nil, nil, fmt.Errorf("loading certificate %q with key %q: %w", c.files.CertFile, c.files.KeyFile, err)
	}
	if time.Now().After(pair.Leaf.NotAfter) {
		return nil, nil, fmt.Errorf("loading certificate %q: it expired at %s", c.files.CertFile, pair.Leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	if c.files.ClientCAFile == "" {
		if c.files.ClientAuth >= tls.VerifyClientCertIfGiven {
			return nil, nil, errors.New("verifying client certificates needs a client CA file")
		}
		return &pair, nil, nil
	}
	pool, err := loadPool(c.files.ClientCAFile)
	return &pair, pool, err
}

// fingerprint tells states of the files apart without reading them.
func (c *certs) fingerprint() string {
	out := ""
	for _, path := range []string{c.files.CertFile, c.files.KeyFile, c.files.ClientCAFile} {
		if info, err := os.Stat(path); err == nil {
			out += fmt.Sprint(info.ModTime().UnixNano(), info.Size(), ";")
		} else {
			out += "-;"
		}
	}
	return out
}

func loadPool(path string) (*x509.CertPool, error) {
	data, err := readPEM(path)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("reading CA file %q: no certificate in it", path)
	}
	return pool, nil
}

func readPEM(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("reading PEM file: %w", err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxPEM {
		return nil, fmt.Errorf("reading PEM file %q: not a regular file of at most %d bytes", path, maxPEM)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading PEM file: %w", err)
	}
	return data, nil
}
