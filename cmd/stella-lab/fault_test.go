package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/keyring"
	"github.com/stella-ops/stella/internal/testenv"
)

// sweepCase is a transition as an operator types it, and what was typed before.
type sweepCase struct {
	verb   string
	before []keyring.Action
}

func sweepCases() []sweepCase {
	return []sweepCase{
		{"stage", nil},
		{"publish", []keyring.Action{keyring.Stage}},
		{"activate", nil},
		{"retire", []keyring.Action{keyring.Activate}},
		{"discard", []keyring.Action{keyring.Stage}},
		{"withdraw", nil},
		{"undo", []keyring.Action{keyring.Activate}},
		{"taint", nil},
		{"revoke", []keyring.Action{keyring.Taint}},
	}
}

// TestFaultSweepOfTheServer injects EIO and KILL at system calls of a running
// Authority while an operator's command makes a transition through its API.
// After each: the state is the one before or the one after, status says which,
// and the command typed again, or advance, finishes it. (Package keyring
// sweeps every system call of every transition in one thread; this is the
// same promise through the real processes.)
func TestFaultSweepOfTheServer(t *testing.T) {
	if raceEnabled {
		t.Skip("system calls are swept without the race detector, by plain 'go test', which CI runs too")
	}
	strace := testenv.Need(t, "strace", "strace")
	// Not read and write: the runtime and the sockets make them too, so that
	// it would be chance what is hit. Package keyring sweeps those.
	calls := map[string]int{"fsync": 4, "linkat": 2, "unlinkat": 2, "fchmod": 2}
	s := &sweep{strace: strace, ca: newTestCA(t), points: map[string]int{}}
	for _, c := range sweepCases() {
		template := s.template(t, c)
		for call, most := range calls {
			for _, fault := range []string{"error=EIO", "signal=KILL"} {
				for n := 1; n <= most; n++ {
					if !s.point(t, c, template, call, fault, n) {
						break
					}
				}
			}
		}
	}
	t.Logf("fault points: %d EIO, %d KILL over %d transitions; state before: %d, after: %d",
		s.points["error=EIO"], s.points["signal=KILL"], len(sweepCases()), s.befores, s.afters)
	if s.befores == 0 || s.afters == 0 {
		t.Error("the injected faults did not reach both outcomes, so the sweep shows nothing")
	}
}

type sweep struct {
	strace          string
	ca              *testenv.CA
	points          map[string]int
	befores, afters int
}

func newTestCA(t *testing.T) *testenv.CA {
	t.Helper()
	ca, err := testenv.NewCA(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// sweepPolicy is the policy of the configuration that site writes.
func sweepPolicy() keyring.Policy {
	s := func(d time.Duration) keyring.Seconds { return keyring.Seconds(d) }
	return keyring.Policy{CacheLifetime: s(5 * time.Minute), Skew: s(30 * time.Second), TokenLifetime: s(2 * time.Minute), SignLease: s(5 * time.Minute)}
}

// template is a key directory whose transitions happened hours ago, so that
// everything in it is mature and over.
func (s *sweep) template(t *testing.T, c sweepCase) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "keys")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	now := time.Now().Add(-time.Duration(2+len(c.before)) * time.Hour)
	store, err := keyring.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	k := keyring.New(store, keyring.Options{Policy: sweepPolicy(), CreateIfMissing: true, Replica: "setup", Now: func() time.Time { return now }})
	if err := k.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, a := range c.before {
		now = now.Add(time.Hour)
		if _, err := k.Change(t.Context(), keyring.Change{Request: keyring.Request{Action: a, Reason: "setup"}, Operator: "setup"}); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// site is one Authority with a key directory of its own, and an operator.
type site struct {
	*lab
	config string
	proc   *testenv.Process
}

func (s *sweep) site(t *testing.T, template string) *site {
	t.Helper()
	dir := t.TempDir()
	keys := filepath.Join(dir, "keys")
	if err := os.CopyFS(keys, os.DirFS(template)); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(keys)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if err := os.Chmod(filepath.Join(keys, e.Name()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(keys, 0o700); err != nil {
		t.Fatal(err)
	}
	cert, key, err := s.ca.Issue("sweep")
	if err != nil {
		t.Fatal(err)
	}
	st := &site{lab: &lab{home: dir, config: filepath.Join(dir, "stella.yaml")}, config: filepath.Join(dir, "authority.yaml")}
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("bootstrap", "0123456789abcdef0123456789abcdef")
	write("authority.yaml", fmt.Sprintf(`schemaVersion: 1
issuer: https://127.0.0.1:0
listen: 127.0.0.1:0
tls: {certificate: %s, key: %s}
storage: {connectionString: memory, acceptDataLoss: true}
signing: {keyDirectory: %s, pollInterval: "00:01:00", signLease: "00:05:00"}
bootstrap: {apiKey: "file:%s/bootstrap"}
`, cert, key, keys, dir))
	st.start(t, s)
	return st
}

func (st *site) start(t *testing.T, s *sweep) {
	t.Helper()
	cmd := as("stella-authority", "--config", st.config)
	p, err := testenv.Start(t.Context(), st.home, "authority", cmd)
	if err != nil {
		t.Fatal(err)
	}
	st.proc = p
	conf := fmt.Sprintf("authority: {url: %q, ca_file: %q, timeout: 3s}\nauth: {bootstrap_key: \"file:%s/bootstrap\", token_cache: %s/tokens}\n",
		p.URL(), s.ca.CertFile, st.home, st.home)
	if err := os.WriteFile(st.lab.config, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
}

// slowest is how long a command may take before it counts as hanging.
const slowest = time.Minute

// typed runs stella and returns its exit code and output.
func (st *site) typed(t *testing.T, args ...string) (int, []byte) {
	t.Helper()
	cmd := as("stella", append([]string{"auth", "rotate"}, args...)...)
	cmd.Env = append(cmd.Env, st.environment()...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	hang := time.AfterFunc(slowest, func() { _ = cmd.Process.Signal(syscall.SIGQUIT) }) // it prints where it hangs
	defer hang.Stop()
	err := cmd.Wait()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return exit.ExitCode(), append(out.Bytes(), errs.Bytes()...)
	} else if err != nil {
		t.Fatal(err)
	}
	return 0, out.Bytes()
}

func (st *site) version(t *testing.T) uint64 {
	t.Helper()
	code, out := st.typed(t, "status", "--output", "json")
	var r keyring.Report
	if err := json.Unmarshal(out, &r); code != 0 || err != nil {
		t.Fatalf("status after the fault: exit %d, %v\n%s", code, err, out)
	}
	return r.Version
}

var wasInjected = regexp.MustCompile(`\(INJECTED\)|killed by SIGKILL`)

// point injects one fault; false when the call does not happen that often.
func (s *sweep) point(t *testing.T, c sweepCase, template, call, fault string, n int) bool {
	t.Helper()
	st := s.site(t, template)
	defer func() { _ = st.proc.Stop() }()
	before := uint64(1 + len(c.before))
	trace := filepath.Join(st.home, "trace")
	detach := s.attach(t, st.proc.PID(), trace, call, fmt.Sprintf("inject=%s:%s:when=%d", call, fault, n))
	code, out := st.typed(t, c.verb, "--reason", "sweep")
	detach()
	data, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	if !wasInjected.Match(data) {
		return false
	}
	where := fmt.Sprintf("%s: %s at %s number %d (exit %d)", c.verb, fault, call, n, code)
	s.points[fault]++
	if strings.Contains(fault, "KILL") {
		select {
		case <-st.proc.Done():
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: it did not end", where)
		}
		st.start(t, s)
	}
	switch v := st.version(t); {
	case v == before:
		s.befores++
		if code == 0 {
			t.Errorf("%s: success was reported and nothing was done", where)
		}
		if code, out := st.typed(t, c.verb, "--reason", "again"); code != 0 {
			t.Errorf("%s: typed again it ends with %d\n%s", where, code, out)
		}
	case v > before:
		s.afters++
	default:
		t.Errorf("%s: version %d after %d", where, v, before)
	}
	if code != 0 && code != 10 && code != 1 {
		t.Errorf("%s: unexpected exit code\n%s", where, out)
	}
	if code, out := st.typed(t, "advance"); code != 0 {
		t.Errorf("%s: advance ends with %d\n%s", where, code, out)
	}
	return true
}

// attach puts strace on a running process and waits until it is there.
func (s *sweep) attach(t *testing.T, pid int, trace, call, inject string) (detach func()) {
	t.Helper()
	cmd := exec.Command(s.strace, "-f", "-p", fmt.Sprint(pid), "-o", trace, "-e", "trace="+call, "-e", inject)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	hang := time.AfterFunc(slowest, func() { _ = cmd.Process.Kill() })
	defer hang.Stop()
	lines := bufio.NewScanner(stderr)
	attached := false
	for lines.Scan() {
		if strings.Contains(lines.Text(), "attached") {
			attached = true
			break
		}
		if strings.Contains(lines.Text(), "ptrace") {
			t.Fatalf("strace cannot attach: %s", lines.Text())
		}
	}
	if !attached {
		t.Fatal("strace ended before it was attached")
	}
	go func() {
		for lines.Scan() { // so that it never blocks on a full pipe
		}
	}()
	return func() {
		_ = cmd.Process.Signal(os.Interrupt)
		// A tracer can hang on a process that it killed itself.
		late := time.AfterFunc(5*time.Second, func() {
			t.Log("strace did not end by itself: killed")
			_ = cmd.Process.Kill()
		})
		defer late.Stop()
		_ = cmd.Wait()
	}
}
