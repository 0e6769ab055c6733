package exports

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/release"
)

// Key signs bundles and statements. Provider may be changed before it is used.
type Key struct {
	ID       string
	Provider string // release.DefaultProvider
	Signer   *jose.Signer
	Private  crypto.Signer
}

// NewKey makes a key for ES256 or EdDSA.
func NewKey(alg jose.Alg, id string) (*Key, error) {
	var seed [32]byte
	if _, err := rand.Read(seed[:]); err != nil {
		return nil, err
	}
	return newKey(alg, id, seed)
}

// DerivedKey makes the same key for the same id and seed: for golden files.
// Everybody can make it, so it protects nothing.
func DerivedKey(alg jose.Alg, id string, seed uint64) (*Key, error) {
	var n [8]byte
	binary.LittleEndian.PutUint64(n[:], seed)
	return newKey(alg, id, sha256.Sum256(append(n[:], string(alg)+"/"+id...)))
}

func newKey(alg jose.Alg, id string, seed [32]byte) (*Key, error) {
	k := &Key{ID: id, Provider: release.DefaultProvider}
	var err error
	switch alg {
	case jose.EdDSA:
		k.Private = ed25519.NewKeyFromSeed(seed[:])
	case jose.ES256:
		seed[0] &= 0x7f // below the order of the curve
		k.Private, err = ecdsa.ParseRawPrivateKey(elliptic.P256(), seed[:])
	default:
		err = fmt.Errorf("making key %q: algorithm %s is neither ES256 nor EdDSA", id, alg)
	}
	if err != nil {
		return nil, err
	}
	k.Signer, err = jose.NewSigner(k.Private, alg, id)
	return k, err
}

// PublicPEM is the public key as trust policies take it.
func (k *Key) PublicPEM() (string, error) {
	der, err := x509.MarshalPKIXPublicKey(k.Private.Public())
	if err != nil {
		return "", err
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})), nil
}

// WriteFiles writes DIR/ID.key.pem (PKCS #8, mode 0600) and DIR/ID.pub.pem,
// neither of which may be there yet.
func (k *Key) WriteFiles(dir string) (private, public string, err error) {
	der, err := x509.MarshalPKCS8PrivateKey(k.Private)
	if err != nil {
		return "", "", err
	}
	pub, err := k.PublicPEM()
	if err != nil {
		return "", "", err
	}
	private, public = filepath.Join(dir, k.ID+".key.pem"), filepath.Join(dir, k.ID+".pub.pem")
	if err := exclusive(private, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		return "", "", err
	}
	return private, public, exclusive(public, []byte(pub), 0o644)
}

func exclusive(path string, data []byte, perm os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// Policy writes a trust policy that believes these keys, in YAML. All else has
// its default; more top-level lines, such as "threshold: 2\n", may be appended.
func Policy(keys ...*Key) ([]byte, error) {
	var b strings.Builder
	b.WriteString("schema_version: 1\nkeys:\n")
	for _, k := range keys {
		pub, err := k.PublicPEM()
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "  - id: %q\n    provider: %q\n    pem: |\n", k.ID, k.Provider)
		for line := range strings.Lines(pub) {
			b.WriteString("      " + line)
		}
	}
	return []byte(b.String()), nil
}
