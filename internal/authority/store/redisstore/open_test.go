package redisstore_test

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/authority/store/redisstore"
	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/secret"
	"github.com/stella-ops/stella/internal/testenv"
)

func TestURL(t *testing.T) {
	for _, good := range []string{"redis://h", "redis://h:6380", "redis://user@h/0", "redis://[::1]:1/15", "rediss://h/"} {
		if _, err := redisstore.Open(redisstore.Options{URL: good}); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{
		"", "h:6379", "http://h", "redis:h", "redis://", "redis:///1", "redis://:hunter2@h", "redis://u:hunter2@h", "redis://u:hunter2@h:bad",
		"rediss://h?skip_verify=true", "redis://h?password=hunter2", "redis://h#hunter2", "redis://h/x", "redis://h/1/2", "redis://h/-1", "redis://h/70000",
	} {
		_, err := redisstore.Open(redisstore.Options{URL: bad})
		if fault.KindOf(err) != fault.Config || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestCAFile(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{empty, empty + "x"} {
		if _, err := redisstore.Open(redisstore.Options{URL: "rediss://h", CAFile: path}); fault.KindOf(err) != fault.Config {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// TestTLS: rediss means a certificate of the right CA for the right name, and
// never falls back to plain text.
func TestTLS(t *testing.T) {
	ca, err := testenv.NewCA(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	other, err := testenv.NewCA(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	cert, key, err := ca.Issue("redis")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	r := testenv.Redis(t, "--tls-port", port, "--tls-cert-file", cert, "--tls-key-file", key, "--tls-auth-clients", "no")
	look := func(url, caFile string) error {
		return open(t, redisstore.Options{URL: url, CAFile: caFile}).Ping(t.Context())
	}
	if err := look("rediss://localhost:"+port, ca.CertFile); err != nil {
		t.Fatal(err)
	}
	if err := look("rediss://localhost:"+port, other.CertFile); err == nil {
		t.Error("a certificate of another CA is taken")
	}
	if err := look("rediss://localhost:"+port, ""); err == nil {
		t.Error("a certificate of an unknown CA is taken")
	}
	if err := look("rediss://127.0.0.2:"+port, ca.CertFile); err == nil {
		t.Error("a certificate for another host is taken")
	}
	plain := redisstore.Options{URL: strings.Replace(r.URL(), "redis:", "rediss:", 1), CAFile: ca.CertFile, Timeout: 200 * time.Millisecond}
	if err := open(t, plain).Ping(t.Context()); err == nil {
		t.Error("it fell back to plain text")
	}
}

// TestLeastRights: the rights that the package comment names are enough, and
// without any of them the server is not fit for use.
func TestLeastRights(t *testing.T) {
	r := testenv.Redis(t)
	c := admin(t, r)
	rights := []any{"+eval", "+evalsha", "+info", "+get", "+set", "+incr", "+pexpire"}
	user := func(name string, rights []any) *redisstore.Store {
		do(t, c, append([]any{"ACL", "SETUSER", name, "on", ">pw", "~" + redisstore.DefaultPrefix + "*"}, rights...)...)
		s := open(t, redisstore.Options{
			URL: strings.Replace(r.URL(), "//", "//"+name+"@", 1), Password: secret.New([]byte("pw")), Issuer: name,
			Now: at(time.Now().Add(-time.Hour)),
		})
		return s
	}
	s := user("all", rights)
	ping(t, s)
	later := open(t, redisstore.Options{
		URL: strings.Replace(r.URL(), "//", "//all@", 1), Password: secret.New([]byte("pw")), Issuer: "all",
	})
	if ok, err := later.Once(t.Context(), "k", "x", time.Now()); !ok || err != nil {
		t.Error(ok, err)
	}
	if _, err := later.Count(t.Context(), "x", time.Minute); err != nil {
		t.Error(err)
	}
	for i, left := range rights[:5] {
		s := user(strings.Trim(left.(string), "+"), slices.Delete(slices.Clone(rights), i, i+1))
		if left == "+eval" || left == "+evalsha" {
			do(t, c, "SCRIPT", "FLUSH")
		}
		if err := s.Ping(t.Context()); err == nil {
			t.Errorf("fit for use without %s", left)
		}
	}
}
