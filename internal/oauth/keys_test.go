package oauth

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stella-ops/stella/internal/fault"
)

func TestKeys(t *testing.T) {
	f := newFake(t)
	cfg := f.config()
	cfg.CacheDir = filepath.Join(t.TempDir(), "cache")
	offline := cfg
	offline.Offline = true
	if _, _, err := mustNew(t, offline).Keys(t.Context()); fault.KindOf(err) != fault.Offline {
		t.Errorf("nothing was kept: %v", err)
	}
	set, at, err := mustNew(t, cfg).Keys(t.Context())
	if _, ok := set.Key("k1"); err != nil || !ok || at.IsZero() {
		t.Fatalf("%v, %v", set, err)
	}
	f.srv.Close()
	kept, since, err := mustNew(t, offline).Keys(t.Context())
	if _, ok := kept.Key("k1"); err != nil || !ok || !since.Equal(at) {
		t.Errorf("kept %v since %v: %v", kept, since, err)
	}
	if _, _, err := mustNew(t, cfg).Keys(t.Context()); fault.KindOf(err) != fault.Transient {
		t.Errorf("online, old keys do not stand in: %v", err)
	}
	other := offline
	other.Issuer = strings.Replace(offline.Issuer, "127.0.0.1", "localhost", 1)
	if _, _, err := mustNew(t, other).Keys(t.Context()); fault.KindOf(err) != fault.Offline {
		t.Errorf("another issuer's keys: %v", err)
	}
	name := filepath.Join(cfg.CacheDir, keysName(cfg.Issuer))
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(cfg.CacheDir, keysName(other.Issuer)), data, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := mustNew(t, other).Keys(t.Context()); fault.KindOf(err) != fault.Offline {
		t.Errorf("another issuer's keys under our name: %v", err)
	}
	if err := os.Chmod(name, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := mustNew(t, offline).Keys(t.Context()); err == nil {
		t.Error("keys that others could have written are used")
	}
}

func FuzzKeysRecord(f *testing.F) {
	const issuer = "https://a.example"
	f.Add([]byte(`{"schema":"stella.cache.jwks/v1","issuer":"https://a.example","fetched_at":"2026-01-01T00:00:00Z","keys":{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}}`))
	f.Add([]byte(`{"schema":"stella.cache.jwks/v1","issuer":"https://b.example","fetched_at":"2026-01-01T00:00:00Z","keys":{"keys":[]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		set, _, err := parseKeysRecord(data, issuer)
		if err != nil {
			return
		}
		if again, err := set.MarshalJSON(); err != nil || len(again) == 0 {
			t.Fatalf("took keys that cannot be written: %v", err)
		}
	})
}
