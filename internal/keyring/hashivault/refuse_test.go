package hashivault_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/keyring/hashivault"
	"github.com/stella-ops/stella/internal/testenv/fakevault"
)

func TestOptions(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty.pem")
	if err := os.WriteFile(empty, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	good := hashivault.Options{Address: "https://vault.example.com:8200", Token: "file:/nowhere"}
	with := func(change func(*hashivault.Options)) hashivault.Options {
		o := good
		change(&o)
		return o
	}
	for name, o := range map[string]hashivault.Options{
		"plain":           good,
		"slash":           with(func(o *hashivault.Options) { o.Address += "/" }),
		"loopback":        with(func(o *hashivault.Options) { o.Address = "http://127.0.0.1:8200" }),
		"loopback v6":     with(func(o *hashivault.Options) { o.Address = "http://[::1]:8200" }),
		"localhost":       with(func(o *hashivault.Options) { o.Address = "http://localhost:8200" }),
		"mount":           with(func(o *hashivault.Options) { o.Mount = "team/transit_2" }),
		"namespace":       with(func(o *hashivault.Options) { o.Namespace = "team-a/prod" }),
		"credential":      with(func(o *hashivault.Options) { o.Token = "cred:vault" }),
		"from a variable": with(func(o *hashivault.Options) { o.Token = "env:TOKEN" }),
	} {
		if _, err := hashivault.Open(o); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, o := range map[string]hashivault.Options{
		"no address":     with(func(o *hashivault.Options) { o.Address = "" }),
		"no scheme":      with(func(o *hashivault.Options) { o.Address = "vault:8200" }),
		"http":           with(func(o *hashivault.Options) { o.Address = "http://vault.example.com:8200" }),
		"not quite":      with(func(o *hashivault.Options) { o.Address = "http://127.0.0.1.example.com" }),
		"unix":           with(func(o *hashivault.Options) { o.Address = "unix:///run/vault.sock" }),
		"user":           with(func(o *hashivault.Options) { o.Address = "https://u:hunter2@vault.example.com" }),
		"query":          with(func(o *hashivault.Options) { o.Address += "?x=hunter2" }),
		"path":           with(func(o *hashivault.Options) { o.Address += "/v1" }),
		"mount":          with(func(o *hashivault.Options) { o.Mount = "../sys" }),
		"mount slash":    with(func(o *hashivault.Options) { o.Mount = "transit/" }),
		"namespace":      with(func(o *hashivault.Options) { o.Namespace = "a\r\nX-Vault-Token: b" }),
		"long namespace": with(func(o *hashivault.Options) { o.Namespace = strings.Repeat("a/", 100) + "a" }),
		"no token":       with(func(o *hashivault.Options) { o.Token = "" }),
		"the token":      with(func(o *hashivault.Options) { o.Token = "hvs.hunter2" }),
		"read once":      with(func(o *hashivault.Options) { o.Token = "stdin" }),
		"no CA file":     with(func(o *hashivault.Options) { o.CAFile = filepath.Join(dir, "missing.pem") }),
		"empty CA file":  with(func(o *hashivault.Options) { o.CAFile = empty }),
	} {
		_, err := hashivault.Open(o)
		wantKind(t, name, err, fault.Config)
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: a secret is in %q", name, err)
		}
	}
}

// TestEnvironment: what other clients of the engine read has no effect.
func TestEnvironment(t *testing.T) {
	for _, prefix := range []string{"VAULT_", "BAO_"} {
		for name, value := range map[string]string{
			"ADDR": "https://127.0.0.1:1", "TOKEN": "other", "NAMESPACE": "other", "SKIP_VERIFY": "true",
			"WRAP_TTL": "60", "PROXY_ADDR": "http://127.0.0.1:1", "MAX_RETRIES": "many", "RATE_LIMIT": "0:0", "CACERT": "/nowhere",
		} {
			t.Setenv(prefix+name, value)
		}
	}
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	_, o := start(t)
	if ref := made(t, open(t, o), "k"); !verifies(t, opened(t, open(t, o), ref)) {
		t.Error("the key does not sign")
	}
	o.CAFile = "" // neither the system nor SKIP_VERIFY vouches for the server
	_, err := open(t, o).Make(t.Context(), "k")
	wantKind(t, "unknown authority", err, fault.Trust)
}

func TestMakeRefuses(t *testing.T) {
	s, o := start(t)
	p := open(t, o)
	p256 := map[string]any{"type": "ecdsa-p256"}
	exists := func(in map[string]any, more func(name string)) func(string) {
		return func(name string) {
			admin(t, s, "POST", "keys/"+name, in)
			if more != nil {
				more(name)
			}
		}
	}
	flag := func(f string) func(string) {
		return func(name string) {
			if !s.Flag(name, f) {
				t.Fatalf("no flag %s", f)
			}
		}
	}
	newest := func(config ...map[string]any) func(string) {
		return func(name string) {
			admin(t, s, "POST", "keys/"+name+"/rotate", nil)
			for _, c := range config {
				admin(t, s, "POST", "keys/"+name+"/config", c)
			}
		}
	}
	for name, c := range map[string]struct {
		before func(string)
		kind   fault.Kind
	}{
		"plain":        {exists(p256, nil), fault.None},
		"rotated":      {exists(p256, newest()), fault.None},
		"p384":         {exists(map[string]any{"type": "ecdsa-p384"}, nil), fault.Trust},
		"symmetric":    {exists(nil, nil), fault.Trust},
		"exportable":   {exists(map[string]any{"type": "ecdsa-p256", "exportable": true}, nil), fault.Trust},
		"backup":       {exists(map[string]any{"type": "ecdsa-p256", "allow_plaintext_backup": true}, nil), fault.Trust},
		"imported":     {exists(p256, flag("imported")), fault.Trust},
		"restored":     {exists(p256, flag("restored")), fault.Trust},
		"soft-deleted": {exists(p256, flag("soft_deleted")), fault.Config},
		"unusable":     {exists(p256, newest(map[string]any{"min_encryption_version": 2})), fault.Config},
		"archived":     {exists(p256, newest(map[string]any{"min_encryption_version": 2, "min_decryption_version": 2})), fault.Config},
	} {
		c.before(name)
		ref, err := p.Make(t.Context(), name)
		wantKind(t, name, err, c.kind)
		if (ref == "") != (c.kind != fault.None) {
			t.Errorf("%s: reference %q", name, ref)
		}
	}
	for _, name := range []string{"", ".", "..", "a/b", "a..b", "-a", "a ", "a?b", "ä", strings.Repeat("a", 129)} {
		_, err := p.Make(t.Context(), name)
		wantKind(t, name, err, fault.Input)
		if n := s.Calls("POST keys/" + name); n != 0 {
			t.Errorf("%q was asked for", name)
		}
	}
	made(t, p, strings.Repeat("a", 128))
}

// TestToken: it is read for each call, must be closed to others, and a wrong
// one is Denied without being told.
func TestToken(t *testing.T) {
	s, o := start(t)
	p := open(t, o)
	ref := made(t, p, "k")
	key := opened(t, p, ref)
	path := strings.TrimPrefix(string(o.Token), "file:")
	rewrite := func(token string, mode os.FileMode) {
		t.Helper()
		if err := errors.Join(os.WriteFile(path, []byte(token), mode), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
	}
	all := func(what string, kind fault.Kind) {
		t.Helper()
		_, makeErr := p.Make(t.Context(), "k2")
		_, openErr := p.Open(t.Context(), ref)
		_, signErr := key.SignDigest(t.Context(), digest[:])
		for _, err := range []error{makeErr, openErr, signErr, p.Destroy(t.Context(), ref)} {
			wantKind(t, what, err, kind)
			for _, text := range append(fault.HintsOf(err), err.Error()) {
				if strings.Contains(text, "hunter2") || strings.Contains(text, s.Token()) {
					t.Errorf("%s: the token is in %q", what, text)
				}
			}
		}
	}
	rewrite("hvs.hunter2", 0o600)
	all("wrong token", fault.Denied)
	calls := s.Calls("GET keys/k")
	rewrite(s.Token(), 0o640)
	all("open to the group", fault.Config)
	rewrite("hvs.\x01hunter2", 0o600)
	all("unprintable", fault.Config)
	rewrite("", 0o600)
	all("empty", fault.Config)
	if s.Calls("GET keys/k") != calls {
		t.Error("the server was asked without a usable token")
	}
	s.SetToken("hvs.renewed")
	rewrite("hvs.renewed\n", 0o600)
	if !verifies(t, key) {
		t.Error("the renewed token is not used")
	}
}

// TestPolicy: a missing permission is Denied, and the hints name the paths.
func TestPolicy(t *testing.T) {
	s, o := start(t)
	p := open(t, o)
	ref := made(t, p, "k")
	key := opened(t, p, ref)
	s.Deny("transit/sign/")
	_, err := key.SignDigest(t.Context(), digest[:])
	wantKind(t, "sign", err, fault.Denied)
	hints := strings.Join(fault.HintsOf(err), "\n")
	for _, path := range []string{`"transit/keys/k"`, `"transit/keys/k/config"`, `"transit/sign/k/sha2-256"`} {
		if !strings.Contains(hints, path) {
			t.Errorf("hints lack %s:\n%s", path, hints)
		}
	}
	s.Deny("transit/keys/k/config")
	wantKind(t, "destroy", p.Destroy(t.Context(), ref), fault.Denied)
	s.Deny("")
	if !verifies(t, key) {
		t.Error("the control does not sign")
	}
}

// TestPlace: a mount or namespace that is not there is no missing key, or
// Destroy would be content with it.
func TestPlace(t *testing.T) {
	s, o := start(t)
	ref := made(t, open(t, o), "k")
	elsewhere := o
	elsewhere.Mount = "other"
	check := func(what string, o hashivault.Options) {
		t.Helper()
		p := open(t, o)
		_, err := p.Open(t.Context(), ref)
		wantKind(t, what, err, fault.Config)
		if errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", what, err)
		}
		if hints := strings.Join(fault.HintsOf(err), "\n"); !strings.Contains(hints, "vault secrets enable -path=") {
			t.Errorf("%s: hints: %s", what, hints)
		}
		wantKind(t, what, p.Destroy(t.Context(), ref), fault.Config)
	}
	check("another mount", elsewhere)
	s.SetNamespace("team/a")
	check("no namespace", o)
	o.Namespace = "team/a"
	if !verifies(t, opened(t, open(t, o), ref)) {
		t.Error("the control does not sign")
	}
}

func TestOutage(t *testing.T) {
	s, o := start(t)
	p := open(t, o)
	ref := made(t, p, "k")
	key := opened(t, p, ref)
	gone := o
	gone.Address = "https://127.0.0.1:1"
	for name, begin := range map[string]func(*fakevault.Server){
		"sealed": func(s *fakevault.Server) { s.Seal(true) },
		"500":    func(s *fakevault.Server) { s.Fail(500) },
		"502":    func(s *fakevault.Server) { s.Fail(502) },
		"429":    func(s *fakevault.Server) { s.Fail(429) },
		"412":    func(s *fakevault.Server) { s.Fail(412) },
	} {
		calls := s.Calls("POST sign/k/sha2-256")
		begin(s)
		_, err := key.SignDigest(t.Context(), digest[:])
		wantKind(t, name+", sign", err, fault.Transient)
		if n := s.Calls("POST sign/k/sha2-256") - calls; n != 2 {
			t.Errorf("%s: tried %d times, want 2", name, n)
		}
		_, err = p.Open(t.Context(), ref)
		wantKind(t, name+", open", err, fault.Transient)
		_, err = p.Make(t.Context(), "k2")
		wantKind(t, name+", make", err, fault.Transient)
		wantKind(t, name+", destroy", p.Destroy(t.Context(), ref), fault.Transient)
		s.Seal(false)
		if !verifies(t, key) {
			t.Errorf("%s: the control does not sign", name)
		}
	}
	_, err := open(t, gone).Open(t.Context(), ref)
	wantKind(t, "nobody listens", err, fault.Transient)

	s.Hang(true)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err = key.SignDigest(ctx, digest[:])
	wantKind(t, "hangs", err, fault.Transient)
	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	_, err = key.SignDigest(ctx, digest[:])
	wantKind(t, "cancelled", err, fault.Interrupted)
	s.Hang(false)
	if !verifies(t, key) {
		t.Error("after hanging it does not sign")
	}
}

func TestDigest(t *testing.T) {
	_, o := start(t)
	p := open(t, o)
	key := opened(t, p, made(t, p, "k"))
	for _, n := range []int{0, sha256.Size - 1, sha256.Size + 1} {
		if _, err := key.SignDigest(t.Context(), make([]byte, n)); err == nil {
			t.Errorf("%d bytes were signed", n)
		}
	}
}
