package pkcs11

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stella-ops/stella/internal/fault"
)

func TestOptions(t *testing.T) {
	dir := t.TempDir()
	good := Options{Module: filepath.Join(dir, "m.so"), Token: "stella prod", PIN: "env:PIN"}
	if err := os.WriteFile(good.Module, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Options){
		"good":          func(*Options) {}, // control
		"long token":    func(o *Options) { o.Token = strings.Repeat("x", maxLabel) },
		"PIN of file":   func(o *Options) { o.PIN = "file:/x" },
		"PIN of cred":   func(o *Options) { o.PIN = "cred:x" },
		"linked":        func(o *Options) { o.Module = linkTo(t, o.Module) },
		"!relative":     func(o *Options) { o.Module = "m.so" },
		"!no module":    func(o *Options) { o.Module = "" },
		"!missing":      func(o *Options) { o.Module += "x" },
		"!directory":    func(o *Options) { o.Module = dir },
		"!no token":     func(o *Options) { o.Token = "" },
		"!longer":       func(o *Options) { o.Token = strings.Repeat("x", maxLabel+1) },
		"!blank":        func(o *Options) { o.Token = "x " },
		"!zero":         func(o *Options) { o.Token = "x\x00" },
		"!no utf-8":     func(o *Options) { o.Token = "\xff" },
		"!no PIN":       func(o *Options) { o.PIN = "" },
		"!bare PIN":     func(o *Options) { o.PIN = "hunter2" },
		"!PIN of stdin": func(o *Options) { o.PIN = "stdin" },
		"!PIN of fd":    func(o *Options) { o.PIN = "fd:3" },
	} {
		o, want := good, fault.None
		if change(&o); name[0] == '!' {
			want = fault.Config
		}
		if err := o.check(); fault.KindOf(err) != want || err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func linkTo(t *testing.T, file string) string {
	t.Helper()
	link := filepath.Join(t.TempDir(), "link.so")
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	return link
}

func TestCheckName(t *testing.T) {
	for _, ok := range []string{"a", "stella-0a-1", "A9", strings.Repeat("a", maxName)} {
		if err := checkName(ok); err != nil {
			t.Errorf("%q: %v", ok, err)
		}
	}
	for _, bad := range []string{"", " ", "a.b", "a_b", "a~", "é", "a\x00", strings.Repeat("a", maxName+1)} {
		if err := checkName(bad); fault.KindOf(err) != fault.Input {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
