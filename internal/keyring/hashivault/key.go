package hashivault

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/stella-ops/stella/internal/fault"
)

// keyType is the engine's name for EC P-256 keys.
const keyType = "ecdsa-p256"

// keyInfo is the answer to GET keys/NAME (transit HTTP API, "Read key").
type keyInfo struct {
	Type         string          `json:"type"`
	Derived      bool            `json:"derived"`
	Exportable   bool            `json:"exportable"`
	Backup       bool            `json:"allow_plaintext_backup"`
	Imported     bool            `json:"imported_key"`
	SoftDeleted  bool            `json:"soft_deleted"` // OpenBao only
	Restored     json.RawMessage `json:"restore_info"`
	MinAvailable int             `json:"min_available_version"`  // lower ones are trimmed for good
	MinDecrypt   int             `json:"min_decryption_version"` // lower ones are archived and not listed
	MinEncrypt   int             `json:"min_encryption_version"` // lower ones may not sign
	Latest       int             `json:"latest_version"`
	// Keys holds an object for each version of an asymmetric key, and a number
	// for that of a symmetric one.
	Keys map[string]json.RawMessage `json:"keys"`
}

func parseKeyInfo(data []byte) (*keyInfo, error) {
	info := &keyInfo{}
	if err := json.Unmarshal(data, info); err != nil {
		return nil, fmt.Errorf("not a key: %w", err)
	}
	if info.Type == "" {
		return nil, errors.New("not a key: it has no type")
	}
	return info, nil
}

// public is the public half of the key that ref names. A version that was
// never made or is gone for good, and a key other than the one of ref's hash,
// is fs.ErrNotExist.
func (i *keyInfo) public(ref reference) (*ecdsa.PublicKey, error) {
	if err := i.rightType(fault.Trust, ref.name); err != nil {
		return nil, err
	}
	raw, listed := i.Keys[strconv.Itoa(ref.version)]
	switch {
	case !listed && (ref.version > i.Latest || ref.version < i.MinAvailable):
		return nil, fmt.Errorf("vault key %s, version %d: %w", ref.name, ref.version, fs.ErrNotExist)
	case !listed:
		return nil, fault.Errorf(fault.Config, "version %d of vault key %s is archived, for its min_decryption_version is %d", ref.version, ref.name, i.MinDecrypt)
	}
	pub, err := parsePublic(raw)
	if err != nil {
		return nil, fault.Errorf(fault.Trust, "version %d of vault key %s: %w", ref.version, ref.name, err)
	}
	sum, err := sumOf(pub)
	if err != nil {
		return nil, err
	}
	if ref.sum != "" && ref.sum != sum {
		return nil, fault.Errorf(fault.Trust, "vault key %s is now another key than the one of sha256 %s: %w", ref.name, ref.sum, fs.ErrNotExist)
	}
	return pub, nil
}

// rightType refuses a key of another type with an error of a kind.
func (i *keyInfo) rightType(kind fault.Kind, name string) error {
	switch {
	case i.Type != keyType:
		return fault.Errorf(kind, "vault key %s is of type %s: only %s is used (ES256)", name, clip(i.Type, ""), keyType)
	case i.Derived:
		return fault.Errorf(kind, "vault key %s is derived: only keys that sign as they are can be used", name)
	}
	return nil
}

// parsePublic reads one entry of "keys": a SubjectPublicKeyInfo in PEM.
func parsePublic(raw []byte) (*ecdsa.PublicKey, error) {
	var entry struct {
		PublicKey string `json:"public_key"`
	}
	if err := json.Unmarshal(raw, &entry); err != nil {
		return nil, errors.New("it has no public key")
	}
	block, rest := pem.Decode([]byte(entry.PublicKey))
	if block == nil || block.Type != "PUBLIC KEY" || strings.TrimSpace(string(rest)) != "" {
		return nil, errors.New("its public key is not one PEM block of type PUBLIC KEY")
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, errors.New("its public key is malformed")
	}
	pub, ok := parsed.(*ecdsa.PublicKey)
	if !ok || pub.Curve != elliptic.P256() {
		return nil, errors.New("its public key is not on the curve P-256")
	}
	return pub, nil
}

// maySign refuses a version that the engine would not sign with.
func (i *keyInfo) maySign(mount string, ref reference) error {
	switch {
	case i.SoftDeleted:
		return fault.Errorf(fault.Config, "vault key %s is soft-deleted", ref.name).
			Hint("bao write -f %s/keys/%s/soft-delete-restore", mount, ref.name)
	case ref.version < i.MinEncrypt:
		return fault.Errorf(fault.Config, "version %d of vault key %s may not sign, for its min_encryption_version is %d", ref.version, ref.name, i.MinEncrypt).
			Hint("vault write %s/keys/%s/config min_encryption_version=%d", mount, ref.name, ref.version)
	}
	return nil
}

// left says why a key is, was or can be outside of the engine; "" if it never
// was and cannot be.
func (i *keyInfo) left() string {
	switch {
	case i.Exportable:
		return "may be exported"
	case i.Backup:
		return "may be backed up in plaintext"
	case i.Imported:
		return "was imported, so there may be another copy"
	case len(i.Restored) > 0 && string(i.Restored) != "null":
		return "was restored from a plaintext backup"
	}
	return ""
}
