package hashivault

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/stella-ops/stella/internal/fault"
)

const (
	maxName      = 128
	maxVersion   = 9 // digits
	maxReference = len(Scheme+"://") + maxName + len("?version=") + maxVersion + len("&sha256=") + 2*sha256.Size
)

// reference is hashivault://NAME?version=N, in what Make returns followed by
// &sha256=HEX: the SHA-256 of the public half's SubjectPublicKeyInfo. NAME
// alone is sigstore's form and means whatever version is the latest. The hash
// is there because a key may be deleted and another made under its name, which
// starts at version 1 again.
type reference struct {
	name    string
	version int
	sum     string // lower-case hex, or "" when an operator did not give it
}

// parseReference accepts exactly what String writes. Errors are of kind Input.
func parseReference(text string) (reference, error) {
	rest, ok := strings.CutPrefix(text, Scheme+"://")
	if !ok || len(text) > maxReference {
		return reference{}, malformed(text)
	}
	name, query, versioned := strings.Cut(rest, "?")
	if !validName(name) {
		return reference{}, malformed(text)
	}
	if !versioned {
		return reference{}, fault.Errorf(fault.Input, "key reference %q names no version: it would mean another key after a rotation", text).
			Hint("write the version that is meant, for example %s?version=1", text)
	}
	query, sum, summed := strings.Cut(query, "&sha256=")
	digits, ok := strings.CutPrefix(query, "version=")
	version, versionOK := parseVersion(digits)
	if !ok || !versionOK || summed && !validSum(sum) {
		return reference{}, malformed(text)
	}
	return reference{name, version, sum}, nil
}

func malformed(text string) error {
	return fault.Errorf(fault.Input, "malformed key reference %.200q", text).
		Hint("write it like %s://NAME?version=1", Scheme)
}

// String is the canonical form.
func (r reference) String() string {
	s := Scheme + "://" + r.name + "?version=" + strconv.Itoa(r.version)
	if r.sum != "" {
		s += "&sha256=" + r.sum
	}
	return s
}

// validName is sigstore's and the engine's own rule for a key's name, which
// starts and ends with a letter, digit or underscore, without "..".
func validName(name string) bool {
	if name == "" || len(name) > maxName || strings.Contains(name, "..") {
		return false
	}
	for i, c := range []byte(name) {
		inner := c == '.' || c == '-'
		if inner && (i == 0 || i == len(name)-1) || !inner && !word(c) {
			return false
		}
	}
	return true
}

func word(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_'
}

// parseVersion reads a positive decimal number without sign or leading zero.
func parseVersion(digits string) (int, bool) {
	if len(digits) > maxVersion {
		return 0, false
	}
	n, err := strconv.Atoi(digits)
	return n, err == nil && n > 0 && strconv.Itoa(n) == digits
}

func validSum(sum string) bool {
	raw, err := hex.DecodeString(sum)
	return err == nil && len(raw) == sha256.Size && hex.EncodeToString(raw) == sum
}

func sumOf(pub *ecdsa.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:]), nil
}
