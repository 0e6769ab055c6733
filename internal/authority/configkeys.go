package authority

import (
	"context"
	"path/filepath"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/keyring"
	"github.com/stella-ops/stella/internal/keyring/awskms"
	"github.com/stella-ops/stella/internal/keyring/hashivault"
	"github.com/stella-ops/stella/internal/keyring/pkcs11"
	"github.com/stella-ops/stella/internal/secret"
)

// keysInFiles is the KeySource of keys in the key directory.
const keysInFiles = "file"

// PKCS11Config names a token (HSM) by its PKCS #11 module.
type PKCS11Config struct {
	// Module is the absolute path of the vendor's library.
	Module string `yaml:"module"`
	// Token is the token's label.
	Token string `yaml:"token"`
	// PIN is a secret reference to the user PIN.
	PIN secret.Ref `yaml:"pin"`
}

// AWSKMSConfig names the AWS Key Management Service to use. Credentials come
// from where the AWS SDK looks for them.
type AWSKMSConfig struct {
	// Region of the keys.
	Region string `yaml:"region"`
	// Endpoint is another URL of the service, as in a private network.
	Endpoint string `yaml:"endpoint"`
	// CAFile holds the roots for that endpoint; default: the system's.
	CAFile string `yaml:"caFile"`
}

// HashiVaultConfig names a transit secrets engine of HashiCorp Vault or OpenBao.
type HashiVaultConfig struct {
	// Address is the URL of the server.
	Address string `yaml:"address"`
	// Namespace to work in.
	Namespace string `yaml:"namespace"`
	// Mount is the path of the transit engine, default transit.
	Mount string `yaml:"mount"`
	// CAFile holds the roots for the address; default: the system's.
	CAFile string `yaml:"caFile"`
	// Token is a secret reference to the token, read again at each call: an
	// agent may renew it.
	Token secret.Ref `yaml:"token"`
}

func (c *checks) providers(s *SigningConfig) {
	used := map[KeySource]bool{
		keysInFiles: true, pkcs11.Scheme: s.PKCS11.Module != "", awskms.Scheme: s.AWSKMS.Region != "", hashivault.Scheme: s.HashiVault.Address != "",
	}
	needs := map[KeySource]string{
		pkcs11.Scheme: "signing.pkcs11.module, token and pin", awskms.Scheme: "signing.awskms.region", hashivault.Scheme: "signing.hashivault.address and token",
	}
	if !used[s.KeySource] {
		c.bad("signing.keySource", "%s is not configured", s.KeySource).Hint("set %s", needs[s.KeySource])
	}
	if p := s.PKCS11; p.Module == "" && p != (PKCS11Config{}) || p.Module != "" && (p.Token == "" || p.PIN == "" || !filepath.IsAbs(p.Module)) {
		c.bad("signing.pkcs11", "want module (an absolute path), token and pin")
	}
	if a := s.AWSKMS; a.Region == "" && a != (AWSKMSConfig{}) {
		c.bad("signing.awskms", "want region")
	}
	if h := s.HashiVault; h.Address != "" && h.Token == "" || h.Address == "" && h != (HashiVaultConfig{Mount: h.Mount}) {
		c.bad("signing.hashivault", "want address and token")
	}
	for key, ref := range map[string]secret.Ref{"signing.pkcs11.pin": s.PKCS11.PIN, "signing.hashivault.token": s.HashiVault.Token} {
		if err := ref.Check(); ref != "" && err != nil {
			c.bad(key, "%v", err).Hint("write a reference, never the secret itself: %s", secret.Schemes)
		} else if !rereadable(ref) {
			c.bad(key, "is read more than once: stdin and fd: cannot be")
		}
	}
}

// openProviders opens what may keep keys besides the key directory. It makes
// no network call: a provider that is away must not keep the service down.
func openProviders(s *SigningConfig) (map[string]keyring.Provider, error) {
	all := map[string]keyring.Provider{}
	for _, p := range []struct {
		scheme string
		used   bool
		open   func() (keyring.Provider, error)
	}{
		{pkcs11.Scheme, s.PKCS11.Module != "", func() (keyring.Provider, error) {
			return pkcs11.Open(pkcs11.Options{Module: s.PKCS11.Module, Token: s.PKCS11.Token, PIN: s.PKCS11.PIN})
		}},
		{awskms.Scheme, s.AWSKMS.Region != "", func() (keyring.Provider, error) {
			return awskms.Open(context.Background(), awskms.Options{Region: s.AWSKMS.Region, Endpoint: s.AWSKMS.Endpoint, CAFile: s.AWSKMS.CAFile})
		}},
		{hashivault.Scheme, s.HashiVault.Address != "", func() (keyring.Provider, error) {
			h := s.HashiVault
			return hashivault.Open(hashivault.Options{Address: h.Address, Namespace: h.Namespace, Mount: h.Mount, CAFile: h.CAFile, Token: h.Token})
		}},
	} {
		if !p.used {
			continue
		}
		provider, err := p.open()
		if err != nil {
			return nil, fault.As(fault.Config, err)
		}
		all[p.scheme] = provider
	}
	return all, nil
}
