package testenv

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// requireEnv lists, with commas, the programs whose absence is a failure
// rather than the reason for a skip.
const requireEnv = "STELLA_TEST_REQUIRE"

// Skipper is the part of testing.TB that Need uses.
type Skipper interface {
	Helper()
	Fatal(args ...any)
	Skip(args ...any)
}

// Need finds a program that a test cannot do without. A test without it is
// skipped with the reason, or fails where STELLA_TEST_REQUIRE lists the program.
func Need(t Skipper, name, debianPackage string) (path string) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		Missing(t, name, fmt.Errorf("%s is not installed (Debian package %s)", name, debianPackage))
	}
	return path
}

// Missing ends a test that lacks something that comes with a program.
func Missing(t Skipper, name string, err error) {
	t.Helper()
	if slices.Contains(strings.Split(os.Getenv(requireEnv), ","), name) {
		t.Fatal(err)
	}
	t.Skip(err)
}
