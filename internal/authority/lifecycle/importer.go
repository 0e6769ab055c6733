package lifecycle

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/stella-ops/stella/internal/authority/problem"
	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/keyring"
	"github.com/stella-ops/stella/internal/secret"
)

// Importer reads private keys that operators name by file.
type Importer struct {
	Base string // what relative locations are relative to: the key directory
	Root string // nothing outside this directory is read
}

// material reads a P-256 private key from a PEM file (PKCS #8, or SEC 1 as
// openssl ecparam writes it) and returns PKCS #8; nil for an empty location.
// Links do not lead out of Root, and a file that others can read is refused.
func (i Importer) material(_ context.Context, location string) ([]byte, error) {
	if location == "" {
		return nil, nil
	}
	refuse := func(why string) error { return problem.New(problem.Invalid, "location: "+why) }
	path := location
	if !filepath.IsAbs(path) {
		path = filepath.Join(i.Base, path)
	}
	rel, err := filepath.Rel(i.Root, path)
	if err != nil || !filepath.IsLocal(rel) || strings.ContainsRune(location, 0) {
		return nil, refuse("outside of the directory from which keys may be taken in")
	}
	root, err := os.OpenRoot(i.Root)
	if err != nil {
		return nil, fmt.Errorf("opening the directory from which keys may be taken in: %w", err)
	}
	defer root.Close()
	f, err := root.OpenFile(rel, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, refuse("no readable file there")
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil, refuse("not a regular file")
	}
	if err := secret.CheckMode(rel, info); err != nil {
		return nil, refuse(err.Error())
	}
	data, err := io.ReadAll(io.LimitReader(f, secret.MaxBytes))
	if err != nil {
		return nil, refuse("no readable file there")
	}
	defer clear(data)
	key, err := parsePEM(data)
	if err != nil {
		return nil, refuse(err.Error())
	}
	return x509.MarshalPKCS8PrivateKey(key)
}

func parsePEM(data []byte) (*ecdsa.PrivateKey, error) {
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			return nil, fmt.Errorf("no private key in the file")
		}
		var key any
		var err error
		switch block.Type {
		case "EC PARAMETERS":
			continue
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		default:
			return nil, fmt.Errorf("a PEM block of type %.40q", block.Type)
		}
		ec, ok := key.(*ecdsa.PrivateKey)
		if err != nil || !ok || ec.Curve != elliptic.P256() {
			return nil, fmt.Errorf("not an EC P-256 private key")
		}
		return ec, nil
	}
}

// known returns the state of the key with that kid, so that a call that was
// cut short can go on: "" when there is none, Staged or Published when it is
// the same key. A kid that names another key, or a key under another kid, is
// refused.
func (i Importer) known(ring *keyring.Ring, kid string, material []byte) (keyring.State, error) {
	taken := func(why string) error { return problem.New(problem.Order, why) }
	thumb := ""
	if material != nil {
		var err error
		if thumb, err = thumbprint(material); err != nil {
			return "", err
		}
	}
	var found *keyring.Key
	for n := range ring.Keys {
		k := &ring.Keys[n]
		have, err := k.JWK.Thumbprint()
		if err != nil {
			return "", fmt.Errorf("key %q: %w", k.KID, err)
		}
		switch {
		case k.KID == kid && thumb != "" && have != thumb:
			return "", taken("another key has that keyId")
		case k.KID == kid:
			found = k
		case thumb != "" && have == thumb:
			return "", taken(fmt.Sprintf("that key is known already, as %s", k.KID))
		}
	}
	switch {
	case found == nil:
		return "", nil
	case found.State == keyring.Staged || found.State == keyring.Published:
		return found.State, nil
	}
	return "", taken(fmt.Sprintf("key %s is %s already; a keyId is used once", kid, found.State))
}

func thumbprint(pkcs8 []byte) (string, error) {
	key, err := x509.ParsePKCS8PrivateKey(pkcs8)
	if err != nil {
		return "", fmt.Errorf("internal error: %w", err)
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return "", fmt.Errorf("internal error: not an EC key")
	}
	jwk, err := jose.NewKey(ec.Public(), "", jose.ES256)
	if err != nil {
		return "", fmt.Errorf("describing key: %w", err)
	}
	return jwk.Thumbprint()
}
