// Package pkcs11 is a keyring.Provider on a PKCS #11 token: an HSM.
//
// It guarantees that a key it makes or opens is an EC P-256 key that is
// sensitive and was never extractable, that a reference is looked up by CKA_ID
// and by nothing else, that a caller whose context ends has its error at once
// although a call into a module cannot be interrupted, and that a PIN the token
// refused is not shown to it a second time. A token that is away is an error of
// kind Transient until it is back; nothing needs a restart.
//
// Modules are C libraries. Only a build with cgo and the tag pkcs11 can load
// one; in any other, Open says so.
package pkcs11

import (
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/secret"
)

// maxLabel is the size of CK_TOKEN_INFO.label (PKCS #11 v2.40, section 3.2).
const maxLabel = 32

// Options says where the token is.
type Options struct {
	// Module is the absolute path of the vendor's library. It runs inside this
	// process and is trusted as such.
	Module string
	// Token is the label of the token, 1 to 32 bytes; one token must have it.
	Token string
	// PIN is the PIN of the token's user. It is read at every login, so it must
	// be something that can be read again: file:, cred: or env:.
	PIN secret.Ref
}

// check reports what is wrong with o without loading the module. All errors are
// of kind Config.
func (o Options) check() error {
	if !filepath.IsAbs(o.Module) {
		return fault.Errorf(fault.Config, "the PKCS#11 module %q is not an absolute path", o.Module)
	}
	info, err := os.Stat(o.Module)
	if err != nil {
		return fault.Errorf(fault.Config, "looking for the PKCS#11 module: %w", err)
	}
	if !info.Mode().IsRegular() {
		return fault.Errorf(fault.Config, "the PKCS#11 module %q is not a regular file", o.Module)
	}
	// Labels are padded with blanks, so one that ends in a blank never matches.
	if o.Token == "" || len(o.Token) > maxLabel || !utf8.ValidString(o.Token) || strings.Contains(o.Token, "\x00") || strings.HasSuffix(o.Token, " ") {
		return fault.Errorf(fault.Config, "%.40q cannot be the label of a PKCS#11 token (1 to %d bytes of UTF-8, no blank at the end)", o.Token, maxLabel)
	}
	if err := o.PIN.Check(); err != nil {
		return fault.Errorf(fault.Config, "the PIN of token %q: %w", o.Token, err)
	}
	if o.PIN == "stdin" || strings.HasPrefix(string(o.PIN), "fd:") {
		return fault.Errorf(fault.Config, "the PIN of token %q is read at every login, and %s can be read once only", o.Token, o.PIN).
			Hint("use file:PATH, cred:NAME or env:NAME")
	}
	return nil
}
