package keyring

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/testenv"
)

// The sweep runs each transition in a process of its own under strace, once
// per system call and fault. The process is this test binary, told by its
// environment to make one transition and to do all of it on one thread, so
// that the n-th call is the same in every run.
const (
	sweepEnv = "STELLA_KEYRING_SWEEP" // scenario name
	dirEnv   = "STELLA_KEYRING_DIR"
	marker   = "/stella-sweep-begins"
)

func init() {
	if os.Getenv(sweepEnv) != "" {
		runtime.LockOSThread() // the main goroutine stays on the main thread
	}
}

func TestMain(m *testing.M) {
	if name := os.Getenv(sweepEnv); name != "" {
		os.Exit(sweepStep(name, os.Getenv(dirEnv)))
	}
	os.Exit(m.Run())
}

// sweepOptions: the setup happened hours ago, so everything is mature.
func sweepOptions(replica string, now func() time.Time) Options {
	return Options{Policy: testPolicy(), CreateIfMissing: true, Replica: replica, Now: now}
}

func sweepStep(name, dir string) int {
	i := slices.IndexFunc(scenarios(), func(s scenario) bool { return s.name == name })
	store, err := OpenDir(dir)
	if err != nil {
		fmt.Println(err)
		return 3
	}
	k := New(store, sweepOptions("swept", time.Now))
	if err := k.Load(context.Background()); err != nil {
		fmt.Println(err)
		return 3
	}
	_, _ = os.Stat(marker)
	if _, err := k.Change(context.Background(), scenarios()[i].do); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// Calls that a transition makes and that can fail or be the last one.
var sweptCalls = []string{"openat", "newfstatat", "fstat", "fchmod", "write", "fsync", "linkat", "unlinkat", "getdents64", "read", "close"}

func TestFaultSweep(t *testing.T) {
	if raceEnabled {
		t.Skip("system calls are swept without the race detector, by plain 'go test', which CI runs too")
	}
	strace := testenv.Need(t, "strace", "strace")
	points := map[string]int{}
	befores, afters := 0, 0
	for _, sc := range scenarios() {
		template := sweepTemplate(t, sc)
		for _, call := range sweptCalls {
			first, last := recordCalls(t, strace, sc, template, call)
			for n := first; n <= last; n++ {
				for _, f := range []string{"error=EIO", "signal=KILL"} {
					if call == "close" && f == "error=EIO" {
						continue // an injected error leaks the descriptor instead of closing it
					}
					after := sweepPoint(t, strace, sc, template, call, f, n)
					points[f]++
					if after {
						afters++
					} else {
						befores++
					}
				}
			}
		}
	}
	t.Logf("fault points: %d EIO, %d KILL over %d transitions and %d kinds of system call; state before: %d, after: %d",
		points["error=EIO"], points["signal=KILL"], len(scenarios()), len(sweptCalls), befores, afters)
	if befores == 0 || afters == 0 {
		t.Error("the injected faults did not reach both outcomes, so the sweep shows nothing")
	}
}

// sweepTemplate makes a key directory in the state before the transition.
func sweepTemplate(t *testing.T, sc scenario) string {
	t.Helper()
	path := secretDir(t)
	c := &clock{t: time.Now().Add(-time.Duration(2+len(sc.setup)) * time.Hour).UTC().Truncate(time.Second)}
	store, err := OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	k := New(store, sweepOptions("setup", c.now))
	if err := k.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, ch := range sc.setup {
		c.add(time.Hour)
		if _, err := k.Change(t.Context(), ch); err != nil {
			t.Fatalf("%s: setting up %s: %v", sc.name, ch.Action, err)
		}
	}
	return path
}

func sweepCommand(strace string, sc scenario, dir string, args ...string) *exec.Cmd {
	cmd := exec.Command(strace, append(args, os.Args[0])...)
	cmd.Env = append(os.Environ(), sweepEnv+"="+sc.name, dirEnv+"="+dir)
	return cmd
}

func copyDir(t *testing.T, from string) string {
	t.Helper()
	to := secretDir(t)
	entries, err := os.ReadDir(from)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(from, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, e.Name()), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return to
}

// recordCalls counts the calls of one kind before and during the transition.
func recordCalls(t *testing.T, strace string, sc scenario, template, call string) (first, last int) {
	t.Helper()
	trace := filepath.Join(t.TempDir(), "trace")
	// The marker is a stat, so that kind is always traced too.
	cmd := sweepCommand(strace, sc, copyDir(t, template), "-o", trace, "-e", "trace=newfstatat,"+call)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s without a fault: %v\n%s", sc.name, err, out)
	}
	data, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), call+"(") {
			n++
		}
		if strings.Contains(lines.Text(), marker) {
			first = n + 1
		}
	}
	if first == 0 {
		t.Fatalf("%s: the transition left no mark in the trace", sc.name)
	}
	return first, n
}

var injected = regexp.MustCompile(`\(INJECTED\)|killed by SIGKILL`)

// sweepPoint injects one fault and checks the promise of the package.
func sweepPoint(t *testing.T, strace string, sc scenario, template, call, fault string, n int) (after bool) {
	t.Helper()
	dir := copyDir(t, template)
	trace := filepath.Join(t.TempDir(), "trace")
	out, runErr := sweepCommand(strace, sc, dir, "-o", trace, "-e", "trace="+call,
		"-e", fmt.Sprintf("inject=%s:%s:when=%d", call, fault, n)).CombinedOutput()
	data, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	where := fmt.Sprintf("%s: %s at %s number %d", sc.name, fault, call, n)
	if !injected.Match(data) {
		t.Fatalf("%s: was not injected\n%s", where, data)
	}
	k := load(t, dir, sweepOptions("checker", time.Now))
	if _, err := k.History(t.Context()); err != nil {
		t.Fatalf("%s: history does not verify: %v", where, err)
	}
	before := uint64(1 + len(sc.setup))
	switch k.Ring().Version {
	case before:
		if runErr == nil {
			t.Fatalf("%s: success was reported and nothing was done\n%s", where, out)
		}
		if _, err := k.Change(t.Context(), sc.do); err != nil {
			t.Fatalf("%s: it cannot be finished: %v", where, err)
		}
	case before + 1:
		after = true
	default:
		t.Fatalf("%s: version %d after %d", where, k.Ring().Version, before)
	}
	checkPrivateKeys(t, k, where, n)
	return after
}
