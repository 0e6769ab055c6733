package cli

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/revocation"
	"github.com/stella-ops/stella/internal/ui"
)

// exporter is an Authority that has one list.
type exporter struct {
	url    string
	list   []byte // the answer of the export
	status int
	keys   jose.Set
}

func newExporter(t *testing.T) *exporter {
	t.Helper()
	e := &exporter{status: 200}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch r.URL.Path {
		case pathRevocationsExport:
			if r.Header.Get("x-stellaops-bootstrap-key") != "s3cret" {
				w.WriteHeader(401)
				fmt.Fprint(w, `{"error":{"code":"unauthenticated","message":"who\u001b[2J?","trace_id":"T1"}}`)
				return
			}
			w.WriteHeader(e.status)
			_, _ = w.Write(e.list)
		case "/jwks":
			data, _ := e.keys.MarshalJSON()
			_, _ = w.Write(data)
		default:
			fmt.Fprintf(w, `{"issuer":%q,"token_endpoint":"%s/token","jwks_uri":"%s/jwks"}`, e.url, e.url, e.url)
		}
	}))
	t.Cleanup(srv.Close)
	e.url = srv.URL
	return e
}

// export runs auth revoke export with the bootstrap key.
func (e *exporter) export(t *testing.T, key, out string, more ...string) (code int, stdout, stderr string) {
	t.Helper()
	s, o, errs := ui.Buffers("")
	t.Setenv("KEY_OF_TEST", key)
	app := NewApp([]string{"STELLA_AUTHORITY_URL=" + e.url, "STELLA_AUTH_BOOTSTRAP_KEY=env:KEY_OF_TEST", "HOME=" + t.TempDir()}, func(string) string { return "" })
	app.Streams = s
	code = Run(t.Context(), append([]string{"auth", "revoke", "export", "--out", out}, more...), app)
	return code, o.String(), errs.String()
}

func TestRevokeExport(t *testing.T) {
	ours, stranger := newSigner(t, "k1"), newSigner(t, "k1")
	for _, tc := range []struct {
		name string
		bend func(e *exporter)
		key  string
		code int
		says string
	}{
		{"control", func(*exporter) {}, "s3cret", 0, "Written to"},
		{"another's key", func(e *exporter) { e.keys = jose.Set{Keys: []jose.Key{stranger.Key()}} }, "s3cret", 21, "signature"},
		{"no keys", func(e *exporter) { e.keys = jose.Set{} }, "s3cret", 21, "no key"},
		{"of another issuer", func(e *exporter) { e.list = encoded(t, newBundle(t, ours, revokingIssuer, 3)) }, "s3cret", 21, "another issuer"},
		{"one byte", func(e *exporter) { e.list = []byte(strings.Replace(string(e.list), `"sha256":"`, `"sha256":"0`, 1)) }, "s3cret", 21, "malformed"},
		{"no JSON", func(e *exporter) { e.list = []byte("<html>") }, "s3cret", 21, "not a revocation bundle"},
		{"down", func(e *exporter) { e.status, e.list = 503, nil }, "s3cret", 10, "answers 503"},
		{"no such API", func(e *exporter) { e.status, e.list = 404, nil }, "s3cret", 4, "does not have that API"},
		{"wrong key", func(*exporter) {}, "hunter2", 3, "check auth.bootstrap_key"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := newExporter(t)
			e.keys, e.list = jose.Set{Keys: []jose.Key{ours.Key()}}, encoded(t, newBundle(t, ours, e.url, 3))
			tc.bend(e)
			out := filepath.Join(t.TempDir(), "usb")
			code, stdout, stderr := e.export(t, tc.key, out)
			if code != tc.code || !strings.Contains(stdout+stderr, tc.says) || strings.Contains(stderr, tc.key) || strings.ContainsRune(stderr, 0x1b) {
				t.Errorf("exit %d, want %d saying %q\n%s\n%s", code, tc.code, tc.says, stdout, stderr)
			}
			if _, err := os.Stat(out); (err == nil) != (tc.code == 0) {
				t.Errorf("%s: %v", out, err)
			}
		})
	}
}

func encoded(t *testing.T, d *revocation.Document) []byte {
	t.Helper()
	data, err := d.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestRevokeExportOverAnother: a directory only goes forward, and what was
// half written is mended.
func TestRevokeExportOverAnother(t *testing.T) {
	ours := newSigner(t, "k1")
	keys := revocation.KeysIn(jose.Set{Keys: []jose.Key{ours.Key()}})
	opts := authRevokeExportOptions{out: filepath.Join(t.TempDir(), "usb")}
	issuer := revokingIssuer
	put := func(sequence int64) (bool, error) {
		doc := newBundle(t, ours, issuer, sequence)
		v, err := revocation.Verify(t.Context(), doc.Bundle, doc.Signature, "", keys)
		if err != nil {
			t.Fatal(err)
		}
		_, written, err := writeBundle(t.Context(), opts, doc, v, keys)
		return written, err
	}
	if written, err := put(7); err != nil || !written {
		t.Fatalf("written %v: %v", written, err)
	}
	before, err := os.ReadFile(filepath.Join(opts.out, revocation.FileBundle))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := put(6); fault.KindOf(err) != fault.Trust || len(fault.HintsOf(err)) == 0 {
		t.Errorf("an older list: %v", err)
	}
	if after, err := os.ReadFile(filepath.Join(opts.out, revocation.FileBundle)); err != nil || string(after) != string(before) {
		t.Errorf("the newer list was replaced: %v", err)
	}
	for _, name := range []string{revocation.FileBundle, revocation.FileSignature, revocation.FileDigest} {
		if err := os.WriteFile(filepath.Join(opts.out, name), []byte("half"), 0o644); err != nil {
			t.Fatal(err)
		}
		if written, err := put(8); err != nil || !written {
			t.Errorf("%s was half written: written %v: %v", name, written, err)
		}
	}
	if _, err := put(9); err != nil {
		t.Error(err)
	}
	issuer = "https://other.example"
	if _, err := put(10); fault.KindOf(err) != fault.Input || len(fault.HintsOf(err)) == 0 {
		t.Errorf("over another Authority's list: %v", err)
	}
}
