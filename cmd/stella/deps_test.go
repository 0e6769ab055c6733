package main

import (
	"os/exec"
	"strings"
	"testing"
)

// TestDeps holds what this binary links to docs/design: no server, no lab and
// nothing that only those need.
func TestDeps(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	forbidden := map[string]string{
		"github.com/stella-ops/stella/internal/authority":          "a server domain",
		"github.com/stella-ops/stella/internal/signer":             "a server domain",
		"github.com/stella-ops/stella/internal/licensing":          "a server domain",
		"github.com/stella-ops/stella/internal/mirrord":            "a server domain",
		"github.com/stella-ops/stella/internal/router":             "a server domain",
		"github.com/stella-ops/stella/internal/jobs":               "a server domain",
		"github.com/stella-ops/stella/internal/testenv":            "for tests and the lab",
		"github.com/stella-ops/stella/cmd/stella-lab":              "the lab",
		"github.com/stella-ops/stella/internal/keyring/awskms":     "for the server that holds the keys",
		"github.com/stella-ops/stella/internal/keyring/hashivault": "for the server that holds the keys",
		"github.com/stella-ops/stella/internal/keyring/pkcs11":     "for the server that holds the keys",
		"github.com/FerretDB/FerretDB":                             "the lab's database",
		"github.com/versity/versitygw":                             "the lab's S3 server",
		"testing":                                                  "for tests",
		"github.com/vbauerster/mpb":                                "22 to 37 ms at every start",
	}
	for pkg := range strings.FieldsSeq(string(out)) {
		for prefix, why := range forbidden {
			if pkg == prefix || strings.HasPrefix(pkg, prefix+"/") {
				t.Errorf("stella links %s: %s", pkg, why)
			}
		}
	}
}
