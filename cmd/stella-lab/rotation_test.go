package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/keyring"
	"github.com/stella-ops/stella/internal/signals"
	"github.com/stella-ops/stella/internal/testenv"
	"github.com/stella-ops/stella/internal/testenv/s3server"
)

// TestMain lets the test binary be stella, stella-authority and the S3 server,
// as the lab itself does.
func TestMain(m *testing.M) {
	if code, was := s3server.Child(); was {
		os.Exit(code)
	}
	if code, ok := runAs(os.Getenv(roleEnv)); ok {
		os.Exit(code)
	}
	// A child that was built with the race detector rests for a second at its
	// end; there are many of them.
	_ = os.Setenv("GORACE", "atexit_sleep_ms=10")
	os.Exit(m.Run())
}

func startLab(t *testing.T, o testenv.FleetOptions) *lab {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	if o.Lifetimes == (testenv.Lifetimes{}) {
		o.Lifetimes = testenv.Compressed()
	}
	ctx, cancel := context.WithCancel(context.Background())
	l, err := newLabWith(ctx, o)
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(); cancel() })
	return l
}

// exits runs stella and insists on the exit code; it returns both streams.
func (l *lab) exits(t *testing.T, want int, args ...string) string {
	t.Helper()
	cmd := as("stella", args...)
	cmd.Env = append(cmd.Env, l.environment()...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	code := 0
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	if code != want {
		t.Fatalf("stella %s: exit %d, want %d\n%s", strings.Join(args, " "), code, want, out.String())
	}
	return out.String()
}

func (l *lab) mustReport(t *testing.T) *keyring.Report {
	t.Helper()
	r, err := l.report(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (l *lab) startTraffic(t *testing.T) *testenv.Traffic {
	t.Helper()
	verifiers, err := l.verifiers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	traffic := &testenv.Traffic{Mint: l.mint, Verifiers: verifiers}
	traffic.Begin(t.Context())
	return traffic
}

// TestRotationUnderLoad: two whole rotations, one of which has to wait for a
// young standby, and no verifier rejects a token. The control in the same
// test skips the wait by --force, and the verifiers that cache must reject.
func TestRotationUnderLoad(t *testing.T) {
	l := startLab(t, testenv.FleetOptions{})
	traffic := l.startTraffic(t)
	first := activeKID(l.mustReport(t))
	for range 2 {
		l.exits(t, 0, "auth", "rotate", "--wait")
	}
	f := traffic.End()
	t.Logf("two rotations: %s", f)
	if f.Total() != 0 || f.MintFailures != 0 {
		t.Errorf("rejected: %v, %q", f.Rejected, f.Examples)
	}
	if f.TooLate > f.Verified/2 {
		t.Errorf("%d of %d judgements came too late to count: the machine is too slow for this test", f.TooLate, f.TooLate+f.Verified)
	}
	if len(f.KIDs) != 3 || f.Minted < 500 {
		t.Errorf("the load was not what it should be: %v", f)
	}
	r := l.mustReport(t)
	if k := find(r, first); k == nil || k.State != keyring.Retired {
		t.Errorf("the first key is %+v, want retired", k)
	}

	forcedControl(t)
}

// forcedControl is the same load on an Authority whose key set may be cached
// for so long that every verifier still holds the set without the new key
// when it is made to sign, however slow the machine is.
func forcedControl(t *testing.T) {
	t.Helper()
	slow := testenv.Compressed()
	slow.Cache = time.Minute
	l := startLab(t, testenv.FleetOptions{Lifetimes: slow})
	traffic := l.startTraffic(t)
	for traffic.Now().Verified < 30 { // every verifier holds a set by now
		if err := signals.Sleep(t.Context(), 10*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	kid := stagePublish(t, l)
	l.exits(t, 0, "auth", "rotate", "activate", kid, "--force", "--reason", "control of this test")
	for traffic.Now().KIDs[kid] < 50 {
		if err := signals.Sleep(t.Context(), 10*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	f := traffic.End()
	t.Logf("control, activation by force: %s: %v", f, f.Rejected)
	for _, name := range []string{"ours, behind the caching edge", "reloads only at max-age"} {
		if f.Rejected[name] == 0 {
			t.Errorf("%q rejected nothing though the key signed too early: the test cannot fail", name)
		}
	}
}

func find(r *keyring.Report, kid string) *keyring.Key {
	return (&keyring.Ring{Keys: r.Keys}).Find(kid)
}

func stagePublish(t *testing.T, l *lab) string {
	t.Helper()
	known := map[string]bool{}
	for _, k := range l.mustReport(t).Keys {
		known[k.KID] = true
	}
	l.exits(t, 0, "auth", "rotate", "stage")
	for _, k := range l.mustReport(t).Keys {
		if !known[k.KID] {
			l.exits(t, 0, "auth", "rotate", "publish", k.KID)
			return k.KID
		}
	}
	t.Fatal("stage made no key")
	return ""
}

// TestTooEarly: activate and retire before their time end with 22, the
// earliest time and the exact next command, and change nothing; at that time
// the same command succeeds.
func TestTooEarly(t *testing.T) {
	l := startLab(t, testenv.FleetOptions{})
	kid := stagePublish(t, l)
	refusedThenDone(t, l, "activate", kid)
	refusedThenDone(t, l, "retire", func() string {
		for _, k := range l.mustReport(t).Keys {
			if k.State == keyring.Retiring {
				return k.KID
			}
		}
		return ""
	}())
}

func refusedThenDone(t *testing.T, l *lab, verb, kid string) {
	t.Helper()
	before := l.mustReport(t).Version
	out := l.exits(t, 22, "auth", "rotate", verb, kid)
	var earliest time.Time
	for line := range strings.Lines(out) {
		if at, ok := strings.CutPrefix(strings.TrimSpace(line), "hint: earliest time: "); ok {
			var err error
			if earliest, err = time.Parse(time.RFC3339, at); err != nil {
				t.Fatal(err)
			}
		}
	}
	if next := fmt.Sprintf("hint: next: stella auth rotate %s %s", verb, kid); !strings.Contains(out, next) {
		t.Errorf("%s: no line %q in\n%s", verb, next, out)
	}
	if earliest.IsZero() {
		t.Fatalf("%s: no earliest time in\n%s", verb, out)
	}
	if after := l.mustReport(t).Version; after != before {
		t.Errorf("%s: the refusal changed the keyring from version %d to %d", verb, before, after)
	}
	for {
		// Looking in between is what the timer does; it must not do the step.
		r := l.mustReport(t)
		if k := find(r, kid); r.Now.After(earliest.Add(time.Second)) && k != nil {
			break
		}
		if err := signals.Sleep(t.Context(), 100*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	l.exits(t, 0, "auth", "rotate", verb, kid)
}

// TestLaggingReplica: a replica that does not see the new key blocks its
// activation and is named; once it serves the key for one cache lifetime the
// activation succeeds.
func TestLaggingReplica(t *testing.T) {
	l := startLab(t, testenv.FleetOptions{})
	// Replica b from now on works on a copy of the keys.
	if err := l.Replica(1).Stop(); err != nil {
		t.Fatal(err)
	}
	l.OwnKeys = map[int]bool{1: true}
	if err := l.StartReplica(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if err := l.Behind(0); err != nil {
		t.Fatal(err)
	}
	kid := stagePublish(t, l)
	var out string
	for range 60 { // until time alone would allow it
		out = l.exits(t, 22, "auth", "rotate", "activate", kid)
		if !strings.Contains(out, "serves it only since") {
			break
		}
		if err := signals.Sleep(t.Context(), 100*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	if !strings.Contains(out, `"replica-b" did not serve it`) || strings.Contains(out, `"replica-a"`) {
		t.Errorf("the lagging replica is not the one that is named:\n%s", out)
	}
	if out := l.exits(t, 20, "auth", "jwks", "verify"); !strings.Contains(out, "replica-b") || !strings.Contains(out, "differs") {
		t.Errorf("jwks verify does not name it:\n%s", out)
	}
	// Control: the same replica on the shared keys.
	if err := l.Replica(1).Stop(); err != nil {
		t.Fatal(err)
	}
	l.OwnKeys = nil
	if err := l.StartReplica(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	l.exits(t, 0, "auth", "rotate", "--wait")
	if r := l.mustReport(t); find(r, kid).State == keyring.Published && activeKID(r) == "" {
		t.Errorf("the rotation did not go through: %+v", r.Keys)
	}
}
