package httpd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/fault"
)

// leaf returns the name of the certificate that a new connection sees.
func leaf(t *testing.T, r *running) string {
	t.Helper()
	conn, err := tls.Dial("tcp", r.Addr().String(), &tls.Config{InsecureSkipVerify: true}) // only the name is of interest
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].Subject.CommonName
}

func secure(files TLS) Config {
	return Config{Listeners: []Listener{{Address: "localhost:0", TLS: &files, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		WriteJSON(w, 200, map[string]string{"proto": r.Proto})
	})}}}
}

func TestTLS(t *testing.T) {
	files := identity(t, t.TempDir(), "one", time.Hour)
	r := start(t, secure(files))
	c, err := Client(ClientOptions{CAFile: files.CertFile})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseIdleConnections()
	resp, body := get(t, c, r.URL())
	if resp.StatusCode != 200 || !strings.Contains(body, "HTTP/2.0") || resp.Header.Get("Strict-Transport-Security") == "" {
		t.Errorf("%d %s %v", resp.StatusCode, body, resp.Header)
	}
	system, err := Client(ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var unknown x509.UnknownAuthorityError
	if _, err := system.Get(r.URL()); !errors.As(err, &unknown) {
		t.Errorf("an unknown CA is %v", err)
	}
	for _, old := range []*tls.Config{
		{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10},
		{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}},
	} {
		if conn, err := tls.Dial("tcp", r.Addr().String(), old); err == nil {
			conn.Close()
			t.Errorf("%x was accepted", conn.ConnectionState().CipherSuite)
		}
	}
}

func TestCertificateFollowsItsFiles(t *testing.T) {
	dir := t.TempDir()
	files := identity(t, dir, "one", time.Hour)
	r := start(t, secure(files))
	if got := leaf(t, r); got != "one" {
		t.Fatalf("serves %s", got)
	}
	// Bad in every way: the old one stays, also for an explicit reload.
	write(t, files.KeyFile, []byte("broken"))
	r.Reload(context.Background())
	if got := leaf(t, r); got != "one" {
		t.Errorf("after a broken key it serves %s", got)
	}
	if err := os.Remove(files.KeyFile); err != nil {
		t.Fatal(err)
	}
	r.Reload(context.Background())
	identity(t, dir, "expired", -time.Hour)
	r.Reload(context.Background())
	if got := leaf(t, r); got != "one" {
		t.Errorf("after an expired certificate it serves %s", got)
	}
	identity(t, dir, "two", time.Hour)
	r.Reload(context.Background())
	if got := leaf(t, r); got != "two" {
		t.Errorf("after a reload it serves %s", got)
	}
	// Without a reload the next handshake that looks finds the new one.
	identity(t, dir, "three", time.Hour)
	r.open[0].certs.mu.Lock()
	r.open[0].certs.looked = time.Time{}
	r.open[0].certs.mu.Unlock()
	if got := leaf(t, r); got != "three" {
		t.Errorf("after a change it serves %s", got)
	}
	if log := r.log.String(); strings.Count(log, "keeping the old one") != 3 || strings.Count(log, "certificate loaded") != 2 {
		t.Errorf("the log is %s", log)
	}
}

func TestMutualTLS(t *testing.T) {
	server, client := identity(t, t.TempDir(), "server", time.Hour), identity(t, t.TempDir(), "client", time.Hour)
	files := server
	files.ClientCAFile, files.ClientAuth = client.CertFile, tls.RequireAndVerifyClientCert
	r := start(t, secure(files))
	with, err := Client(ClientOptions{CAFile: server.CertFile, CertFile: client.CertFile, KeyFile: client.KeyFile})
	if err != nil {
		t.Fatal(err)
	}
	defer with.CloseIdleConnections()
	if resp, _ := get(t, with, r.URL()); resp.StatusCode != 200 {
		t.Errorf("with a certificate: %d", resp.StatusCode)
	}
	for _, o := range []ClientOptions{{CAFile: server.CertFile}, {CAFile: server.CertFile, CertFile: server.CertFile, KeyFile: server.KeyFile}} {
		c, err := Client(o)
		if err != nil {
			t.Fatal(err)
		}
		if resp, err := c.Get(r.URL()); err == nil {
			resp.Body.Close()
			t.Errorf("%+v gets %d", o, resp.StatusCode)
		}
	}
}

func TestBadFiles(t *testing.T) {
	dir := t.TempDir()
	good := identity(t, dir, "x", time.Hour)
	empty := filepath.Join(dir, "empty")
	write(t, empty, nil)
	for name, files := range map[string]TLS{
		"mixed up":     {CertFile: good.KeyFile, KeyFile: good.CertFile},
		"other key":    {CertFile: good.CertFile, KeyFile: identity(t, t.TempDir(), "y", time.Hour).KeyFile},
		"directory":    {CertFile: dir, KeyFile: good.KeyFile},
		"no client ca": {CertFile: good.CertFile, KeyFile: good.KeyFile, ClientAuth: tls.RequireAndVerifyClientCert},
		"empty ca":     {CertFile: good.CertFile, KeyFile: good.KeyFile, ClientCAFile: empty},
	} {
		if _, err := loadCerts(files, nil); fault.KindOf(err) != fault.Config {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, o := range map[string]ClientOptions{"no ca": {CAFile: empty}, "no file": {CAFile: dir + "/x"}, "no pair": {CertFile: empty, KeyFile: empty}} {
		if _, err := Client(o); fault.KindOf(err) != fault.Config {
			t.Errorf("%s: %v", name, err)
		}
	}
}
