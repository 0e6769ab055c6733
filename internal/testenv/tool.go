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

// Tool finds a program that a test cannot do without. When it is missing,
// required says that the test must fail instead of being skipped with err.
func Tool(name, debianPackage string) (path string, required bool, err error) {
	path, err = exec.LookPath(name)
	if err != nil {
		err = fmt.Errorf("%s is not installed (Debian package %s)", name, debianPackage)
	}
	return path, slices.Contains(strings.Split(os.Getenv(requireEnv), ","), name), err
}
