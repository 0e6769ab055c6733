package authority

import (
	"github.com/stella-ops/stella/internal/authority/plugins"
	"github.com/stella-ops/stella/internal/keyring/awskms"
	"github.com/stella-ops/stella/internal/keyring/hashivault"
	"github.com/stella-ops/stella/internal/keyring/pkcs11"
	"github.com/stella-ops/stella/internal/secret"
	"github.com/stella-ops/stella/internal/strictyaml"
)

// EnvPrefix begins the environment variables that override the file:
// STELLAOPS_AUTHORITY__ISSUER, STELLAOPS_AUTHORITY__SIGNING__KEYDIRECTORY, ….
const EnvPrefix = "STELLAOPS_AUTHORITY"

// DefaultConfigPath is read when --config is not given.
const DefaultConfigPath = "/etc/authority.yaml"

// Config is /etc/authority.yaml. Names that upstream's Authority has too mean
// the same here; durations are .NET TimeSpan text ([d.]hh:mm:ss) or Go text
// (2m). docs/config-authority.md is the same list for operators.
//
// SIGHUP takes in changes of: accessTokenLifetime (downwards), the other
// lifetimes, bootstrap, bypassNetworks, security (but for
// security.dpop.replayStore), signing.vantagePoints, tenants and the manifests
// of plug-ins, and reads certificates and secret files again. A reload that changes anything else is refused as a
// whole and the old state stays.
type Config struct {
	// SchemaVersion must be 1.
	SchemaVersion int `yaml:"schemaVersion"`
	// Issuer is the https URL that tokens name and that clients know this
	// Authority by, without a slash at the end. Port 0 stands for the port
	// that is listened on (with listen on port 0, for tests and labs).
	Issuer string `yaml:"issuer"`
	// AccessTokenLifetime is how long an access token is valid: 5 s to 1 h,
	// default 00:02:00. A reload may only lower it: the timetable of the keys
	// counts with the value at start.
	AccessTokenLifetime strictyaml.Duration `yaml:"accessTokenLifetime"`
	// RefreshTokenLifetime is how long after a login its refresh tokens work:
	// 1 min to 90 days, default 30.00:00:00.
	RefreshTokenLifetime strictyaml.Duration `yaml:"refreshTokenLifetime"`
	// DeviceCodeLifetime is how long a person has to approve a login: 1 min to
	// 1 h, default 00:15:00.
	DeviceCodeLifetime strictyaml.Duration `yaml:"deviceCodeLifetime"`
	// IdentityTokenLifetime is upstream's; not used here: there are no ID
	// tokens.
	IdentityTokenLifetime strictyaml.Duration `yaml:"identityTokenLifetime"`
	// AuthorizationCodeLifetime is upstream's; not used here: there is no
	// /authorize.
	AuthorizationCodeLifetime strictyaml.Duration `yaml:"authorizationCodeLifetime"`
	// Listen is the address of the public listener, default 127.0.0.1:8440.
	Listen string `yaml:"listen"`
	// InsecureHTTP serves without TLS, on a loopback address only. For labs.
	InsecureHTTP bool `yaml:"insecureHttp"`
	// Replica names this process in reports and in the key history. Default:
	// the host name. Up to 64 letters, digits, dots, underscores and hyphens.
	Replica string `yaml:"replica"`
	// Tenants are the ids of the tenants that exist; clients may have no
	// others. Empty: any well-formed id.
	Tenants []string `yaml:"tenants"`

	// TLS is the certificate of the public listener; read again on SIGHUP.
	TLS TLSConfig `yaml:"tls"`
	// MTLS is the listener for clients with certificates.
	MTLS MTLSConfig `yaml:"mtls"`
	// Admin is the second listener, for operators.
	Admin AdminConfig `yaml:"admin"`
	// Storage is the database.
	Storage StorageConfig `yaml:"storage"`
	// Signing is about the keys that sign tokens.
	Signing SigningConfig `yaml:"signing"`
	// Bootstrap is the key for the calls under /internal.
	Bootstrap BootstrapConfig `yaml:"bootstrap"`
	// Security holds the rules for DPoP proofs and the limits.
	Security SecurityConfig `yaml:"security"`
	// BypassNetworks are addresses and networks (CIDR) whose callers may read
	// the keyring, its history and the revocation export without a token. Every
	// use is logged, audited and counted. Default: none.
	BypassNetworks []Network `yaml:"bypassNetworks"`
	// Redis is what replicas may share besides the database.
	Redis RedisConfig `yaml:"redis"`
	// Audit says where audit records go.
	Audit AuditConfig `yaml:"audit"`
	// Plugins says where the manifests of plug-ins are.
	Plugins PluginsConfig `yaml:"plugins"`
	// PluginDirectories is upstream's; not used here: the plug-ins are built in.
	PluginDirectories []string `yaml:"pluginDirectories"`

	standard *plugins.Standard // the manifest of the standard plug-in
	note     string            // worth saying at the start; may be empty
}

// TLSConfig names the certificate of the public listener. Both are required
// unless insecureHttp is on.
type TLSConfig struct {
	// Certificate is a PEM file with the certificate and its chain.
	Certificate string `yaml:"certificate"`
	// Key is a PEM file with the private key, closed to group and others.
	Key string `yaml:"key"`
}

// AdminConfig is the listener for /metrics, /healthz, /readyz and pprof.
type AdminConfig struct {
	// Listen is a loopback HOST:PORT; empty (the default): no such listener.
	Listen string `yaml:"listen"`
}

// StorageConfig is the MongoDB database that all replicas share.
type StorageConfig struct {
	// ConnectionString is a mongodb:// or mongodb+srv:// URI without password,
	// default mongodb://localhost:27017. The word memory (with
	// acceptDataLoss) keeps everything in this process.
	ConnectionString string `yaml:"connectionString"`
	// ConnectionStringFrom is a secret reference to a connection string that
	// holds a password; it replaces connectionString.
	ConnectionStringFrom secret.Ref `yaml:"connectionStringFrom"`
	// DatabaseName is the database, default stellaops_authority.
	DatabaseName string `yaml:"databaseName"`
	// CommandTimeout bounds each operation: 100 ms to 5 min, default 00:00:30.
	CommandTimeout strictyaml.Duration `yaml:"commandTimeout"`
	// ClientCache is how long a client document is trusted after it was read:
	// at most 5 s, which is the default. Other replicas see a change after it.
	ClientCache strictyaml.Duration `yaml:"clientCache"`
	// AcceptDataLoss must be true to use connectionString: memory.
	AcceptDataLoss bool `yaml:"acceptDataLoss"`
}

// SigningConfig is about the keys that sign tokens. The keyring itself, not
// this file, says which key is active.
type SigningConfig struct {
	// Enabled must be true, which is the default: this server exists to sign.
	Enabled bool `yaml:"enabled"`
	// Algorithm must be ES256, which is the default.
	Algorithm Algorithm `yaml:"algorithm"`
	// Provider must be default, which is the default.
	Provider Provider `yaml:"provider"`
	// KeySource is where new keys are made and kept: file (the key directory,
	// which is the default), pkcs11, awskms or hashivault.
	KeySource KeySource `yaml:"keySource"`
	// ActiveKeyID is upstream's; refused here, because the keyring knows the
	// active key. Take a key in with POST /internal/signing/rotate.
	ActiveKeyID string `yaml:"activeKeyId"`
	// KeyPath is upstream's; refused like activeKeyId.
	KeyPath string `yaml:"keyPath"`
	// AdditionalKeys is upstream's; refused like activeKeyId.
	AdditionalKeys []AdditionalKey `yaml:"additionalKeys"`
	// KeyDirectory holds the keyring: mode 0700, shared by all replicas. It
	// must exist.
	KeyDirectory string `yaml:"keyDirectory"`
	// ImportDirectory is where POST /internal/signing/rotate may read keys
	// from; files there can be taken in as signing keys. Default: the parent
	// of keyDirectory.
	ImportDirectory string `yaml:"importDirectory"`
	// TakeKeysIn lets operators name a key that they made at a configured
	// provider, to be used as a signing key. Default false: whoever may do that
	// could hold a copy of it.
	TakeKeysIn bool `yaml:"takeKeysIn"`
	// PKCS11 is an HSM that may keep keys; used where module is set.
	PKCS11 PKCS11Config `yaml:"pkcs11"`
	// AWSKMS is a key service that may keep keys; used where region is set.
	AWSKMS AWSKMSConfig `yaml:"awskms"`
	// HashiVault is a key service that may keep keys; used where address is set.
	HashiVault HashiVaultConfig `yaml:"hashivault"`
	// CreateIfMissing makes a first keyring (one active key, one standby)
	// where there is none. Default false: a missing keyring is an error.
	CreateIfMissing bool `yaml:"createIfMissing"`
	// JWKSCacheLifetime is the max-age of the published key set, 1 s to 24 h,
	// default 00:05:00. A key signs only after it has been published that long.
	JWKSCacheLifetime strictyaml.Duration `yaml:"jwksCacheLifetime"`
	// ClockSkew is how far clocks of clients and verifiers may be off: at
	// most 5 min, default 00:00:30.
	ClockSkew strictyaml.Duration `yaml:"clockSkew"`
	// SignLease is how long a replica goes on signing when it cannot read the
	// key history: longer than pollInterval, at most 5 min, default 00:00:10.
	SignLease strictyaml.Duration `yaml:"signLease"`
	// PollInterval is how often a replica looks for news in the key history:
	// 10 ms to 1 min, default 00:00:01.
	PollInterval strictyaml.Duration `yaml:"pollInterval"`
	// VantagePoints are the places from which verifiers fetch the key set
	// (each replica, CDN edge, air-gap copy). A key is not activated before
	// each of them was seen to serve it for one full cache lifetime.
	VantagePoints []VantagePoint `yaml:"vantagePoints"`
}

// VantagePoint is a place from which verifiers fetch the key set.
type VantagePoint struct {
	// Name is how it is called in reports, up to 64 letters, digits and ._:-
	Name string `yaml:"name"`
	// URL of the key set as served there.
	URL string `yaml:"url"`
}

// AdditionalKey is upstream's list entry; see SigningConfig.AdditionalKeys.
type AdditionalKey struct {
	// KeyID is upstream's.
	KeyID string `yaml:"keyId"`
	// Path is upstream's.
	Path string `yaml:"path"`
	// Source is upstream's.
	Source string `yaml:"source"`
}

// BootstrapConfig is the key for the calls under /internal that come before
// there is any client.
type BootstrapConfig struct {
	// APIKey is a secret reference to the key, at least 16 bytes. Without it
	// those calls are closed.
	APIKey secret.Ref `yaml:"apiKey"`
	// Header carries it, default x-stellaops-bootstrap-key.
	Header string `yaml:"header"`
}

// Algorithm is a signature algorithm.
type Algorithm string

// Allowed implements strictyaml.Enum.
func (Algorithm) Allowed() []string { return []string{"ES256"} }

// Provider is a key provider.
type Provider string

// Allowed implements strictyaml.Enum.
func (Provider) Allowed() []string { return []string{"default"} }

// KeySource is where keys come from.
type KeySource string

// Allowed implements strictyaml.Enum.
func (KeySource) Allowed() []string {
	return []string{keysInFiles, pkcs11.Scheme, awskms.Scheme, hashivault.Scheme}
}
