package mirror_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/mirror"
	"github.com/stella-ops/stella/internal/mirror/pack"
	"github.com/stella-ops/stella/internal/release"
	"github.com/stella-ops/stella/internal/testenv"
)

// TestUnpackCancelled ends at every note, the first run at the first, and so on;
// what is shown stays, and the next run goes on. Then everything is there.
func TestUnpackCancelled(t *testing.T) {
	w := newWorld(t)
	one, dir1 := w.packed(1)
	two, dir2 := w.packed(2)
	for _, segments := range [][]int{{0, 1, 2, 3, 4}, {1, 3}} {
		s := w.site()
		if _, err := s.unpack(dir1); err != nil {
			t.Fatal(err)
		}
		dir := stick(t, dir2, segments...)
		for n := 1; ; n++ {
			ctx, cancel := context.WithCancel(t.Context())
			notes := 0
			s.m.Notify = func(mirror.Event) {
				if notes++; notes == n {
					cancel()
				}
			}
			_, err := s.m.Unpack(ctx, "concelier", []string{dir}, false)
			cancel()
			if err == nil || fault.KindOf(err) == fault.Partial {
				if n < 3 {
					t.Errorf("%d runs", n)
				}
				break
			}
			if fault.KindOf(err) != fault.Interrupted || n > 1000 {
				t.Fatalf("note %d: %v", n, err)
			}
			s.shows(one)
		}
		s.m.Notify = nil
		if len(segments) < 5 {
			if _, err := s.unpack(stick(t, dir2, 0, 2, 4)); err != nil {
				t.Errorf("the rest: %v", err)
			}
		}
		s.shows(two)
		tidy(t, s.m)
	}
}

// The environment of a process that is killed.
const (
	killMode   = "STELLA_TEST_KILL" // pack or unpack
	killMirror = "STELLA_TEST_KILL_MIRROR"
	killDir    = "STELLA_TEST_KILL_DIR"
	killPolicy = "STELLA_TEST_KILL_POLICY"
	killNow    = "STELLA_TEST_KILL_NOW"
	killAt     = "STELLA_TEST_KILL_AT"
)

// TestKilled is not a test of its own: it is the process that the tests below
// start and kill. It says on standard output that it has come to its note, and
// waits there.
func TestKilled(t *testing.T) {
	mode := os.Getenv(killMode)
	if mode == "" {
		t.Skip("only as a child of other tests")
	}
	policy, err := release.LoadPolicy(os.Getenv(killPolicy))
	if err != nil {
		t.Fatal(err)
	}
	sec, err := strconv.ParseInt(os.Getenv(killNow), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	at, err := strconv.Atoi(os.Getenv(killAt))
	if err != nil {
		t.Fatal(err)
	}
	notes := 0
	m := &mirror.Mirror{Dir: os.Getenv(killMirror), Policy: policy, Operator: "child", Now: func() time.Time { return time.Unix(sec, 0) }}
	m.Notify = func(mirror.Event) {
		if notes++; notes == at {
			fmt.Println("HERE")
			select {}
		}
	}
	if mode == "pack" {
		_, err = m.Pack(t.Context(), "concelier", "", os.Getenv(killDir), pack.MinSegment, false)
	} else {
		_, err = m.Unpack(t.Context(), "concelier", filepath.SplitList(os.Getenv(killDir)), false)
	}
	fmt.Println("DONE", err)
}

// kill runs a process up to its nth note and kills it there; false when it
// ended before.
func (w *world) kill(mode, dir string, n int) bool {
	w.t.Helper()
	cmd := w.child(mode, dir, n)
	out, err := cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	return w.await(cmd, out)
}

// child is the command line of a process; before comes in front of it.
func (w *world) child(mode, dir string, n int, before ...string) *exec.Cmd {
	w.t.Helper()
	policy := filepath.Join(w.t.TempDir(), "policy.yaml")
	text := "schema_version: 1\nkeys:\n  - id: k1\n    pem: |\n      " + strings.ReplaceAll(strings.TrimSpace(w.pems["k1"]), "\n", "\n      ") + "\n"
	if err := os.WriteFile(policy, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	args := append(before, os.Args[0], "-test.run=^TestKilled$", "-test.v")
	cmd := exec.CommandContext(w.t.Context(), args[0], args[1:]...)
	cmd.Env = append(os.Environ(), killMode+"="+mode, killMirror+"="+w.m.Dir, killDir+"="+dir, killPolicy+"="+policy,
		fmt.Sprintf("%s=%d", killNow, w.at.Unix()), fmt.Sprintf("%s=%d", killAt, n))
	return cmd
}

// await kills the process when it says that it is where it should be.
func (w *world) await(cmd *exec.Cmd, out io.Reader) bool {
	w.t.Helper()
	here := false
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if here = strings.HasSuffix(lines.Text(), "HERE"); here {
			if err := cmd.Process.Kill(); err != nil {
				w.t.Fatal(err)
			}
			break
		}
	}
	err := cmd.Wait()
	if ended, ok := errors.AsType[*exec.ExitError](err); here && (!ok || ended.ExitCode() != -1) || !here && err != nil {
		w.t.Fatalf("the process ended with %v", err)
	}
	return here
}

// TestUnpackKilled kills a real process at notes all over an unpack, each time
// on top of what the one before left.
func TestUnpackKilled(t *testing.T) {
	w := newWorld(t)
	one, dir1 := w.packed(1)
	two, dir2 := w.packed(2)
	s := w.site()
	if _, err := s.unpack(dir1); err != nil {
		t.Fatal(err)
	}
	points := 0
	for n := 1; ; n += 3 {
		if !s.kill("unpack", dir2, n) {
			break
		}
		points++
		st, err := s.m.Status("concelier")
		if err != nil {
			t.Fatal(err)
		}
		if st.Shown.ExportID == "20260301T010000Z" {
			s.shows(one)
		} else {
			s.shows(two)
		}
	}
	if points < 4 {
		t.Errorf("%d points", points)
	}
	t.Logf("killed at %d points", points)
	if _, err := s.unpack(dir2); err != nil {
		t.Errorf("the next run: %v", err)
	}
	s.shows(two)
	tidy(t, s.m)
}

// TestUnpackKilledInside kills a real process inside the system calls that
// change names or make things durable.
func TestUnpackKilledInside(t *testing.T) {
	strace := testenv.Need(t, "strace", "strace")
	w := newWorld(t)
	one, dir1 := w.packed(1)
	two, dir2 := w.packed(2)
	killed := map[string]int{}
	for _, call := range []string{"renameat", "linkat", "symlinkat", "mkdirat", "fsync", "syncfs", "unlinkat"} {
		s := w.site()
		if _, err := s.unpack(dir1); err != nil {
			t.Fatal(err)
		}
		for n := 1; n <= 6; n++ {
			cmd := s.child("unpack", dir2, 0, strace, "-f", "-qq", "-o", os.DevNull, "-e", "trace="+call, "-e", fmt.Sprintf("inject=%s:signal=KILL:when=%d", call, n))
			if out, err := cmd.CombinedOutput(); err == nil {
				if !strings.Contains(string(out), "DONE <nil>") {
					t.Errorf("%s %d: %s", call, n, out)
				}
				break
			} else if strings.Contains(string(out), "ptrace") {
				t.Skipf("strace cannot trace here: %s", out)
			}
			killed[call]++
			st, err := s.m.Status("concelier")
			if err != nil {
				t.Fatal(err)
			}
			if st.Shown.ExportID == "20260301T010000Z" || st.Unfinished {
				s.shows(one)
			} else {
				s.shows(two)
			}
		}
		if _, err := s.unpack(dir2); err != nil {
			t.Errorf("after %s: %v", call, err)
		}
		s.shows(two)
		tidy(t, s.m)
	}
	if killed["renameat"] < 3 || killed["linkat"] < 3 || killed["symlinkat"] < 1 {
		t.Errorf("too few points: %v", killed)
	}
	t.Logf("killed inside %v", killed)
}

// TestPackKilled kills a real process all over a pack; what it left never looks
// whole, and the next run keeps the segments that are.
func TestPackKilled(t *testing.T) {
	w := newWorld(t)
	_, want := w.packed(1)
	dir := filepath.Join(t.TempDir(), "stick")
	points := 0
	for n := 4; w.kill("pack", dir, n); n += 7 {
		points++
		if _, err := os.Stat(filepath.Join(dir, pack.FileManifest)); !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("pack.json is there at note %d", n)
		}
	}
	res, err := w.m.Pack(t.Context(), "concelier", "", dir, pack.MinSegment, false)
	if err != nil || points < 4 {
		t.Errorf("%d points, %+v %v", points, res, err)
	}
	t.Logf("killed at %d points", points)
	got, good := folder(t, dir), folder(t, want)
	for name, data := range good {
		if got[name] != data {
			t.Errorf("%s has other bytes", name)
		}
	}
	if len(got) != len(good) {
		t.Errorf("%d files, want %d", len(got), len(good))
	}
}
