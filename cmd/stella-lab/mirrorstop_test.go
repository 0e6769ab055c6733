package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/signals"
)

// brake is a thin line: all answers together get so many bytes a second.
type brake struct {
	mu   sync.Mutex
	rate int64 // 0: as fast as it goes
	free time.Time
}

func (b *brake) set(rate int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rate = rate
}

// pass waits until n bytes may go.
func (b *brake) pass(ctx context.Context, n int) error {
	b.mu.Lock()
	if b.rate == 0 {
		b.mu.Unlock()
		return nil
	}
	if now := time.Now(); b.free.Before(now) {
		b.free = now
	}
	b.free = b.free.Add(time.Duration(n) * time.Second / time.Duration(b.rate))
	wait := time.Until(b.free)
	b.mu.Unlock()
	return signals.Sleep(ctx, wait)
}

func (b *brake) before(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(&braked{w, r.Context(), b}, r)
	})
}

type braked struct {
	http.ResponseWriter
	ctx   context.Context
	brake *brake
}

func (w *braked) Write(p []byte) (int, error) {
	if err := w.brake.pass(w.ctx, len(p)); err != nil {
		return 0, err
	}
	return w.ResponseWriter.Write(p)
}

// staged is how many bytes of members lie in staging.
func (l *lab) staged(t *testing.T, feed string) (sum int64) {
	t.Helper()
	parts, err := filepath.Glob(filepath.Join(l.home, "mirror", feed, "staging", "*.part"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range parts {
		if info, err := os.Stat(p); err == nil {
			sum += info.Size()
		}
	}
	return sum
}

// TestMirrorStopped: SIGTERM during a sync over a slow line ends it with 143,
// what was shown stays, and the next one fetches only the bytes that are missing.
func TestMirrorStopped(t *testing.T) {
	line := new(brake)
	l := startFeeds(t, line.before)
	feed := feedNames()[0]
	out := new(page)
	s := &tourist{lab: l, out: out}
	typed := func(want int, args ...string) string {
		t.Helper()
		text, err := s.stella(t.Context(), want, args...)
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return text
	}
	typed(0, "mirror", "sync")
	was, err := s.feed(t.Context(), feed)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(l.Dir, "large")
	if err := export(t.Context(), []string{"--feed", feed, "--bundle-size", "12MiB", dir}, out); err != nil {
		t.Fatal(err)
	}
	typed(0, append(l.feeds.publishing(feed, dir), "--sign-bundles")...)

	line.set(4 << 20)
	stopped := l.command("mirror", "sync", "--feed", feed)
	var stderr bytes.Buffer
	stopped.Stderr = &stderr
	if err := stopped.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- stopped.Wait() }()
	for l.staged(t, feed) < 3<<20 {
		if len(ended) > 0 || signals.Sleep(t.Context(), 5*time.Millisecond) != nil {
			t.Fatalf("it ended before it could be stopped: %s", &stderr)
		}
	}
	if err := stopped.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; exitCode(err) != 143 {
		t.Errorf("the stopped sync: %v, expected exit 143\n%s", err, &stderr)
	}
	kept := l.staged(t, feed)
	if _, err := s.stands(t.Context(), feed, "ok", was.Shown.ExportID); err != nil {
		t.Error(err)
	}
	typed(0, "mirror", "verify")

	line.set(0)
	requests := l.feeds.meter.watch()
	text := typed(0, "mirror", "sync", "--feed", feed, "--output", "json")
	lowest := map[string]int{} // first byte that was asked for, by member
	for _, r := range requests() {
		from, _, _ := strings.Cut(strings.TrimPrefix(r.span, "bytes="), "-")
		n, _ := strconv.Atoi(from) // without a range: 0
		if was, ok := lowest[r.path]; !ok || n < was {
			lowest[r.path] = n
		}
	}
	resumed := 0
	for _, n := range lowest {
		if n > 0 {
			resumed++
		}
	}
	var last struct {
		Type    string `json:"type"`
		Fetched int64  `json:"fetched_bytes"`
	}
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil || last.Type != "summary" {
		t.Fatalf("%v: %s", err, text)
	}
	_, whole, err := weigh(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes were there when it was stopped; the next sync fetched %d of about %d, %d members from the middle on", kept, last.Fetched, whole, resumed)
	if resumed == 0 || kept < 3<<20 || last.Fetched > whole-kept+64<<10 { // and the signatures that were made
		t.Error("the next sync did not go on where the stopped one was")
	}
	typed(0, "mirror", "verify")
	if now, err := s.feed(t.Context(), feed); err != nil || now.Shown.Sequence != was.Shown.Sequence+1 {
		t.Errorf("%+v, %v", now, err)
	}
}
