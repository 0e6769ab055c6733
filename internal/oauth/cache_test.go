package oauth

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/lock"
	"github.com/stella-ops/stella/internal/secret"
)

// cached returns a config with a cache directory that holds one token.
func cached(t *testing.T, f *fakeAuthority) (Config, *Token) {
	t.Helper()
	cfg := f.config()
	cfg.CacheDir = filepath.Join(t.TempDir(), "deep", "cache")
	tok, err := mustNew(t, cfg).Token(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return cfg, tok
}

func tokenFile(t *testing.T, cfg Config) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(cfg.CacheDir, "*"+tokenSuffix))
	if err != nil || len(files) != 1 {
		t.Fatalf("token files: %v, %v", files, err)
	}
	return files[0]
}

func TestCacheModes(t *testing.T) {
	f := newFake(t)
	cfg, _ := cached(t, f)
	files, _ := filepath.Glob(cfg.CacheDir + "/*")
	for _, name := range append(files, cfg.CacheDir) {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
	}
	if len(files) != 3 {
		t.Errorf("a token, its lock and the metadata are expected: %v", files)
	}
}

func TestCacheServesNextProcess(t *testing.T) {
	f := newFake(t)
	cfg, first := cached(t, f)
	second, err := mustNew(t, cfg).Token(t.Context())
	if err != nil || f.askedNow() != 1 || !second.FromCache || second.JKT != first.JKT ||
		string(second.AccessToken.Reveal()) != string(first.AccessToken.Reveal()) || !second.ExpiresAt.Equal(first.ExpiresAt) {
		t.Errorf("got %+v, %v, asked %d", second, err, f.askedNow())
	}
	for name, bend := range map[string]func(*Config){
		"scopes":   func(c *Config) { c.Scopes = []string{"a.read"} },
		"audience": func(c *Config) { c.Audience = "scanner" },
		"tenant":   func(c *Config) { c.Tenant = "other" },
		"binding":  func(c *Config) { c.Bearer = true },
	} {
		other := cfg
		bend(&other)
		before := f.askedNow()
		if _, err := mustNew(t, other).Token(t.Context()); err != nil || f.askedNow() != before+1 {
			t.Errorf("%s: shared an entry: %v", name, err)
		}
	}
	same := cfg
	same.Scopes = []string{"a.read", "b.read a.read"}
	before := f.askedNow()
	if _, err := mustNew(t, same).Token(t.Context()); err != nil || f.askedNow() != before {
		t.Errorf("the order of scopes made another entry: %v", err)
	}
}

func TestCacheRefused(t *testing.T) {
	f := newFake(t)
	for _, tc := range []struct {
		name  string
		spoil func(dir, file string) error
	}{
		{"file readable by others", func(_, file string) error { return os.Chmod(file, 0o644) }},
		{"file writable by group", func(_, file string) error { return os.Chmod(file, 0o620) }},
		{"directory open", func(dir, _ string) error { return os.Chmod(dir, 0o755) }},
		{"link", func(dir, file string) error {
			if err := os.Rename(file, dir+"/elsewhere"); err != nil {
				return err
			}
			return os.Symlink("elsewhere", file)
		}},
		{"directory in its place", func(_, file string) error {
			if err := os.Remove(file); err != nil {
				return err
			}
			return os.Mkdir(file, 0o700)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg, _ := cached(t, f)
			before := f.askedNow()
			if err := tc.spoil(cfg.CacheDir, tokenFile(t, cfg)); err != nil {
				t.Fatal(err)
			}
			c := mustNew(t, cfg)
			_, err := c.Token(t.Context())
			if fault.KindOf(err) != fault.Config || len(fault.HintsOf(err)) == 0 || f.askedNow() != before {
				t.Errorf("got %v (%v), asked %d", fault.KindOf(err), err, f.askedNow()-before)
			}
			if _, err := c.List(); fault.KindOf(err) != fault.Config {
				t.Errorf("list: %v", err)
			}
		})
	}
}

func TestCacheDamaged(t *testing.T) {
	f := newFake(t)
	for name, data := range map[string]string{
		"empty": "", "cut": `{"schema":"stella.cache.token/v1","iss`, "other schema": `{"schema":"x/v9"}`, "array": "[]",
		"twice": `{"schema":"a","schema":"b"}`, "no key": `{"schema":"stella.cache.token/v1","issuer":"` + f.srv.URL +
			`","client_id":"c","audience":"","tenant":"","requested_scopes":[],"dpop":true,"scopes":[],"access_token":"a","issued_at":"2026-01-01T00:00:00Z","expires_at":"2026-01-01T00:01:00Z"}`,
	} {
		t.Run(name, func(t *testing.T) {
			cfg, _ := cached(t, f)
			file := tokenFile(t, cfg)
			if err := os.WriteFile(file, []byte(data), 0o600); err != nil {
				t.Fatal(err)
			}
			var r recorder
			cfg.Events = r.add
			before := f.askedNow()
			c := mustNew(t, cfg)
			if list, err := c.List(); err != nil || len(list) != 1 || list[0].Damaged == "" {
				t.Errorf("list: %+v, %v", list, err)
			}
			if _, err := c.Token(t.Context()); err != nil || f.askedNow() != before+1 {
				t.Errorf("asked %d: %v", f.askedNow()-before, err)
			}
			if !strings.Contains(r.texts(EventWarning), file) {
				t.Errorf("not said: %q", r.texts(EventWarning))
			}
			if tok, err := mustNew(t, cfg).Token(t.Context()); err != nil || !tok.FromCache {
				t.Errorf("not mended: %v", err)
			}
		})
	}
}

// TestCacheMoved puts a good token where that of another audience belongs.
func TestCacheMoved(t *testing.T) {
	f := newFake(t)
	cfg, _ := cached(t, f)
	other := cfg
	other.Audience = "scanner"
	var r recorder
	other.Events = r.add
	c := mustNew(t, other)
	if err := os.Rename(tokenFile(t, cfg), filepath.Join(cfg.CacheDir, c.identity().name()+tokenSuffix)); err != nil {
		t.Fatal(err)
	}
	if tok, err := c.Token(t.Context()); err != nil || tok.FromCache || !strings.Contains(r.texts(EventWarning), "something else") {
		t.Errorf("%+v, %v, %q", tok, err, r.texts(EventWarning))
	}
}

func TestRefreshBeforeExpiry(t *testing.T) {
	f := newFake(t)
	cfg, first := cached(t, f)
	now := first.ExpiresAt.Add(-13 * time.Second)
	cfg.Now = func() time.Time { return now }
	if _, err := mustNew(t, cfg).Token(t.Context()); err != nil || f.askedNow() != 1 {
		t.Fatalf("refreshed 13 s before the end of 2 min: %v", err)
	}
	now = first.ExpiresAt.Add(-12 * time.Second)
	f.clock = func() time.Time { return now }
	second, err := mustNew(t, cfg).Token(t.Context())
	if err != nil || f.askedNow() != 2 || second.JKT != first.JKT {
		t.Errorf("asked %d times, key kept %v: %v", f.askedNow(), second.JKT == first.JKT, err)
	}
}

func TestLastGoodTokenStays(t *testing.T) {
	f := newFake(t)
	cfg, first := cached(t, f)
	before, _ := os.ReadFile(tokenFile(t, cfg))
	f.set(func(f *fakeAuthority) { f.down = true })
	now := first.ExpiresAt.Add(-11 * time.Second)
	cfg.Now = func() time.Time { return now }
	var r recorder
	cfg.Events = r.add
	c := mustNew(t, cfg)
	tok, err := c.Token(t.Context())
	if err != nil || string(tok.AccessToken.Reveal()) != string(first.AccessToken.Reveal()) {
		t.Fatalf("the last good token is not used: %v", err)
	}
	if !strings.Contains(r.texts(EventWarning), "keeping the token") {
		t.Errorf("not said: %q", r.texts(EventWarning))
	}
	for range 3 {
		tried := f.count("/connect/token")
		if _, err := c.Token(t.Context()); err != nil || f.count("/connect/token") != tried {
			t.Errorf("the next refresh came without a pause: %v", err)
		}
		now = now.Add(3 * time.Second)
	}
	now = now.Add(time.Second) // the pause is over, the token still valid
	tried := f.count("/connect/token")
	if _, err := c.Token(t.Context()); err != nil || f.count("/connect/token") == tried {
		t.Errorf("no refresh after the pause: %v", err)
	}
	if _, err := mustNew(t, cfg).Login(t.Context()); fault.KindOf(err) != fault.Transient {
		t.Errorf("login with the Authority down: %v", err)
	}
	now = first.ExpiresAt
	if _, err := mustNew(t, cfg).Token(t.Context()); fault.KindOf(err) != fault.Transient {
		t.Errorf("an expired token is used: %v", err)
	}
	if after, _ := os.ReadFile(tokenFile(t, cfg)); string(after) != string(before) {
		t.Error("a failed refresh changed the cache")
	}
}

func TestRefreshRaceGoroutines(t *testing.T) {
	f := newFake(t)
	cfg := f.config()
	cfg.CacheDir = t.TempDir() + "/cache"
	shared := mustNew(t, cfg)
	var wg sync.WaitGroup
	for i := range 8 {
		c := shared
		if i%2 == 0 {
			c = mustNew(t, cfg)
		}
		wg.Go(func() {
			if _, err := c.Token(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if f.askedNow() != 1 {
		t.Errorf("%d token requests, want exactly 1", f.askedNow())
	}
}

// TestRefreshRaceProcesses runs this test binary several times at once, with
// one cache directory. The Authority answers only when all have started.
func TestRefreshRaceProcesses(t *testing.T) {
	if dir := os.Getenv("STELLA_TEST_CACHE"); dir != "" {
		racer(t, dir)
		return
	}
	f := newFake(t)
	dir := t.TempDir() + "/cache"
	ca := t.TempDir() + "/ca.pem"
	if err := os.WriteFile(ca, certPEM(f), 0o600); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 4 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestRefreshRaceProcesses$")
		cmd.Env = append(os.Environ(), "STELLA_TEST_CACHE="+dir, "STELLA_TEST_ISSUER="+f.srv.URL, "SSL_CERT_FILE="+ca)
		wg.Go(func() {
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	wg.Wait()
	if f.askedNow() != 1 {
		t.Errorf("%d token requests, want exactly 1", f.askedNow())
	}
}

func racer(t *testing.T, dir string) {
	c := mustNew(t, Config{
		Issuer: os.Getenv("STELLA_TEST_ISSUER"), ClientID: testClient, CacheDir: dir, RetryDelays: []time.Duration{},
		Credential: SecretBasic(func() (secret.Bytes, error) { return secret.New([]byte(testSecret)), nil }),
	})
	if _, err := c.Token(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestLockedByAnother(t *testing.T) {
	f := newFake(t)
	cfg, first := cached(t, f)
	cfg.LockWait = time.Millisecond
	c := mustNew(t, cfg)
	held, err := lock.Acquire(t.Context(), filepath.Join(cfg.CacheDir, c.identity().name()+".lock"), "the other run", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = held.Release() }()
	if _, err := c.Login(t.Context()); fault.KindOf(err) != fault.Locked || !strings.Contains(err.Error(), "the other run") {
		t.Errorf("got %v", err)
	}
	now := first.ExpiresAt.Add(-time.Second)
	cfg.Now = func() time.Time { return now }
	if tok, err := mustNew(t, cfg).Token(t.Context()); err != nil || !tok.FromCache {
		t.Errorf("the last good token is not used while another refreshes: %v", err)
	}
}

func TestListForgetRevoke(t *testing.T) {
	f := newFake(t)
	cfg, tok := cached(t, f)
	other := cfg
	other.Scopes = []string{"z"}
	if _, err := mustNew(t, other).Token(t.Context()); err != nil {
		t.Fatal(err)
	}
	stranger := cfg
	stranger.ClientID = "someone"
	c := mustNew(t, cfg)
	if list, err := mustNew(t, stranger).List(); err != nil || len(list) != 0 {
		t.Errorf("a stranger sees %v, %v", list, err)
	}
	list, err := c.List()
	if err != nil || len(list) != 2 {
		t.Fatalf("list: %v, %v", list, err)
	}
	if offered, err := c.Revoke(t.Context(), tok); err != nil || !offered || f.revoked[0] != string(tok.AccessToken.Reveal()) {
		t.Errorf("revoke: %v, %v", offered, err)
	}
	for _, it := range list {
		if err := c.Forget(it); err != nil {
			t.Error(err)
		}
	}
	if list, err := c.List(); err != nil || len(list) != 0 {
		t.Errorf("after forgetting: %v, %v", list, err)
	}
	f.metadata = func(m map[string]any) { delete(m, "revocation_endpoint") }
	cfg.CacheDir = ""
	if offered, err := mustNew(t, cfg).Revoke(t.Context(), tok); offered || err != nil {
		t.Errorf("not offered: %v, %v", offered, err)
	}
	f.set(func(f *fakeAuthority) { f.down = true })
	before := f.count("/.well-known/openid-configuration")
	if _, err := mustNew(t, cfg).Revoke(t.Context(), tok); fault.KindOf(err) != fault.Transient || f.count("/.well-known/openid-configuration") != before+1 {
		t.Errorf("a server that is down was asked more than once: %v", err)
	}
}

func TestMintIsNotKept(t *testing.T) {
	f := newFake(t)
	cfg, first := cached(t, f)
	before, _ := os.ReadFile(tokenFile(t, cfg))
	key, err := newKey()
	if err != nil {
		t.Fatal(err)
	}
	c := mustNew(t, cfg)
	minted, err := c.MintFor(t.Context(), key)
	if err != nil || minted.JKT == first.JKT {
		t.Fatalf("%+v, %v", minted, err)
	}
	if other, err := c.Mint(t.Context()); err != nil || other.JKT == minted.JKT || other.JKT == first.JKT {
		t.Errorf("%+v, %v", other, err)
	}
	if after, _ := os.ReadFile(tokenFile(t, cfg)); string(after) != string(before) {
		t.Error("minting changed the cache")
	}
	if tok, err := c.Token(t.Context()); err != nil || tok.JKT != first.JKT {
		t.Errorf("the cached token is not used any more: %v", err)
	}
	cfg.Bearer = true
	if _, err := mustNew(t, cfg).MintFor(t.Context(), key); fault.KindOf(err) != fault.Input {
		t.Errorf("a bearer token with a key: %v", err)
	}
}
