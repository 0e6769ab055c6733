//go:build !pkcs11 || !cgo

package pkcs11

import (
	"slices"
	"testing"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/keyring"
)

var _ keyring.Provider = (*Provider)(nil)

func TestWithout(t *testing.T) {
	p, err := Open(Options{})
	if p != nil || fault.KindOf(err) != fault.Config || !slices.Contains(fault.HintsOf(err), "CGO_ENABLED=1 go build -tags pkcs11 ./cmd/stella-authority") {
		t.Errorf("%v, %v, %q", p, err, fault.HintsOf(err))
	}
	p = &Provider{}
	_, makeErr := p.Make(t.Context(), "a")
	_, adoptErr := p.Adopt(t.Context(), "pkcs11:id=a")
	_, openErr := p.Open(t.Context(), "pkcs11:id=a")
	for what, err := range map[string]error{"make": makeErr, "adopt": adoptErr, "open": openErr, "destroy": p.Destroy(t.Context(), "pkcs11:id=a")} {
		if fault.KindOf(err) != fault.Config {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}
