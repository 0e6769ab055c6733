//go:build pkcs11 && cgo

package authority_test

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/keyring/pkcs11"
	"github.com/stella-ops/stella/internal/secret"
	"github.com/stella-ops/stella/internal/testenv/softhsm"
)

// TestKeysInAnHSM is TestKeysAtAProvider with a PKCS #11 token.
func TestKeysInAnHSM(t *testing.T) {
	keysAtAProvider(t, func(t *testing.T, s *site) keyProvider {
		token := softhsm.New(t).Token(t, "authority", "1234567890")
		pin := secret.Ref("file:" + token.PINFile)
		other, err := pkcs11.Open(pkcs11.Options{Module: token.Module, Token: token.Label, PIN: pin})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := other.Close(); err != nil {
				t.Error(err)
			}
		})
		return keyProvider{
			signing: fmt.Sprintf(`, keySource: pkcs11, pkcs11: {module: %q, token: %s, pin: %q}`, token.Module, token.Label, pin),
			ended: func(ref string) bool {
				_, err := other.Open(t.Context(), ref)
				gone := errors.Is(err, fs.ErrNotExist)
				if err != nil && !gone && fault.KindOf(err) != fault.Transient { // it may vanish while we look
					t.Errorf("looking for %s: %v", ref, err)
				}
				return gone
			},
			given: func() string {
				ref, err := other.Make(t.Context(), "theirs")
				if err != nil {
					t.Fatal(err)
				}
				return ref
			},
		}
	})
}
