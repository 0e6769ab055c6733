//go:build !pkcs11 || !cgo

package pkcs11

import (
	"context"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/keyring"
)

// Provider stands in for the real one; no build without PKCS#11 makes one.
type Provider struct{}

// Open fails with an error of kind Config: this build has no PKCS#11.
func Open(Options) (*Provider, error) { return nil, without() }

func without() error {
	return fault.Errorf(fault.Config, "this build has no PKCS#11: it needs cgo and the build tag pkcs11").
		Hint("CGO_ENABLED=1 go build -tags pkcs11 ./cmd/stella-authority")
}

// Make fails as Open does.
func (*Provider) Make(context.Context, string) (string, error) { return "", without() }

// Adopt fails as the function Open does.
func (*Provider) Adopt(context.Context, string) (string, error) { return "", without() }

// Open fails as the function Open does.
func (*Provider) Open(context.Context, string) (keyring.RemoteKey, error) { return nil, without() }

// Destroy fails as Open does.
func (*Provider) Destroy(context.Context, string) error { return without() }

// Close does nothing.
func (*Provider) Close() error { return nil }
