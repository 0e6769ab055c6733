package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"

	"github.com/stella-ops/stella/internal/testenv"
)

// machine: a host proves itself with a certificate of its tenant's CA.
func (t *tourist) machine(ctx context.Context) error {
	t.title("A machine proves itself by its certificate")
	if _, err := t.RegisterTLS(ctx, machineID, personScopes, testenv.LoadAudience); err != nil {
		return err
	}
	env, err := t.somebody("machine", fmt.Sprintf("  client_id: %s\n  certificate: %s\n  certificate_key: file:%s\n",
		machineID, filepath.Join(t.Dir, machineID+".crt"), filepath.Join(t.Dir, machineID+".key")))
	if err != nil {
		return err
	}
	host := t.as(env)
	for _, verb := range []string{"login", "whoami"} {
		if _, err := host.stella(ctx, 0, "auth", verb); err != nil {
			return err
		}
	}
	// Another certificate of the same CA, for another name.
	if _, _, err := t.CA.IssueClient("other-host", "urn:stellaops:client:other-host", nil); err != nil {
		return err
	}
	if env, err = t.somebody("other", fmt.Sprintf("  client_id: %s\n  certificate: %s\n  certificate_key: file:%s\n",
		machineID, filepath.Join(t.Dir, "other-host.crt"), filepath.Join(t.Dir, "other-host.key"))); err != nil {
		return err
	}
	if _, err := t.as(env).stella(ctx, 3, "auth", "login"); err != nil {
		return err
	}
	t.proved("a certificate is believed for the name in it only", "exit 0 for %s, exit 3 for another host", machineID)
	return t.robot(ctx)
}

// robot: an operator makes a token for a service account, and says why.
func (t *tourist) robot(ctx context.Context) error {
	_, err := t.Operate(ctx, http.MethodPost, "/internal/clients", map[string]any{
		"client_id": robotID, "scopes": []string{personScopes}, "audiences": []string{testenv.LoadAudience}, "tenant": testenv.Tenant,
		"service_account": true,
	})
	if err != nil {
		return err
	}
	_, err = t.stella(ctx, 0, "auth", "token", "mint", "--service-account", robotID, "--tenant", testenv.Tenant, "--scope", personScopes,
		"--audience", testenv.LoadAudience, "--expires-in", "5s", "--reason", "the tour", "--bootstrap", "--output", "json")
	if err != nil {
		return err
	}
	if _, err := t.stella(ctx, 2, "auth", "token", "mint", "--service-account", robotID, "--tenant", testenv.Tenant, "--bootstrap", "--raw"); err != nil {
		return err
	}
	t.proved("a token made by hand says who made it and why", "without --reason: exit 2")
	return nil
}

// takeBack: what is revoked is told to everybody, over an air gap too.
func (t *tourist) takeBack(ctx context.Context) error {
	t.title("Taking back, also where there is no network")
	usb := filepath.Join(t.Dir, "usb")
	seen := filepath.Join(t.Dir, "seen")
	if err := os.Mkdir(seen, 0o700); err != nil {
		return err
	}
	revoke := func(want int, args ...string) error {
		_, err := t.stella(ctx, want, append([]string{"auth", "revoke"}, args...)...)
		return err
	}
	verify := []string{"--offline", "auth", "revoke", "verify", "--bundle", filepath.Join(usb, "revocation-bundle.json"), "--state", seen}
	if err := revoke(0, "client", machineID, "--reason", "host-lost", "--bootstrap"); err != nil {
		return err
	}
	if err := revoke(0, "export", "--out", usb, "--bootstrap"); err != nil {
		return err
	}
	if err := revoke(0, "verify", "--bundle", filepath.Join(usb, "revocation-bundle.json")); err != nil { // keeps the keys
		return err
	}
	if _, err := t.stella(ctx, 0, verify...); err != nil {
		return err
	}
	file := filepath.Join(usb, "revocation-bundle.json")
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	changed := append([]byte(nil), data...)
	changed[len(changed)/2] ^= 1
	if err := os.WriteFile(file, changed, 0o600); err != nil {
		return err
	}
	fmt.Fprintln(t.out, "\n(one bit of the bundle is changed)")
	if _, err := t.stella(ctx, 21, verify...); err != nil {
		return err
	}
	var bundle struct {
		Sequence int64 `json:"sequence"`
	}
	if err := json.Unmarshal(data, &bundle); err != nil {
		return err
	}
	t.proved("a revocation list is verified without a network", "sequence %d accepted; one changed bit: exit 21", bundle.Sequence)
	return nil
}
