package authority

import (
	"crypto/tls"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/stella-ops/stella/internal/authority/plugins"
	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/secret"
	"github.com/stella-ops/stella/internal/strictyaml"
)

// Default returns the configuration of an empty file.
func Default() *Config {
	span := func(d time.Duration) strictyaml.Duration { return strictyaml.Duration(d) }
	return &Config{
		AccessTokenLifetime: span(2 * time.Minute), RefreshTokenLifetime: span(30 * 24 * time.Hour),
		DeviceCodeLifetime: span(15 * time.Minute), IdentityTokenLifetime: span(5 * time.Minute),
		AuthorizationCodeLifetime: span(5 * time.Minute),
		Redis:                     RedisConfig{Prefix: "stella-authority:", Timeout: span(time.Second)}, Audit: AuditConfig{Log: true},
		Listen: "127.0.0.1:8440",
		Storage: StorageConfig{
			ConnectionString: "mongodb://localhost:27017", DatabaseName: "stellaops_authority",
			CommandTimeout: span(30 * time.Second), ClientCache: span(5 * time.Second),
		},
		Signing: SigningConfig{
			Enabled: true, Algorithm: "ES256", Provider: "default", KeySource: "file",
			JWKSCacheLifetime: span(5 * time.Minute), ClockSkew: span(30 * time.Second),
			SignLease: span(10 * time.Second), PollInterval: span(time.Second),
		},
		Bootstrap: BootstrapConfig{Header: "x-stellaops-bootstrap-key"},
		Security: SecurityConfig{DPoP: DPoPConfig{
			RequireNonce: true, NonceLifetime: span(5 * time.Minute), ProofLifetime: span(30 * time.Second), ReplayStore: replayDatabase,
		}, RateLimiting: defaultRates()},
	}
}

// LoadConfig reads and checks the file at path and the overrides in environ.
// Every error is of kind fault.Config, and nothing was touched.
func LoadConfig(path string, environ []string) (*Config, error) {
	data, err := strictyaml.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return ParseConfig(path, data, environ)
}

// ParseConfig is LoadConfig of a document that came from name.
func ParseConfig(name string, data []byte, environ []string) (*Config, error) {
	c := Default()
	if err := strictyaml.Decode(name, data, c); err != nil {
		return nil, err
	}
	if err := strictyaml.Overlay(EnvPrefix, environ, c); err != nil {
		return nil, err
	}
	if c.Replica == "" {
		host, err := os.Hostname()
		if err != nil {
			return nil, fault.Errorf(fault.Config, "%s: replica: the host has no name: %w", name, err)
		}
		c.Replica = host
	}
	if err := c.manifests(); err != nil {
		return nil, err
	}
	if c.Signing.ImportDirectory == "" && c.Signing.KeyDirectory != "" {
		c.Signing.ImportDirectory = filepath.Dir(filepath.Clean(c.Signing.KeyDirectory))
	}
	return c, check(name, c, strictyaml.Locate(data))
}

// manifests reads those of the plug-ins. The key directory may come from there.
func (c *Config) manifests() error {
	dir := c.Plugins.ConfigurationDirectory
	if dir == "" {
		c.standard = plugins.Default("")
		return nil
	}
	var err error
	if c.standard, err = plugins.Load(dir); err != nil {
		return err
	}
	if c.standard.Path != "" {
		c.Signing.KeyDirectory, c.note = c.standard.KeyDirectory(c.Signing.KeyDirectory)
	}
	return nil
}

// secrets are what the references of a Config lead to.
type secrets struct {
	mongoURI  string
	bootstrap secret.Bytes
	redis     secret.Bytes
}

// minBootstrapKey is the shortest bootstrap key, in bytes.
const minBootstrapKey = 16

// checkCertificate looks at what only Listen would read.
func checkCertificate(c *Config) error {
	if c.InsecureHTTP {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(c.TLS.Certificate, c.TLS.Key)
	if err != nil {
		return fault.Errorf(fault.Config, "tls: certificate %q with key %q: %w", c.TLS.Certificate, c.TLS.Key, err)
	}
	if end := pair.Leaf.NotAfter; time.Now().After(end) {
		return fault.Errorf(fault.Config, "tls: certificate %q: it expired at %s", c.TLS.Certificate, end.UTC().Format(time.RFC3339))
	}
	return nil
}

// checkAudit looks at what only Listen would open.
func checkAudit(c *Config) error {
	info, err := os.Stat(c.Audit.File)
	switch {
	case c.Audit.File == "" || errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fault.Errorf(fault.Config, "audit.file: %w", err)
	case !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0:
		return fault.Errorf(fault.Config, "audit.file: %q is open to group or others, or no file", c.Audit.File).Hint("chmod 600 %s", c.Audit.File)
	}
	return nil
}

// loadSecrets reads the secrets that c refers to.
func loadSecrets(c *Config) (*secrets, error) {
	s := &secrets{mongoURI: c.Storage.ConnectionString}
	if c.TLS.Key != "" {
		info, err := os.Stat(c.TLS.Key)
		if err == nil {
			err = secret.CheckMode(c.TLS.Key, info)
		}
		if err != nil {
			return nil, fault.Errorf(fault.Config, "tls.key: %w", err)
		}
	}
	if ref := c.Storage.ConnectionStringFrom; ref != "" {
		b, err := ref.Load()
		if err != nil {
			return nil, err
		}
		s.mongoURI = string(b.Reveal())
	}
	if ref := c.Redis.Password; ref != "" {
		b, err := ref.Load()
		if err != nil {
			return nil, err
		}
		s.redis = b
	}
	if ref := c.Bootstrap.APIKey; ref != "" {
		b, err := ref.Load()
		if err != nil {
			return nil, err
		}
		if len(b.Reveal()) < minBootstrapKey {
			return nil, fault.Errorf(fault.Config, "bootstrap.apiKey: the key has less than %d bytes", minBootstrapKey).
				Hint("make one: openssl rand -base64 32")
		}
		s.bootstrap = b
	}
	return s, nil
}
