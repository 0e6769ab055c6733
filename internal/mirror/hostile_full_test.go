package mirror_test

import (
	"bytes"
	"context"
	"errors"
	"math"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/mirror"
	"github.com/stella-ops/stella/internal/objstore"
)

// These two run in a process of their own: one has a small file system mounted
// that nobody else sees, the other may write no large file.
const childEnv = "STELLA_TEST_FULL"

func inChild(t *testing.T, namespaces bool) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), childEnv+"="+t.Name())
	if namespaces {
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
			UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
		}
	}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case namespaces && err != nil && !errors.As(err, &exit):
		t.Skipf("this system allows no user namespaces: %v", err)
	case bytes.Contains(out, []byte("--- SKIP")):
		t.Skipf("%s", out)
	case err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())):
		t.Errorf("%v\n%s", err, out)
	}
}

// TestNoSpace: a file system that fills up at any point of a sync leaves what is
// shown as it is. The error names the folder and says what to do, and when there
// is space again the next sync succeeds.
func TestNoSpace(t *testing.T) {
	if os.Getenv(childEnv) != t.Name() {
		inChild(t, true)
		return
	}
	const size = 4 << 20
	for _, c := range []struct {
		name string
		// when the rest of the file system is taken: at the first read of a
		// member, or at an event.
		key   string
		event mirror.EventType
		free  int // that is left then, in bytes
	}{
		{name: "before it begins", event: mirror.Found},
		{name: "no room for all of it", event: mirror.Found, free: 200 << 10},
		{name: "while a member comes", key: bigPath, free: 100 << 10},
		{name: "at the first member", key: bundlePath + ".jws"},
		{name: "before it is put together", event: mirror.Verified},
		{name: "while it is put together", event: mirror.Verified, free: 4 << 10},
		{name: "when it is recorded", event: mirror.Verified, free: 8 << 10},
		{name: "when it is shown, and the state is written", event: mirror.Verified, free: 12 << 10},
		{name: "control: just enough", event: mirror.Verified, free: 20 << 10},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.m.Dir = t.TempDir()
			if err := syscall.Mount("tmpfs", w.m.Dir, "tmpfs", 0, "size=4m"); err != nil {
				t.Skipf("this user may mount nothing: %v", err)
			}
			t.Cleanup(func() { _ = syscall.Unmount(w.m.Dir, 0) })
			one := w.publish(1)
			w.good(one)
			two := w.more(2, big(600<<10))
			hog := filepath.Join(w.m.Dir, "hog")
			full := false
			fill := func() {
				if full {
					return
				}
				full = true
				data := make([]byte, size)
				if err := os.WriteFile(hog, data, 0o600); err != nil && !errors.Is(err, syscall.ENOSPC) {
					t.Fatal(err)
				}
				info, err := os.Stat(hog)
				if err == nil {
					err = os.Truncate(hog, max(0, info.Size()-int64(c.free)))
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			w.m.Notify = func(e mirror.Event) {
				if e.Type == c.event {
					fill()
				}
			}
			w.m.Open = func(_ context.Context, p objstore.Place) (objstore.Reader, error) {
				if p != w.feed.Source {
					return nothing{}, nil
				}
				return watched{w.source, func(key string) {
					if key == c.key {
						fill()
					}
				}}, nil
			}
			_, err := w.sync()
			if c.free < 20<<10 && fault.KindOf(err) != fault.Transient || err != nil && !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("kind %v: %v", fault.KindOf(err), err)
			}
			if err != nil {
				hints := strings.Join(fault.HintsOf(err), "\n")
				if !strings.Contains(err.Error(), w.m.Folder("concelier")) || !strings.Contains(hints, "free some space") || fault.KindOf(err) != fault.Transient {
					t.Errorf("kind %v: %v\n%s", fault.KindOf(err), err, hints)
				}
				if st, err := w.m.Status("concelier"); err != nil || len(st.Refusals) != 0 {
					t.Errorf("%v %+v", err, st)
				}
			}
			t.Logf("it ended with: %v", err)
			if !full {
				t.Fatal("it never was full")
			}
			if latest, _ := os.Readlink(w.m.Folder("concelier") + "/latest"); strings.HasSuffix(latest, "020000Z") {
				w.shows(two)
			} else {
				w.shows(one)
			}
			w.m.Notify = nil
			if err := os.Remove(hog); err != nil {
				t.Fatal(err)
			}
			full, c.key = true, ""
			w.good(two)
		})
	}
}

// watched calls at before an object is opened.
type watched struct {
	objstore.Reader
	at func(key string)
}

func (r watched) Open(ctx context.Context, key string, g objstore.Get) (*objstore.Object, error) {
	r.at(key)
	return r.Reader.Open(ctx, key, g)
}

// TestFileLimit: what may not be written for another reason than space (here a
// limit of the process) does no harm either.
func TestFileLimit(t *testing.T) {
	if os.Getenv(childEnv) != t.Name() {
		inChild(t, false)
		return
	}
	signal.Ignore(syscall.SIGXFSZ)
	w := newWorld(t)
	one := w.publish(1)
	w.good(one)
	two := w.more(2, big(600<<10))
	var was syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &was); err != nil {
		t.Fatal(err)
	}
	for _, limit := range []uint64{0, 100, 1000, 100 << 10} {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: limit, Max: was.Max}); err != nil {
			t.Fatal(err)
		}
		_, err := w.sync()
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &was); err != nil {
			t.Fatal(err)
		}
		if !errors.Is(err, syscall.EFBIG) || !strings.Contains(err.Error(), w.m.Folder("concelier")) {
			t.Errorf("limit %d: %v", limit, err)
		}
		w.shows(one)
	}
	if was.Cur < math.MaxInt32 {
		t.Skipf("the limit is %d anyhow", was.Cur)
	}
	w.good(two)
}
