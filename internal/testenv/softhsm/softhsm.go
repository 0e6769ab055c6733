// Package softhsm makes PKCS#11 tokens of SoftHSM, for tests.
//
// It guarantees that a test has a configuration of its own, that nothing is
// left behind, and that a test is skipped for one reason only: SoftHSM is not
// installed, and STELLA_TEST_REQUIRE does not list softhsm2-util.
package softhsm

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stella-ops/stella/internal/testenv"
)

const tool = "softhsm2-util"

// HSM is a configuration of SoftHSM with its tokens.
type HSM struct {
	Module string // path of the PKCS#11 library
	Conf   string // value of SOFTHSM2_CONF, which is set in this process
	util   string
}

// Token is an initialized token.
type Token struct {
	Module  string
	Label   string
	PIN     string // of the user
	PINFile string // holds the PIN, mode 0600
}

// New makes a configuration without tokens and points SOFTHSM2_CONF at it until
// the test ends; processes that the test starts inherit it.
//
// The library reads that variable at C_Initialize, which happens once for all
// of a process. A test must therefore finalize the module before it ends (close
// its Providers), and two tests cannot run at once: t.Setenv sees to that.
// Tokens that are to be seen must exist before the module is initialized.
func New(t testing.TB) *HSM {
	t.Helper()
	util := testenv.Need(t, tool, "softhsm2")
	module, err := library(util)
	if err != nil {
		testenv.Missing(t, tool, err)
	}
	dir := t.TempDir()
	tokens, conf := filepath.Join(dir, "tokens"), filepath.Join(dir, "softhsm2.conf")
	if err := os.Mkdir(tokens, 0o700); err != nil {
		t.Fatal(err)
	}
	// Level ERROR goes to syslog only; a test prints what it is told.
	text := fmt.Sprintf("directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n", tokens)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_CONF", conf)
	return &HSM{Module: module, Conf: conf, util: util}
}

// library finds the library that belongs to the tool: distributions put it into
// different folders under one prefix.
func library(util string) (string, error) {
	prefix := filepath.Dir(filepath.Dir(util))
	for _, pattern := range []string{"lib/softhsm", "lib/*/softhsm", "lib64/softhsm", "lib64/pkcs11", "lib/pkcs11"} {
		found, err := filepath.Glob(filepath.Join(prefix, pattern, "libsofthsm2.so"))
		if err != nil {
			return "", err
		}
		if len(found) > 0 {
			return found[0], nil
		}
	}
	return "", fmt.Errorf("%s is installed, but no libsofthsm2.so below %s (Debian package libsofthsm2)", tool, prefix)
}

// Token makes a token with a label, which may be in use already, and a PIN.
func (h *HSM) Token(t testing.TB, label, pin string) Token {
	t.Helper()
	h.run(t, "--init-token", "--free", "--label", label, "--pin", pin, "--so-pin", "so-"+pin)
	file := filepath.Join(t.TempDir(), "pin")
	if err := os.WriteFile(file, []byte(pin+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return Token{Module: h.Module, Label: label, PIN: pin, PINFile: file}
}

// Delete deletes the token with a label, as if it were taken away: no process
// that uses it is told.
func (h *HSM) Delete(t testing.TB, label string) {
	t.Helper()
	h.run(t, "--delete-token", "--token", label)
}

// Import brings in a private key from a PKCS #8 file, as an operator would.
func (h *HSM) Import(t testing.TB, token Token, file, label, hexID string) {
	t.Helper()
	h.run(t, "--import", file, "--token", token.Label, "--pin", token.PIN, "--label", label, "--id", hexID)
}

func (h *HSM) run(t testing.TB, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), h.util, append(args, "--module", h.Module)...)
	cmd.Env = append(os.Environ(), "SOFTHSM2_CONF="+h.Conf)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", tool, args[0], err, strings.TrimSpace(string(out)))
	}
}
