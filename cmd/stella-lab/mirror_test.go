package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/testenv"
)

// startFeeds is a lab without an Authority: the bucket and a mirror of it.
func startFeeds(t *testing.T, front func(http.Handler) http.Handler) *lab {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	dir := t.TempDir()
	l := &lab{Fleet: &testenv.Fleet{FleetOptions: testenv.FleetOptions{Dir: dir}}, home: filepath.Join(dir, "operator")}
	l.config = filepath.Join(l.home, "stella.yaml")
	t.Cleanup(func() { l.Close(); cancel() })
	var err error
	if l.CA, err = testenv.NewCA(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(l.home, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(l.config, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if l.feeds, err = newFeeds(ctx, dir, l.CA, front); err != nil {
		t.Fatal(err)
	}
	if err := l.addMirror(ctx); err != nil {
		t.Fatal(err)
	}
	return l
}

// page is what a process writes its two streams to at once.
type page struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (p *page) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.Write(b)
}

func (p *page) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

// TestMirrorTour is the part of the tour about mirrors.
func TestMirrorTour(t *testing.T) {
	out := new(page)
	tourist := &tourist{lab: startFeeds(t, nil), out: out}
	began := time.Now()
	err := tourist.take(t.Context(), tourist.mirrorSteps())
	tourist.table(time.Since(began))
	if err != nil || testing.Verbose() {
		t.Log(out.String())
	}
	if err != nil {
		t.Fatal(err)
	}
	if len(tourist.proven) != 8 {
		t.Errorf("%d things were proven, not 8", len(tourist.proven))
	}
}

// gate holds requests back until it is opened, and tells of each that came.
type gate struct {
	http.Handler
	came chan string
	open chan struct{}
}

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	select {
	case <-g.open:
	default:
		g.came <- r.URL.Path
		<-g.open
	}
	g.Handler.ServeHTTP(w, r)
}

// TestMirrorTwoSyncs: of two at once one does it all and the other says that
// it is locked out; afterwards there is nothing to do.
func TestMirrorTwoSyncs(t *testing.T) {
	g := &gate{came: make(chan string, 100), open: make(chan struct{})}
	gated := new(atomic.Bool)
	l := startFeeds(t, func(h http.Handler) http.Handler {
		g.Handler = h
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if gated.Load() {
				g.ServeHTTP(w, r)
				return
			}
			h.ServeHTTP(w, r)
		})
	})
	gated.Store(true)
	first := l.command("mirror", "sync")
	out := new(page)
	first.Stdout, first.Stderr = out, out
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	for range feedNames() { // who asks has the feed's lock
		select {
		case <-g.came:
		case <-t.Context().Done():
			t.Fatal("the first sync asked for nothing")
		}
	}
	second, err := l.command("mirror", "sync").CombinedOutput()
	if code := exitCode(err); code != 24 || !strings.Contains(string(second), fmt.Sprintf(`is locked by "stella mirror sync (pid %d)"`, first.Process.Pid)) {
		t.Errorf("the second sync: exit %d, expected 24\n%s", code, second)
	}
	close(g.open)
	if err := first.Wait(); err != nil {
		t.Errorf("the first sync: %v\n%s", err, out)
	}
	for _, row := range []struct {
		code int
		args []string
	}{{25, []string{"mirror", "sync", "--detailed-exit"}}, {0, []string{"mirror", "verify"}}} {
		if text, err := l.command(row.args...).CombinedOutput(); exitCode(err) != row.code {
			t.Errorf("%q afterwards: %v, expected exit %d\n%s", row.args, err, row.code, text)
		}
	}
}

// TestMirrorRefusedAgain: status tells of a refusal that comes back after the
// source was good in between, though it is recorded once.
func TestMirrorRefusedAgain(t *testing.T) {
	out := new(page)
	s := &tourist{lab: startFeeds(t, nil), out: out}
	ctx := t.Context()
	feed := feedNames()[0]
	sync := func(want int) {
		t.Helper()
		if _, err := s.stella(ctx, want, "mirror", "sync", "--feed", feed); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	sync(0)
	was, err := s.feed(ctx, feed)
	if err != nil {
		t.Fatal(err)
	}
	id, err := s.publish(ctx, feed)
	if err != nil {
		t.Fatal(err)
	}
	sync(0)
	for i := range 4 {
		lead, code, verdict := was.Shown.ExportID, 21, "refused"
		if i%2 == 1 {
			lead, code, verdict = id, 0, "ok"
		}
		if err := s.lead(ctx, feed, lead); err != nil {
			t.Fatal(err)
		}
		sync(code)
		if _, err := s.stands(ctx, feed, verdict, id); err != nil {
			t.Errorf("round %d: %v", i, err)
		}
	}
}

// command is stella as the operator types it.
func (l *lab) command(args ...string) *exec.Cmd {
	cmd := as("stella", args...)
	cmd.Env = append(cmd.Env, l.environment()...)
	return cmd
}

func exitCode(err error) int {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode()
	}
	if err != nil {
		return -1
	}
	return 0
}
