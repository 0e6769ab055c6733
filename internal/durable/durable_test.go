package durable

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func open(t *testing.T) *Dir {
	t.Helper()
	d, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func read(t *testing.T, d *Dir, name string) string {
	t.Helper()
	data, err := d.Read(name, 1<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return "(none)"
	} else if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestWriteReadRemove(t *testing.T) {
	d := open(t)
	for _, text := range []string{"one", "", strings.Repeat("x", 100_000)} {
		if err := d.Write("f", []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
		if got := read(t, d, "f"); got != text {
			t.Errorf("read %d bytes, want %d", len(got), len(text))
		}
	}
	info, err := d.Stat("f")
	if err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v: the umask must not count", info.Mode(), err)
	}
	if _, err := d.Read("f", 99_999); err == nil || !strings.Contains(err.Error(), "larger than 99999") {
		t.Errorf("over the limit: %v", err)
	}
	if names, err := d.Names(); err != nil || !slices.Equal(names, []string{"f"}) {
		t.Errorf("names are %q, %v", names, err)
	}
	if err := errors.Join(d.Remove("f"), d.Remove("f")); err != nil {
		t.Errorf("removing, twice: %v", err)
	}
	if got := read(t, d, "f"); got != "(none)" {
		t.Errorf("it is still there: %q", got)
	}
}

func TestCreateIsExclusive(t *testing.T) {
	d := open(t)
	var wins atomic.Int32
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			switch err := d.Create("f", fmt.Appendf(nil, "writer %d", i), 0o600); {
			case err == nil:
				wins.Add(1)
			case !errors.Is(err, fs.ErrExist):
				t.Errorf("a loser gets %v", err)
			}
		})
	}
	wg.Wait()
	if wins.Load() != 1 {
		t.Errorf("%d creators won", wins.Load())
	}
	before := read(t, d, "f")
	if err := d.Create("f", []byte("late"), 0o600); !errors.Is(err, fs.ErrExist) || read(t, d, "f") != before {
		t.Errorf("a late creator gets %v", err)
	}
	if entries, err := os.ReadDir(d.Path()); err != nil || len(entries) != 1 {
		t.Errorf("left over: %v, %v", entries, err)
	}
}

// TestFaults: whatever step fails, with or without its effect, a reader sees
// the old bytes or the new ones, and Sweep leaves no more than that.
func TestFaults(t *testing.T) {
	boom := errors.New("injected")
	for _, op := range []string{"write", "create", "remove"} {
		for _, step := range []Step{StepTemp, StepWrite, StepSync, StepLink, StepRename, StepUnlink, StepSyncDir} {
			for _, apply := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%s/%v", op, step, apply), func(t *testing.T) {
					d := open(t)
					before := "old"
					if op == "create" {
						before = "(none)"
					} else if err := d.Write("f", []byte(before), 0o600); err != nil {
						t.Fatal(err)
					}
					hit := false
					d.Hook = func(s Step, _ string) (bool, error) {
						if s == step && !hit {
							hit = true
							return apply, boom
						}
						return false, nil
					}
					after, err := "new", error(nil)
					switch op {
					case "write":
						err = d.Write("f", []byte("new"), 0o600)
					case "create":
						err = d.Create("f", []byte("new"), 0o600)
					default:
						after, err = "(none)", d.Remove("f")
					}
					d.Hook = nil
					quiet := op == "create" && step == StepUnlink // a left-over temporary harms nobody
					if hit && !quiet && !errors.Is(err, boom) || !hit && err != nil {
						t.Errorf("hit %v, error %v", hit, err)
					}
					if got := read(t, d, "f"); got != before && got != after {
						t.Errorf("a reader sees %q", got)
					} else if err == nil && got != after {
						t.Errorf("success, but a reader sees %q", got)
					}
					if err := d.Sweep(0); err != nil {
						t.Fatal(err)
					}
					if entries, _ := os.ReadDir(d.Path()); len(entries) > 1 {
						t.Errorf("left over: %v", entries)
					}
				})
			}
		}
	}
}

func TestReadersSeeWholeFiles(t *testing.T) {
	d := open(t)
	a, b := bytes.Repeat([]byte("a"), 50_000), bytes.Repeat([]byte("b"), 70_000)
	if err := d.Write("f", a, 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 40 {
			if err := d.Write("f", [][]byte{a, b}[i%2], 0o600); err != nil {
				t.Error(err)
			}
		}
	}()
	for {
		data, err := d.Read("f", 1<<20)
		if err != nil || !bytes.Equal(data, a) && !bytes.Equal(data, b) {
			t.Fatalf("%d bytes, %v", len(data), err)
		}
		select {
		case <-done:
			return
		default:
		}
	}
}

func TestConfinement(t *testing.T) {
	d := open(t)
	outside := filepath.Join(filepath.Dir(d.Path()), "outside")
	for _, name := range []string{"../outside", "a/../../outside", outside} {
		if err := d.Write(name, []byte("x"), 0o600); err == nil {
			t.Errorf("%s was written", name)
		}
	}
	if err := os.WriteFile(outside, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(d.Path(), "link")); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Read("link", 100); err == nil {
		t.Error("a link out of the directory was followed")
	}
}

func TestDirectories(t *testing.T) {
	base := t.TempDir()
	if _, err := Open(filepath.Join(base, "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing directory: %v", err)
	}
	for range 2 { // the second time it is there
		d, err := Create(filepath.Join(base, "made"), 0o700)
		if err != nil {
			t.Fatal(err)
		}
		d.Close()
	}
	if _, err := Create(filepath.Join(base, "no", "parent"), 0o700); err == nil {
		t.Error("made without a parent")
	}
}

func TestSweepKeepsTheYoung(t *testing.T) {
	d := open(t)
	temp := filepath.Join(d.Path(), tempPrefix+"f-x")
	if err := os.WriteFile(temp, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.Sweep(time.Hour); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(temp); err != nil {
		t.Errorf("a live writer lost its file: %v", err)
	}
	if names, err := d.Names(); err != nil || len(names) != 0 {
		t.Errorf("temporary files are listed: %q, %v", names, err)
	}
	old := time.Now().Add(-2 * time.Hour)
	if err := os.Chtimes(temp, old, old); err != nil {
		t.Fatal(err)
	}
	if err := d.Sweep(time.Hour); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(temp); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a left-over file stays: %v", err)
	}
}
