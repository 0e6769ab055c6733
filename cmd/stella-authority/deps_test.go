package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// allowed are the modules that this program may link beside the standard
// library and its own: the database driver, JOSE, metrics, and what they need.
var allowed = []string{
	"go.mongodb.org/mongo-driver/v2/", "github.com/xdg-go/", "github.com/youmark/pkcs8", "github.com/klauspost/compress",
	"github.com/golang/snappy", "github.com/go-jose/go-jose/v4", "github.com/prometheus/", "github.com/beorn7/perks/",
	"github.com/cespare/xxhash/v2", "github.com/munnerz/goautoneg", "google.golang.org/protobuf/", "go.yaml.in/yaml/",
	"golang.org/x/", "filippo.io/edwards25519", "github.com/gofrs/flock",
	"github.com/cenkalti/backoff/v5",
	// What replicas may share besides the database.
	"github.com/redis/go-redis/v9", "go.uber.org/atomic",
	// Clients of AWS KMS and of the transit engine, for keys kept there.
	"github.com/aws/aws-sdk-go-v2/", "github.com/aws/smithy-go", "github.com/openbao/openbao/api/v2", "github.com/hashicorp/",
	"github.com/go-viper/mapstructure/v2", "github.com/mitchellh/mapstructure", "github.com/ryanuber/go-glob",
}

// refused are parts of this repository that a server must not contain.
var refused = []string{"cli", "ui", "rotate", "oauth", "objstore", "testenv"}

func TestDependencies(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	const own = "github.com/stella-ops/stella/"
	for _, path := range strings.Fields(string(out)) {
		if rest, ok := strings.CutPrefix(path, own); ok {
			for _, name := range refused {
				if dir := "internal/" + name; rest == dir || strings.HasPrefix(rest, dir+"/") {
					t.Errorf("links %s", path)
				}
			}
			continue
		}
		if !slices.ContainsFunc(allowed, func(p string) bool { return strings.HasPrefix(path, p) }) {
			t.Errorf("links %s, which is on no list", path)
		}
	}
}
