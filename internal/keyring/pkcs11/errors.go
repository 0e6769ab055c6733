//go:build pkcs11 && cgo

package pkcs11

import (
	"errors"
	"io/fs"
	"slices"

	p11 "github.com/miekg/pkcs11"

	"github.com/stella-ops/stella/internal/fault"
)

// code is the return value (PKCS #11 v2.40, section 5.1) behind err.
func code(err error) (uint, bool) {
	var e p11.Error
	ok := errors.As(err, &e)
	return uint(e), ok
}

// vendor reports whether err is a return value that only the vendor knows.
func vendor(err error) bool {
	c, ok := code(err)
	return ok && c >= p11.CKR_VENDOR_DEFINED
}

// lost reports whether the session, the login or the token may be gone, so that
// another login may help. Clients of networked HSMs report a broken connection
// with a general error or one of their own.
func lost(err error) bool {
	c, ok := code(err)
	return ok && (c >= p11.CKR_VENDOR_DEFINED || slices.Contains([]uint{
		p11.CKR_SESSION_HANDLE_INVALID, p11.CKR_SESSION_CLOSED, p11.CKR_USER_NOT_LOGGED_IN,
		p11.CKR_TOKEN_NOT_PRESENT, p11.CKR_TOKEN_NOT_RECOGNIZED, p11.CKR_SLOT_ID_INVALID,
		p11.CKR_DEVICE_ERROR, p11.CKR_DEVICE_REMOVED, p11.CKR_DEVICE_MEMORY,
		p11.CKR_CRYPTOKI_NOT_INITIALIZED, p11.CKR_GENERAL_ERROR, p11.CKR_FUNCTION_FAILED,
	}, c))
}

// explain gives err, which a call into the module ended with, its kind.
func (p *Provider) explain(err error) error {
	if err == nil || errors.Is(err, fs.ErrNotExist) || fault.KindOf(err) != fault.Unclassified {
		return err
	}
	kind := fault.Unclassified
	switch c, _ := code(err); {
	case lost(err):
		kind = fault.Transient
	case slices.Contains([]uint{p11.CKR_HOST_MEMORY, p11.CKR_SESSION_COUNT, p11.CKR_OPERATION_ACTIVE,
		p11.CKR_FUNCTION_CANCELED, p11.CKR_KEY_HANDLE_INVALID, p11.CKR_OBJECT_HANDLE_INVALID}, c):
		kind = fault.Transient
	case slices.Contains([]uint{p11.CKR_MECHANISM_INVALID, p11.CKR_MECHANISM_PARAM_INVALID, p11.CKR_TOKEN_WRITE_PROTECTED,
		p11.CKR_SESSION_READ_ONLY, p11.CKR_KEY_FUNCTION_NOT_PERMITTED, p11.CKR_KEY_TYPE_INCONSISTENT, p11.CKR_TEMPLATE_INCONSISTENT,
		p11.CKR_TEMPLATE_INCOMPLETE, p11.CKR_ATTRIBUTE_TYPE_INVALID, p11.CKR_ATTRIBUTE_VALUE_INVALID,
		p11.CKR_FUNCTION_NOT_SUPPORTED, p11.CKR_CANT_LOCK, p11.CKR_NEED_TO_CREATE_THREADS}, c):
		kind = fault.Config
	}
	return fault.Errorf(kind, "PKCS#11 token %q: %w", p.o.Token, err)
}
