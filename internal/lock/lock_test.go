package lock

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/fault"
)

// TestMain lets the test binary hold a lock as another process.
func TestMain(m *testing.M) {
	if path := os.Getenv("STELLA_TEST_HOLD"); path != "" {
		if _, err := Acquire(context.Background(), path, "the child\x1b[2K", 0); err != nil {
			os.Exit(fault.KindOf(err).ExitCode())
		}
		os.Stdout.WriteString("held\n")
		_, _ = bufio.NewReader(os.Stdin).ReadString('\n') // until killed or told
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestAcquireInProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.lock")
	l, err := Acquire(t.Context(), path, "first", 0)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file is %v, %v", info, err)
	}
	_, err = Acquire(t.Context(), path, "second", 0)
	if fault.KindOf(err) != fault.Locked || !strings.Contains(err.Error(), "first (pid ") {
		t.Errorf("a second run gets %v", err)
	}
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
	l, err = Acquire(t.Context(), path, "third", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Release()
	if text := holder(path); !strings.Contains(text, "third") || strings.Contains(text, "first") {
		t.Errorf("the holder is %s", text)
	}
}

func TestAcquireWaits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.lock")
	l, err := Acquire(t.Context(), path, "first", 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Acquire(t.Context(), path, "second", 60*time.Millisecond); fault.KindOf(err) != fault.Locked {
		t.Errorf("a wait that is over gives %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(fault.Errorf(fault.Terminated, "stop"))
	if _, err := Acquire(ctx, path, "third", time.Minute); err == nil || fault.KindOf(err) == fault.Locked {
		t.Errorf("a cancelled wait gives %v", err)
	}
	got := make(chan error)
	go func() {
		second, err := Acquire(t.Context(), path, "fourth", time.Minute)
		if err == nil {
			err = second.Release()
		}
		got <- err
	}()
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err != nil {
		t.Errorf("a waiting run gets %v", err)
	}
}

// TestDeadHolder: a lock dies with its process, even one that was killed.
func TestDeadHolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.lock")
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "STELLA_TEST_HOLD="+path)
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "held\n" {
		t.Fatalf("%q, %v", line, err)
	}
	_, err = Acquire(t.Context(), path, "parent", 0)
	if fault.KindOf(err) != fault.Locked || !strings.Contains(err.Error(), "the child") || strings.Contains(err.Error(), "\x1b") {
		t.Errorf("while the child holds it: %v", err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	l, err := Acquire(t.Context(), path, "parent", 0)
	if err != nil {
		t.Fatalf("after its death: %v", err)
	}
	l.Release()
}

func TestAcquireBadPath(t *testing.T) {
	if _, err := Acquire(t.Context(), filepath.Join(t.TempDir(), "no", "x.lock"), "x", 0); err == nil {
		t.Error("a lock in a missing directory")
	}
}

// TestNoRegularFile: what is no file is refused at once and left as it is.
func TestNoRegularFile(t *testing.T) {
	dir := t.TempDir()
	fifo, link, target := filepath.Join(dir, "fifo"), filepath.Join(dir, "link"), filepath.Join(dir, "target")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(target, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{fifo, link, dir} {
		done := make(chan error, 1)
		go func() {
			_, err := Acquire(t.Context(), path, "x", 0)
			done <- err
		}()
		select {
		case err := <-done:
			if fault.KindOf(err) != fault.Config || !strings.Contains(err.Error(), "no regular file") {
				t.Errorf("%s: %v", path, err)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: it hangs", path)
		}
		if got := holder(path); got != "another run" {
			t.Errorf("%s: the holder is %s", path, got)
		}
	}
	if data, err := os.ReadFile(target); err != nil || string(data) != "precious" {
		t.Errorf("the target holds %q, %v", data, err)
	}
	l, err := Acquire(t.Context(), target, "control", 0)
	if err != nil {
		t.Fatal(err)
	}
	l.Release()
}
