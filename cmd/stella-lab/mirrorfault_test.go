package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/mirror/publish"
	"github.com/stella-ops/stella/internal/release"
	"github.com/stella-ops/stella/internal/testenv"
	"github.com/stella-ops/stella/internal/testenv/exports"
)

// mirrorSite is a publisher with three releases in folders, and a mirror that
// shows the first of them and has half of the second in staging.
type mirrorSite struct {
	stella  string // the program
	strace  string
	dir     string // sources, policy
	base    string // a mirror in the state before the swept run
	exports []string
}

// TestFaultSweepOfMirrorSync runs the real `stella mirror sync` under strace
// and injects EIO and KILL at every system call of each kind that touches the
// mirror's folder. After each: `stella mirror verify` passes, what is shown is
// the old release or the new one, and the next sync succeeds and verifies.
func TestFaultSweepOfMirrorSync(t *testing.T) {
	if raceEnabled {
		t.Skip("system calls are swept without the race detector, by plain 'go test', which CI runs too")
	}
	s := newMirrorSite(t)
	// Reads, writes and names, and what makes them durable. An injected error
	// of close leaks the descriptor instead of closing it.
	calls := []string{
		"openat", "read", "pread64", "write", "close", "fsync", "syncfs", "mkdirat", "linkat", "symlinkat", "renameat", "renameat2", "unlinkat",
		"ftruncate", "readlinkat", "getdents64", "newfstatat", "fstat", "statfs", "flock", "fchmod", "fchmodat", "lseek",
	}
	points, outcomes := map[string]int{}, map[string]int{}
	for _, call := range calls {
		reach := s.record(t, call)
		for n := range reach {
			for _, fault := range []string{"error=EIO", "signal=KILL"} {
				if call == "close" && fault == "error=EIO" {
					continue
				}
				shown, hit := s.point(t, call, fault, n+1)
				if hit {
					points[fault+" "+call]++
					outcomes[shown]++
				}
			}
		}
	}
	total := 0
	for _, k := range slices.Sorted(maps.Keys(points)) {
		t.Logf("%4d %s", points[k], k)
		total += points[k]
	}
	t.Logf("%d fault points; the old release was shown after %d of them, the new one after %d", total, outcomes[s.exports[0]], outcomes[s.exports[1]])
	if outcomes[s.exports[0]] == 0 || outcomes[s.exports[1]] == 0 || total < 100 {
		t.Error("the injected faults did not reach both outcomes, so the sweep shows nothing")
	}
}

func newMirrorSite(t *testing.T) *mirrorSite {
	t.Helper()
	s := &mirrorSite{strace: testenv.Need(t, "strace", "strace"), dir: t.TempDir()}
	s.stella = filepath.Join(s.dir, "stella")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", s.stella, "../stella")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // as it is released; the C library asks a socket who the user is
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	key, err := exports.NewKey(jose.ES256, "sweep")
	if err != nil {
		t.Fatal(err)
	}
	policy, err := exports.Policy(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.dir, "trust.yaml"), policy, 0o644); err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(s.dir, "published")
	if err := os.Mkdir(to, 0o755); err != nil {
		t.Fatal(err)
	}
	s.base = filepath.Join(s.dir, "base")
	for i := range 2 {
		from := filepath.Join(s.dir, fmt.Sprintf("export%d", i))
		at := time.Now().Add(time.Duration(i-10) * time.Minute).UTC()
		o := exports.Options{Key: key, Created: at, Seed: uint64(i), Advisories: 5, Domains: []string{"primary"}, ExportID: at.Format("20060102T150405Z")}
		if err := exports.Write(t.Context(), from, o); err != nil {
			t.Fatal(err)
		}
		d, err := publish.Directory(to)
		if err != nil {
			t.Fatal(err)
		}
		_, err = publish.Publish(t.Context(), from, d, publish.Options{
			Feed: exports.Concelier, Signers: []publish.Signer{{Signer: key.Signer, Provider: "default"}}, Now: func() time.Time { return at },
		})
		if err != nil {
			t.Fatal(err)
		}
		_ = d.Close()
		s.exports = append(s.exports, o.ExportID)
		if i == 0 {
			if err := os.Mkdir(s.base, 0o755); err != nil {
				t.Fatal(err)
			}
			if out, err := s.command(t.Context(), s.base, "sync").CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
		}
	}
	s.halfFetched(t)
	return s
}

// halfFetched leaves what a run that was cut off leaves: half a member.
func (s *mirrorSite) halfFetched(t *testing.T) {
	t.Helper()
	dir := filepath.Join(s.dir, "published", s.exports[1])
	data, err := os.ReadFile(filepath.Join(dir, release.FileStatement))
	if err != nil {
		t.Fatal(err)
	}
	st, err := release.ParseStatement(data)
	if err != nil {
		t.Fatal(err)
	}
	m, _ := st.Find(release.BundlePath("primary"))
	bundle, err := os.ReadFile(filepath.Join(dir, m.Path))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.base, "concelier/staging", m.SHA256+".part"), bundle[:len(bundle)/2], 0o644); err != nil {
		t.Fatal(err)
	}
}

// command is stella mirror VERB on the mirror below root.
func (s *mirrorSite) command(ctx context.Context, root, verb string, wrap ...string) *exec.Cmd {
	words := append(wrap, s.stella, "mirror", verb)
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	config := filepath.Join(root, "stella.yaml")
	text := fmt.Sprintf("mirror: {root: %q, trust_policy: %q, parallel: 1, settle: 10ms, feeds: [{name: concelier, source: \"file://%s/latest\"}]}\n",
		root, filepath.Join(s.dir, "trust.yaml"), filepath.Join(s.dir, "published"))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		panic(err)
	}
	// One processor and no garbage collection keep the calls in nearly the
	// same order in each run.
	cmd.Env = append(os.Environ(), "STELLA_CONFIG="+config, "GOMAXPROCS=1", "GOGC=off")
	return cmd
}

func (s *mirrorSite) copy(t *testing.T) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "mirror")
	if out, err := exec.CommandContext(t.Context(), "cp", "-a", s.base, to).CombinedOutput(); err != nil { // keeps links
		t.Fatalf("%v\n%s", err, out)
	}
	return to
}

// record returns how many calls of a kind one thread makes up to the last one
// that touches the mirror's folder.
func (s *mirrorSite) record(t *testing.T, call string) int {
	t.Helper()
	root := s.copy(t)
	trace := filepath.Join(t.TempDir(), "trace")
	if out, err := s.command(t.Context(), root, "sync", s.strace, "-f", "-y", "-o", trace, "-e", "trace="+call).CombinedOutput(); err != nil {
		t.Fatalf("without a fault: %v\n%s", err, out)
	}
	data, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	counts, most := map[string]int{}, 0
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		tid, rest, _ := strings.Cut(lines.Text(), " ")
		if !strings.HasPrefix(strings.TrimSpace(rest), call+"(") {
			continue
		}
		counts[tid]++
		if strings.Contains(rest, root) || call == "syncfs" {
			most = max(most, counts[tid])
		}
	}
	return most
}

var mirrorInjected = regexp.MustCompile(`(?m)^.*(\(INJECTED\)|killed by SIGKILL).*$`)

// point injects one fault. hit says that it struck a call on the mirror's
// folder: the n-th call of another thread may be on something else.
func (s *mirrorSite) point(t *testing.T, call, fault string, n int) (shown string, hit bool) {
	t.Helper()
	root := s.copy(t)
	defer os.RemoveAll(root)
	trace := filepath.Join(t.TempDir(), "trace")
	out, runErr := s.command(t.Context(), root, "sync", s.strace, "-f", "-y", "-o", trace, "-e", "trace="+call,
		"-e", fmt.Sprintf("inject=%s:%s:when=%d", call, fault, n)).CombinedOutput()
	data, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range mirrorInjected.FindAllString(string(data), -1) {
		hit = hit || strings.Contains(line, root) || fault == "signal=KILL" || call == "syncfs"
	}
	if !hit {
		return "", false
	}
	where := fmt.Sprintf("%s at %s number %d (sync: %v)", fault, call, n, runErr)
	if out, err := s.command(t.Context(), root, "verify").CombinedOutput(); err != nil {
		t.Errorf("%s: verify: %v\n%s", where, err, out)
	}
	to, err := os.Readlink(filepath.Join(root, "concelier/latest"))
	if err != nil {
		t.Errorf("%s: %v\n%s", where, err, out)
	}
	if shown = filepath.Base(to); !slices.Contains(s.exports, shown) {
		t.Errorf("%s: %q is shown", where, to)
	}
	if runErr == nil && shown != s.exports[1] {
		t.Errorf("%s: exit 0, but %s is shown\n%s", where, shown, out)
	}
	for _, verb := range []string{"sync", "verify"} {
		if out, err := s.command(t.Context(), root, verb).CombinedOutput(); err != nil {
			t.Errorf("%s: next %s: %v\n%s", where, verb, err, out)
		}
	}
	if to, _ = os.Readlink(filepath.Join(root, "concelier/latest")); filepath.Base(to) != s.exports[1] {
		t.Errorf("%s: the next sync shows %q", where, to)
	}
	return shown, true
}
