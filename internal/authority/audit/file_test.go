package audit

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stella-ops/stella/internal/fault"
)

func mustOpen(t *testing.T, path string, o FileOptions) *File {
	t.Helper()
	f, err := OpenFile(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return f
}

// recordsIn reads a file of records; what is no record counts as broken.
func recordsIn(t *testing.T, path string) (records []*Record, broken int) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.SplitSeq(bytes.TrimSuffix(data, []byte("\n")), []byte("\n")) {
		rec, err := Parse(line)
		if err != nil {
			broken++
			continue
		}
		records = append(records, rec)
	}
	return records, broken
}

// TestFile wants a record to be in the file when Write returns, from many
// goroutines and from two processes' worth of Files.
func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	var failed atomic.Int64
	o := FileOptions{Wait: time.Minute, Failed: func() { failed.Add(1) }}
	a, b := mustOpen(t, path, o), mustOpen(t, path, o)
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Fatalf("%v %v", info.Mode(), err)
	}
	a.Write(t.Context(), full())
	if got, _ := recordsIn(t, path); len(got) != 1 || got[0].Subject != full().Subject {
		t.Fatalf("right after Write there are %d records", len(got))
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel() // a client that has hung up
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			for range 25 {
				[]*File{a, b}[i%2].Write(gone, full())
			}
		})
	}
	wg.Wait()
	if got, broken := recordsIn(t, path); len(got) != 1001 || broken != 0 || failed.Load() != 0 {
		t.Errorf("%d records, %d broken lines, %d failures", len(got), broken, failed.Load())
	}
}

func TestReopen(t *testing.T) {
	dir := t.TempDir()
	path, old := filepath.Join(dir, "audit.jsonl"), filepath.Join(dir, "audit.jsonl.1")
	f := mustOpen(t, path, FileOptions{Wait: time.Minute})
	f.Write(t.Context(), full())
	if err := os.Rename(path, old); err != nil {
		t.Fatal(err)
	}
	f.Write(t.Context(), full()) // until the reopening, the old file goes on
	if err := f.Reopen(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.Write(t.Context(), full())
	inOld, _ := recordsIn(t, old)
	inNew, _ := recordsIn(t, path)
	if len(inOld) != 2 || len(inNew) != 1 {
		t.Errorf("%d records in the old file, %d in the new", len(inOld), len(inNew))
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := f.Reopen(t.Context()); fault.KindOf(err) != fault.Config {
		t.Errorf("a directory in its place: %v", err)
	}
	f.Write(t.Context(), full()) // and the file in use stays in use
	if f.failing.Load() != 0 {
		t.Error("a failed Reopen ends writing")
	}
}

func TestTornLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	line := full().AppendJSON(nil)
	if err := os.WriteFile(path, line[:40], 0o600); err != nil {
		t.Fatal(err)
	}
	mustOpen(t, path, FileOptions{Wait: time.Minute}).Write(t.Context(), full())
	if got, broken := recordsIn(t, path); len(got) != 1 || broken != 1 {
		t.Errorf("after a torn line: %d records, %d broken", len(got), broken)
	}
}

func TestUnsafeFiles(t *testing.T) {
	dir := t.TempDir()
	path := func(name string, mode os.FileMode) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(p, mode); err != nil {
			t.Fatal(err)
		}
		return p
	}
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, p := range map[string]string{
		"group": path("g", 0o640), "others": path("o", 0o604), "directory": dir, "pipe": pipe,
		"device": "/dev/null", "no directory": filepath.Join(dir, "x", "y"),
	} {
		if _, err := OpenFile(p, FileOptions{}); err == nil || !strings.Contains(err.Error(), "audit file") {
			t.Errorf("%s: %v", name, err)
		}
	}
	mustOpen(t, path("good", 0o600), FileOptions{})
}

// fakeDisk is a target whose writes a test may hold up or fail.
type fakeDisk struct {
	mu    sync.Mutex
	data  []byte
	free  int // bytes left
	gate  chan struct{}
	fail  error // of Sync
	syncs int
}

func (d *fakeDisk) Write(p []byte) (int, error) {
	if d.gate != nil {
		<-d.gate
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	n := min(len(p), d.free)
	d.data, d.free = append(d.data, p[:n]...), d.free-n
	if n < len(p) {
		return n, syscall.ENOSPC
	}
	return n, nil
}

func (d *fakeDisk) Sync() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.syncs++
	return d.fail
}

func (d *fakeDisk) Close() error { return nil }

// onDisk is a File on d with a count of failures and a log.
func onDisk(t *testing.T, d *fakeDisk) (f *File, failed *atomic.Int64, log *bytes.Buffer) {
	t.Helper()
	failed, log = new(atomic.Int64), new(bytes.Buffer)
	f, err := openFile("audit.jsonl", FileOptions{Failed: func() { failed.Add(1) }, Log: slog.New(slog.NewTextHandler(log, nil))},
		func(string) (target, error) { return d, nil })
	if err != nil {
		t.Fatal(err)
	}
	return f, failed, log
}

func (d *fakeDisk) records() (whole, broken int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for line := range bytes.SplitSeq(bytes.TrimSuffix(d.data, []byte("\n")), []byte("\n")) {
		if _, err := Parse(line); err == nil {
			whole++
		} else if len(line) > 0 {
			broken++
		}
	}
	return whole, broken
}

func TestFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one := len(full().AppendJSON(nil)) + 1
		d := &fakeDisk{free: one + one/2}
		f, failed, log := onDisk(t, d)
		for range 4 {
			f.Write(t.Context(), full())
		}
		if whole, broken := d.records(); whole != 1 || broken != 1 || failed.Load() != 3 {
			t.Errorf("on a full disk: %d whole, %d broken, %d failures", whole, broken, failed.Load())
		}
		if n := strings.Count(log.String(), "\n"); n != 1 || !strings.Contains(log.String(), "no space left") {
			t.Errorf("three failures are logged as %s", log)
		}
		d.free = 10 * one
		f.Write(t.Context(), full())
		synctest.Wait()
		if whole, broken := d.records(); whole != 2 || broken != 1 || failed.Load() != 3 {
			t.Errorf("with space again: %d whole, %d broken, %d failures", whole, broken, failed.Load())
		}
		if !strings.Contains(log.String(), "lost_or_late=3") {
			t.Errorf("recovery is logged as %s", log)
		}
		if err := f.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

// TestHangingDisk wants a bounded delay for the first request, none for those
// that follow, bounded memory, and the waiting records once the disk is back.
func TestHangingDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDisk{free: 1 << 30, gate: make(chan struct{})}
		f, failed, _ := onDisk(t, d)
		start := time.Now()
		f.Write(t.Context(), full())
		if took := time.Since(start); took != f.o.Wait || failed.Load() != 1 {
			t.Errorf("the first request waits %s, %d failures", took, failed.Load())
		}
		for range queueLen + 10 { // one is with the writer
			f.Write(t.Context(), full())
		}
		if took := time.Since(start); took != f.o.Wait || failed.Load() != queueLen+11 {
			t.Errorf("all of them wait %s, %d failures", took, failed.Load())
		}
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := f.Reopen(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("reopening: %v", err)
		}
		close(d.gate)
		synctest.Wait()
		if whole, broken := d.records(); whole != queueLen+1 || broken != 0 {
			t.Errorf("%d records written late, %d broken", whole, broken)
		}
		before := failed.Load()
		f.Write(t.Context(), full())
		if whole, _ := d.records(); whole != queueLen+2 || failed.Load() != before {
			t.Errorf("after the recovery: %d records, %d new failures", whole, failed.Load()-before)
		}
		if err := f.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

func TestSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDisk{free: 1 << 30}
		f, failed, _ := onDisk(t, d)
		syncs := func() int {
			synctest.Wait()
			d.mu.Lock()
			defer d.mu.Unlock()
			return d.syncs
		}
		f.Write(t.Context(), full())
		time.Sleep(f.o.Sync) // the bubble's clock
		if n := syncs(); n != 1 {
			t.Errorf("%d syncs in the first second after a record", n)
		}
		time.Sleep(10 * f.o.Sync)
		if n := syncs(); n != 1 {
			t.Errorf("%d syncs with nothing to sync", n)
		}
		d.fail = syscall.EIO
		f.Write(t.Context(), full())
		time.Sleep(f.o.Sync)
		if n := syncs(); n != 2 || failed.Load() != 1 {
			t.Errorf("%d syncs, %d failures", n, failed.Load())
		}
		time.Sleep(f.o.Sync)
		if n := syncs(); n != 3 {
			t.Errorf("a failed sync is tried again: %d", n)
		}
		if err := f.Close(t.Context()); !errors.Is(err, syscall.EIO) {
			t.Errorf("closing what cannot be synced: %v", err)
		}
	})
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDisk{free: 1 << 30}
		f, failed, _ := onDisk(t, d)
		d.gate = make(chan struct{})
		for range 3 {
			f.Write(t.Context(), full())
		}
		closed := make(chan error, 1)
		go func() { closed <- f.Close(context.Background()) }()
		synctest.Wait()
		close(d.gate)
		if err := <-closed; err != nil {
			t.Fatal(err)
		}
		if whole, _ := d.records(); whole != 3 || d.syncs == 0 {
			t.Errorf("%d records are in the file after Close, %d syncs", whole, d.syncs)
		}
		before := failed.Load()
		f.Write(t.Context(), full())
		if failed.Load() != before+1 {
			t.Error("a record after Close is lost in silence")
		}
		if err := f.Close(t.Context()); err != nil {
			t.Errorf("a second Close: %v", err)
		}
		if err := f.Reopen(t.Context()); !errors.Is(err, errEnded) {
			t.Errorf("Reopen after Close: %v", err)
		}
	})
}
