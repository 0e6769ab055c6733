package fakevault

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// userError is a refusal with status 400; others are 500, as with the engine.
type userError string

func (e userError) Error() string { return string(e) }

// key is a named key and its versions, those from minAvailable to latest.
type key struct {
	name, kind                           string
	versions                             map[int]version
	minAvailable, minDecrypt, minEncrypt int
	latest                               int
	exportable, backup                   bool
	imported, deletion, softDeleted      bool
	restored                             bool
}

type version struct {
	private *ecdsa.PrivateKey // nil for a symmetric key, which is not needed
	made    time.Time
}

func newKey(name string, in request) (*key, error) {
	k := &key{
		name: name, kind: in.Type, versions: map[int]version{}, minDecrypt: 1,
		exportable: in.Exportable, backup: in.Backup,
	}
	if k.curve() == nil && k.kind != "aes256-gcm96" {
		return nil, fmt.Errorf("unknown key type %s", in.Type)
	}
	return k, k.rotate()
}

// curve is nil for a key that cannot sign.
func (k *key) curve() elliptic.Curve {
	switch k.kind {
	case "ecdsa-p256":
		return elliptic.P256()
	case "ecdsa-p384":
		return elliptic.P384()
	}
	return nil
}

func (k *key) rotate() error {
	v := version{made: time.Now().UTC()}
	if c := k.curve(); c != nil {
		var err error
		if v.private, err = ecdsa.GenerateKey(c, rand.Reader); err != nil {
			return err
		}
	}
	k.latest++
	k.versions[k.latest] = v
	return nil
}

func (k *key) configure(in request) error {
	minDecrypt, minEncrypt := k.minDecrypt, k.minEncrypt
	if in.MinDecrypt != nil {
		minDecrypt = max(1, *in.MinDecrypt)
	}
	if in.MinEncrypt != nil {
		minEncrypt = *in.MinEncrypt
	}
	switch {
	case minDecrypt > k.latest:
		return fmt.Errorf("cannot set min decryption version of %d, latest key version is %d", minDecrypt, k.latest)
	case minEncrypt > k.latest || minEncrypt < 0:
		return fmt.Errorf("cannot set min encryption version of %d, latest key version is %d", minEncrypt, k.latest)
	case minEncrypt > 0 && minEncrypt < minDecrypt:
		return errors.New("cannot set min encryption/decryption values; min encryption version must be greater than or equal to min decryption version")
	}
	k.minDecrypt, k.minEncrypt = minDecrypt, minEncrypt
	if in.Deletion != nil {
		k.deletion = *in.Deletion
	}
	k.exportable = k.exportable || in.Exportable // once set, it stays
	k.backup = k.backup || in.Backup
	return nil
}

func (k *key) trim(minAvailable int) error {
	if k.minEncrypt == 0 || minAvailable < k.minAvailable || minAvailable > min(k.minEncrypt, k.minDecrypt) {
		return fmt.Errorf("cannot set min available version of %d", minAvailable)
	}
	k.minAvailable = minAvailable
	for v := range k.versions {
		if v < minAvailable {
			delete(k.versions, v)
		}
	}
	return nil
}

// describe is the data of "Read key". Versions below min_decryption_version
// are in the archive and not shown.
func (k *key) describe() map[string]any {
	curve := k.curve()
	keys := map[string]any{}
	for v, held := range k.versions {
		switch {
		case v < k.minDecrypt:
		case curve == nil:
			keys[strconv.Itoa(v)] = held.made.Unix()
		default:
			keys[strconv.Itoa(v)] = map[string]any{
				"name": curve.Params().Name, "creation_time": held.made, "public_key": publicPEM(held.private), "certificate_chain": "",
			}
		}
	}
	data := map[string]any{
		"name": k.name, "type": k.kind, "derived": false, "deletion_allowed": k.deletion,
		"min_available_version": k.minAvailable, "min_decryption_version": k.minDecrypt,
		"min_encryption_version": k.minEncrypt, "latest_version": k.latest,
		"exportable": k.exportable, "allow_plaintext_backup": k.backup,
		"supports_encryption": curve == nil, "supports_decryption": curve == nil,
		"supports_signing": curve != nil, "supports_derivation": curve == nil,
		"auto_rotate_period": 0, "imported_key": k.imported, "soft_deleted": k.softDeleted, "keys": keys,
	}
	if k.imported {
		data["imported_key_allow_rotation"] = false
	}
	if k.restored {
		data["restore_info"] = map[string]any{"time": time.Now().UTC(), "version": k.latest}
	}
	return data
}

func publicPEM(private *ecdsa.PrivateKey) string {
	der, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		return ""
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// sign returns a signature in base64 and the version that made it.
func (k *key) sign(in request, forge bool) (string, int, error) {
	v := in.Version
	switch {
	case k.softDeleted:
		return "", 0, errors.New("refusing to use soft-deleted key")
	case v == 0:
		v = k.latest
	case v < 0:
		return "", 0, errors.New("requested version for signing is negative")
	case v > k.latest:
		return "", 0, errors.New("requested version for signing is higher than the latest key version")
	case v < k.minEncrypt:
		return "", 0, errors.New("requested version for signing is less than the minimum encryption key version")
	case v < k.minDecrypt:
		return "", 0, errors.New("no such key version")
	}
	digest, err := base64.StdEncoding.DecodeString(in.Input)
	if err != nil {
		return "", 0, userError("unable to decode input as base64: " + err.Error())
	}
	if in.Marshaling != nil && *in.Marshaling != "asn1" {
		return "", 0, userError("invalid marshaling type " + strconv.Quote(*in.Marshaling))
	}
	if !in.Prehashed {
		sum := sha256.Sum256(digest)
		digest = sum[:]
	}
	private := k.versions[v].private
	if forge {
		if private, err = ecdsa.GenerateKey(k.curve(), rand.Reader); err != nil {
			return "", 0, err
		}
	}
	sig, err := ecdsa.SignASN1(rand.Reader, private, digest)
	return base64.StdEncoding.EncodeToString(sig), v, err
}
