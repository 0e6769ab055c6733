package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/release"
	"github.com/stella-ops/stella/internal/testenv/exports"
)

// TestExportSizes: what was asked for is what is there.
func TestExportSizes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "e")
	key, err := exports.NewKey(jose.ES256, "k1")
	if err != nil {
		t.Fatal(err)
	}
	private, _, err := key.WriteFiles(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	out := new(page)
	args := []string{dir, "--feed=excititor", "--domains", "a,b,c", "--bundle-size", "1MiB", "--files", "3", "--file-size", "10KiB",
		"--export-id", "x1", "--seed", "7", "--key", private, "--key-id", "k1"}
	if err := export(t.Context(), args, out); err != nil {
		t.Fatal(err)
	}
	if want := dir + ": export x1 of excititor: "; !strings.HasPrefix(out.String(), want) || !strings.HasSuffix(out.String(), "; seed 7\n") {
		t.Errorf("%q", out)
	}
	for _, domain := range []string{"a", "b", "c"} {
		info, err := os.Stat(filepath.Join(dir, release.BundlePath(domain)))
		if err != nil || info.Size() < 1<<20 || info.Size() > 1<<20+4096 {
			t.Errorf("bundle of %s: %v, %v", domain, info, err)
		}
		jws, err := os.ReadFile(filepath.Join(dir, release.BundlePath(domain)+release.SuffixJWS))
		if o, oerr := jose.OpenDetached(strings.TrimSpace(string(jws)), jose.Rules{Algs: []jose.Alg{jose.ES256}, Critical: []string{"b64"}, MaxBytes: 4096}); err != nil || oerr != nil || o.Header.KeyID != "k1" {
			t.Errorf("signature of %s: %v, %v, %+v", domain, err, oerr, o)
		}
	}
	files, err := filepath.Glob(filepath.Join(dir, "mirror/a/data/*/*/*.bin"))
	if err != nil || len(files) != 3 {
		t.Fatalf("%q, %v", files, err)
	}
	if info, err := os.Stat(files[0]); err != nil || info.Size() != 10<<10 {
		t.Errorf("%v, %v", info, err)
	}
}

// TestExportRefusals: one error for each mistake, and the same without it is taken.
func TestExportRefusals(t *testing.T) {
	taken := t.TempDir()
	if err := os.Mkdir(filepath.Join(taken, "mirror"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		kind fault.Kind
		text string
		args []string
	}{
		"control":         {fault.None, "", []string{"DIR", "--records", "0"}},
		"no folder":       {fault.Input, "found 0", nil},
		"two folders":     {fault.Input, "found 2", []string{"DIR", "other"}},
		"a folder in use": {fault.Input, "exists", []string{taken}},
		"unknown flag":    {fault.Input, "-colour", []string{"DIR", "--colour"}},
		"a size":          {fault.Input, "write bytes", []string{"DIR", "--bundle-size", "1GB"}},
		"too large":       {fault.Input, "write bytes", []string{"DIR", "--bundle-size", "1025GiB"}},
		"overflow":        {fault.Input, "write bytes", []string{"DIR", "--bundle-size", "9223372036854775807KiB"}},
		"feed":            {fault.Input, "allowed: concelier, excititor", []string{"DIR", "--feed", "other"}},
		"export id":       {fault.Input, "not a plain name", []string{"DIR", "--export-id", "../x"}},
		"domain":          {fault.Input, "--domains", []string{"DIR", "--domains", "a,../b"}},
		"a domain twice":  {fault.Input, "--domains", []string{"DIR", "--domains", "a,a"}},
		"no domain":       {fault.Input, "--domains", []string{"DIR", "--domains", ""}},
		"files":           {fault.Input, "not negative", []string{"DIR", "--files", "-1"}},
		"key":             {fault.Config, "none.pem", []string{"DIR", "--key", filepath.Join(taken, "none.pem")}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "d")
			var args []string
			for _, a := range row.args {
				args = append(args, strings.Replace(a, "DIR", dir, 1))
			}
			err := export(t.Context(), args, io.Discard)
			if fault.KindOf(err) != row.kind || err != nil && !strings.Contains(err.Error(), row.text) {
				t.Errorf("%v: %v, expected %v with %q", fault.KindOf(err), err, row.kind, row.text)
			}
			if _, err := os.Stat(dir); (err == nil) != (row.kind == fault.None) {
				t.Errorf("the folder: %v", err)
			}
		})
	}
}
