package main

import (
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/stella-ops/stella/internal/authority"
	"github.com/stella-ops/stella/internal/testenv/s3server"
)

var update = flag.Bool("update", false, "rewrite what the scripts compare with")

// programs are the commands that scripts run as real processes: this test
// binary calls itself. A new binary is added here, by the function that its
// main calls.
func programs() map[string]func() {
	return map[string]func(){
		"stella":  main,
		"webroot": webroot,
		"stella-authority": func() {
			os.Exit(authority.Main(os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
		},
	}
}

func TestMain(m *testing.M) {
	if code, was := s3server.Child(); was { // the S3 server of scripts is this program too
		os.Exit(code)
	}
	testscript.Main(m, programs())
}

// TestScripts runs every script below testdata/script. Folders are walked, so
// that no script is ever left out.
func TestScripts(t *testing.T) {
	dirs := map[string]bool{}
	err := filepath.WalkDir("testdata/script", func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			if !strings.HasSuffix(path, ".txtar") {
				t.Errorf("%s is no script: the suffix is .txtar", path)
			}
			dirs[filepath.Dir(path)] = true
		}
		return err
	})
	if err != nil || len(dirs) == 0 {
		t.Fatalf("walking the scripts: %d folders, %v", len(dirs), err)
	}
	s3 := newSharedS3(t)
	for dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			t.Parallel()
			testscript.Run(t, testscript.Params{
				Dir:                 dir,
				Setup:               setup,
				Cmds:                addMirrorCommands(addWaitCommands(addPersonCommands(addAuthCommands(commands()))), s3),
				RequireExplicitExec: true,
				RequireUniqueNames:  true,
				UpdateScripts:       *update,
			})
		})
	}
}

// setup gives each script a home, no configuration but its own, and a socket
// on which servers say that they are ready.
func setup(env *testscript.Env) error {
	ears, err := listen()
	if err != nil {
		return err
	}
	env.Defer(ears.close)
	env.Values[earsKey{}] = ears
	env.Setenv("HOME", filepath.Join(env.WorkDir, "home"))
	env.Setenv("XDG_CONFIG_HOME", filepath.Join(env.WorkDir, "xdg"))
	env.Setenv("XDG_STATE_HOME", filepath.Join(env.WorkDir, "state"))
	env.Setenv("NOTIFY_SOCKET", ears.path)
	env.Setenv("NO_COLOR", "")
	env.Setenv("GORACE", "atexit_sleep_ms=10") // under -race each process would rest a second at its end
	env.Vars = slices.DeleteFunc(env.Vars, func(line string) bool { return strings.HasPrefix(line, "STELLA_") })
	return os.Mkdir(filepath.Join(env.WorkDir, "home"), 0o700)
}
