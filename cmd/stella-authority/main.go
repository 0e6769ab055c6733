// Command stella-authority is the OIDC Authority: it mints short-lived tokens,
// publishes the key set, and runs the life of its signing keys.
package main

import (
	"os"

	"github.com/stella-ops/stella/internal/authority"
)

func main() {
	os.Exit(authority.Main(os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}
