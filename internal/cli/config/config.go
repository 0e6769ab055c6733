// Package config is the configuration of the command line.
//
// It guarantees that every value has one known origin (a flag, a STELLA_
// variable, a line of the file, or the default), that a name nobody reads is
// an error and never ignored, that secrets appear in it by reference only, and
// that loading touches nothing: no secret is opened and no network is used.
// Viper decides the precedence and lives here only.
package config

import (
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/secret"
	"github.com/stella-ops/stella/internal/strictyaml"
)

// Config is what the commands work with. The doc tags are its manual.
type Config struct {
	Authority     Authority      `yaml:"authority"`
	Auth          Auth           `yaml:"auth"`
	Tenant        string         `yaml:"tenant" doc:"tenant to ask tokens for"`
	Output        Output         `yaml:"output" doc:"format of results: text or json"`
	Offline       bool           `yaml:"offline" doc:"open no socket; what needs one ends with exit code 5"`
	Mirror        Mirror         `yaml:"mirror"`
	VantagePoints []VantagePoint `yaml:"vantage_points"`

	token   string            // STELLA_TOKEN as it was given
	environ map[string]string // of STELLA_ names, for origins
	origins map[string]string
}

// Authority says where the Authority is.
type Authority struct {
	URL     string              `yaml:"url" doc:"base URL of the Authority and its issuer; https, or http on loopback"`
	Origins []string            `yaml:"origins" doc:"further origins (https://HOST:PORT) on which its endpoints and its login page may lie; its own always may"`
	CAFile  string              `yaml:"ca_file" path:"read" doc:"PEM file of the only CAs to trust; empty for the system's"`
	Timeout strictyaml.Duration `yaml:"timeout" doc:"bound for one request, its answer included"`
}

// Auth says who we are to the Authority.
type Auth struct {
	ClientID        string     `yaml:"client_id" doc:"client to act as"`
	Method          Method     `yaml:"method" doc:"how the client proves itself; by default what the keys below allow, and none without them"`
	ClientSecret    secret.Ref `yaml:"client_secret" doc:"reference to the client secret, for client_secret_basic"`
	PrivateKey      secret.Ref `yaml:"private_key" doc:"reference to a PEM PKCS#8 key, for private_key_jwt"`
	KeyID           string     `yaml:"key_id" doc:"kid of that key in client assertions"`
	Certificate     string     `yaml:"certificate" path:"read" doc:"PEM file with the client certificate and its chain, for tls_client_auth; tokens are bound to it (RFC 8705)"`
	CertificateKey  secret.Ref `yaml:"certificate_key" doc:"reference to the PEM private key of that certificate; file:PATH or cred:NAME"`
	Device          bool       `yaml:"device" doc:"tokens are those of a person, who logs in with a browser (RFC 8628); always so for a client that has no secret, key or certificate"`
	Scopes          []string   `yaml:"scopes" doc:"scopes to ask for; in the environment separated by spaces or commas"`
	Audience        string     `yaml:"audience" doc:"audience to ask for"`
	TokenCache      string     `yaml:"token_cache" path:"made" doc:"directory for tokens between runs, mode 0700; empty to keep them in memory only"`
	DPoP            bool       `yaml:"dpop" doc:"bind tokens to a key of this host (RFC 9449); with tls_client_auth the certificate takes its place"`
	BootstrapKey    secret.Ref `yaml:"bootstrap_key" doc:"reference to the bootstrap API key of the Authority's internal calls"`
	BootstrapHeader string     `yaml:"bootstrap_header" doc:"HTTP header that carries it"`
}

// VantagePoint is one more place that serves the Authority's keys: a replica,
// a CDN edge, an air-gap copy.
type VantagePoint struct {
	Name   string `yaml:"name" json:"name" doc:"unique name"`
	URL    string `yaml:"url" json:"url" doc:"URL of its JWKS"`
	CAFile string `yaml:"ca_file" json:"ca_file,omitempty" path:"read" doc:"PEM file of the only CAs to trust there"`
}

// Method is a way for a client to prove itself.
type Method string

// The methods.
const (
	ClientSecretBasic Method = "client_secret_basic"
	PrivateKeyJWT     Method = "private_key_jwt"
	TLSClientAuth     Method = "tls_client_auth"
	None              Method = "none" // a public client
)

// Allowed implements strictyaml.Enum.
func (Method) Allowed() []string {
	return []string{string(ClientSecretBasic), string(PrivateKeyJWT), string(TLSClientAuth), string(None)}
}

// Output is the format of results.
type Output string

// Allowed implements strictyaml.Enum.
func (Output) Allowed() []string { return []string{"text", "json"} }

// Defaults returns the configuration of an empty file. Getenv finds the state
// directory.
func Defaults(getenv func(string) string) *Config {
	cache := ""                                                   // without a home there is no place of our own: memory only
	if state := getenv("XDG_STATE_HOME"); filepath.IsAbs(state) { // XDG says to ignore relative ones
		cache = filepath.Join(state, "stella", "tokens")
	} else if home := getenv("HOME"); filepath.IsAbs(home) {
		cache = filepath.Join(home, ".local", "state", "stella", "tokens")
	}
	return &Config{
		Authority: Authority{Timeout: strictyaml.Duration(10 * time.Second)},
		Auth: Auth{
			TokenCache:      cache,
			DPoP:            true,
			BootstrapHeader: "x-stellaops-bootstrap-key",
		},
		Output: "text",
		Mirror: mirrorDefaults(),
	}
}

// EffectiveMethod returns the configured method, or the one that the keys
// allow: private_key_jwt with a private key, client_secret_basic with a
// secret, tls_client_auth with a certificate, none without any of them.
func (a Auth) EffectiveMethod() Method {
	switch {
	case a.Method != "":
		return a.Method
	case a.PrivateKey != "":
		return PrivateKeyJWT
	case a.ClientSecret != "":
		return ClientSecretBasic
	case a.Certificate != "":
		return TLSClientAuth
	}
	return None
}

// Person reports whether tokens are those of a person who logs in, instead of
// the client's own.
func (a Auth) Person() bool { return a.Device || a.EffectiveMethod() == None }

// CertificateFiles returns the paths of the certificate and its key.
func (a Auth) CertificateFiles() (certificate, key string) {
	scheme, name, _ := strings.Cut(string(a.CertificateKey), ":")
	if scheme == "cred" { // of systemd; Load says what is wrong without the variable
		return a.Certificate, filepath.Join(os.Getenv("CREDENTIALS_DIRECTORY"), name)
	}
	return a.Certificate, name
}

// Token returns the token that STELLA_TOKEN holds or refers to; the zero value
// without that variable.
func (c *Config) Token() (secret.Bytes, error) {
	if c.token == "" {
		return secret.Bytes{}, nil
	}
	if ref := secret.Ref(c.token); tokenRef(c.token) {
		return ref.Load()
	}
	return secret.New([]byte(c.token)), nil
}

// HasToken reports whether STELLA_TOKEN is set.
func (c *Config) HasToken() bool { return c.token != "" }

// Warnings returns what an operator should hear about this configuration.
func (c *Config) Warnings() []string {
	if c.token == "" || tokenRef(c.token) {
		return nil
	}
	return []string{"STELLA_TOKEN holds the token itself, which every process of this user can read; use a file with mode 0600: STELLA_TOKEN=file:PATH"}
}

// tokenRef reports whether STELLA_TOKEN holds a reference; a JWT and an opaque
// token never have such a form.
func tokenRef(value string) bool {
	scheme, _, ok := strings.Cut(value, ":")
	return ok && (scheme == "file" || scheme == "fd" || scheme == "cred") && secret.Ref(value).Check() == nil
}

// Origin returns where the value of a key comes from: "flag --x",
// "env STELLA_X", "file PATH:LINE" or "default".
func (c *Config) Origin(key string) string {
	if o, ok := c.origins[key]; ok {
		return o
	}
	return "default"
}

// Require returns an error of kind Config when one of the keys has no value.
// It tells all the ways to set it.
func (c *Config) Require(keys ...string) error {
	values := c.Values()
	for _, key := range keys {
		for _, v := range values {
			if v.Key == key && v.Value == "" {
				return fault.Errorf(fault.Config, "%s is not set, and this command needs it", key).
					Hint("set %s in the configuration file, or %s in the environment", key, EnvName(key)).
					Hint("see where values come from: stella config show --origin")
			}
		}
	}
	return nil
}

// EnvName returns the variable that sets a key, "STELLA_AUTH_CLIENT_ID" for
// auth.client_id.
func EnvName(key string) string {
	return "STELLA_" + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}
