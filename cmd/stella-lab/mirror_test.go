package main

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
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

// TestMirrorTour is the part of the tour about mirrors.
func TestMirrorTour(t *testing.T) {
	var out bytes.Buffer
	tourist := &tourist{lab: startFeeds(t, nil), out: &out}
	began := time.Now()
	if err := tourist.take(t.Context(), tourist.mirrorSteps()); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	tourist.table(time.Since(began))
	_, table, _ := strings.Cut(out.String(), "WHAT WAS PROVEN")
	t.Logf("\nWHAT WAS PROVEN%s", table)
	if len(tourist.proven) != 8 {
		t.Errorf("%d things were proven, not 8", len(tourist.proven))
	}
	if testing.Verbose() {
		t.Log(out.String())
	}
}
