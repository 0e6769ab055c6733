package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/stella-ops/stella/internal/keyring"
	"github.com/stella-ops/stella/internal/testenv"
)

func (t *tourist) logIn(ctx context.Context) error {
	t.title("An operator logs in")
	if _, err := t.stella(ctx, 3, "auth", "status"); err != nil {
		return err
	}
	for _, args := range [][]string{{"auth", "login"}, {"auth", "status"}, {"auth", "whoami"}} {
		if _, err := t.stella(ctx, 0, args...); err != nil {
			return err
		}
	}
	t.proved("nobody is logged in before login, and somebody after it", "exit 3, then 0")
	return nil
}

func (t *tourist) readKeys(ctx context.Context) error {
	t.title("The key set, at every place that verifiers fetch it from")
	for _, args := range [][]string{{"auth", "jwks", "show"}, {"auth", "jwks", "lint"}, {"auth", "jwks", "verify"}} {
		if _, err := t.stella(ctx, 0, args...); err != nil {
			return err
		}
	}
	return nil
}

// rotate: a whole rotation while tokens are minted and verified, none of
// which may be rejected.
func (t *tourist) rotate(ctx context.Context) error {
	t.title("Rotation under traffic")
	traffic, err := t.traffic(ctx)
	if err != nil {
		return err
	}
	traffic.Begin(ctx)
	began := time.Now()
	_, err = t.stella(ctx, 0, "auth", "rotate", "--wait", "--reason", "the tour")
	took := time.Since(began)
	f := traffic.End()
	if err != nil {
		return err
	}
	if f.Total() > 0 || f.MintFailures > 0 || len(f.KIDs) < 2 {
		return fmt.Errorf("rotation under traffic: %s: %q", f, f.Examples)
	}
	t.proved("a rotation that no verifier noticed", "%s, in %.1f s", f, took.Seconds())
	_, err = t.stella(ctx, 0, "auth", "rotate", "status")
	return err
}

func (t *tourist) traffic(ctx context.Context) (*testenv.Traffic, error) {
	verifiers, err := t.verifiers(ctx)
	if err != nil {
		return nil, err
	}
	return &testenv.Traffic{Mint: t.mint, Verifiers: verifiers}, nil
}

// tooEarly: a key that was published a moment ago may not sign.
func (t *tourist) tooEarly(ctx context.Context) error {
	t.title("An activation that comes too early")
	kid, err := t.change(ctx, "stage")
	if err != nil {
		return err
	}
	if _, err := t.change(ctx, "publish", kid); err != nil {
		return err
	}
	before, err := t.report(ctx)
	if err != nil {
		return err
	}
	if _, err := t.stella(ctx, 22, "auth", "rotate", "activate", kid); err != nil {
		return err
	}
	after, err := t.report(ctx)
	if err != nil {
		return err
	}
	if before.Version != after.Version {
		return fmt.Errorf("the refused activation changed the keyring: version %d, then %d", before.Version, after.Version)
	}
	t.proved("an early activation is refused and changes nothing", "exit 22, keyring stays at version %d", after.Version)
	return nil
}

// emergency: the active key is tainted under traffic, then revoked.
func (t *tourist) emergency(ctx context.Context) error {
	t.title("The active key is stolen")
	traffic, err := t.traffic(ctx)
	if err != nil {
		return err
	}
	traffic.Begin(ctx)
	stolen, err := t.report(ctx)
	if err != nil {
		return err
	}
	old := activeKID(stolen)
	began := time.Now()
	if _, err := t.stella(ctx, 0, "auth", "rotate", "taint", "--reason", "laptop stolen"); err != nil {
		return err
	}
	took := time.Since(began)
	f := traffic.End()
	if f.Total() > 0 || f.MintFailures > 0 {
		return fmt.Errorf("taint under traffic: %s: %q", f, f.Examples)
	}
	report, err := t.report(ctx)
	if err != nil {
		return err
	}
	t.proved("a taint switches at once, to a key that every verifier knows", "%d ms, %s → %s, %d tokens judged, 0 rejected",
		took.Milliseconds(), old, activeKID(report), f.Minted)
	return t.revoke(ctx, old)
}

func (t *tourist) revoke(ctx context.Context, kid string) error {
	verifiers, err := t.verifiers(ctx)
	if err != nil {
		return err
	}
	if _, err := t.stella(ctx, 0, "auth", "rotate", "revoke", kid, "--reason", "laptop stolen"); err != nil {
		return err
	}
	// A verifier that comes now must not know the key any more.
	report, err := t.report(ctx)
	if err != nil {
		return err
	}
	for _, k := range report.Keys {
		if k.KID == kid && k.InSet() {
			return fmt.Errorf("key %s is %s and still in the set", kid, k.State)
		}
	}
	token, _, err := t.mint(ctx)
	if err != nil {
		return err
	}
	for _, v := range verifiers {
		if err := v.Verify(ctx, token); err != nil {
			return fmt.Errorf("after the revocation, %s refuses a good token: %w", v.Name(), err)
		}
	}
	t.proved("a revoked key is gone from the set at once", "%d keys left, new tokens verify", len(report.Keys))
	return nil
}

func (t *tourist) leave(ctx context.Context) error {
	t.title("Afterwards")
	for _, args := range [][]string{{"auth", "rotate", "advance"}, {"auth", "jwks", "verify"}, {"auth", "logout"}} {
		if _, err := t.stella(ctx, 0, args...); err != nil {
			return err
		}
	}
	if _, err := t.stella(ctx, 3, "auth", "status"); err != nil {
		return err
	}
	return nil
}

// change makes one transition and returns the kid it was about.
func (t *tourist) change(ctx context.Context, args ...string) (string, error) {
	out, err := t.stella(ctx, 0, append([]string{"auth", "rotate"}, append(args, "--output", "json")...)...)
	if err != nil {
		return "", err
	}
	var r keyring.Result
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		return "", fmt.Errorf("reading the result: %w", err)
	}
	return r.KID, nil
}

// report reads the keyring as an operator's script would.
func (t *tourist) report(ctx context.Context) (*keyring.Report, error) {
	cmd := as("stella", "auth", "rotate", "status", "--output", "json")
	cmd.Env = append(cmd.Env, t.environment()...)
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("stella auth rotate status: %w", err)
	}
	var r keyring.Report
	return &r, json.Unmarshal(out, &r)
}

func activeKID(r *keyring.Report) string {
	for _, k := range r.Keys {
		if k.State == keyring.Active {
			return k.KID
		}
	}
	return ""
}
