package deploy_test

import (
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// packaging is the part of .goreleaser.yaml that is about files.
type packaging struct {
	Archives []struct {
		IDs   []string `yaml:"ids"`
		Files []string `yaml:"files"`
	} `yaml:"archives"`
	NFPMs []struct {
		Bindir   string `yaml:"bindir"`
		Contents []struct {
			Src      string `yaml:"src"`
			Dst      string `yaml:"dst"`
			Type     string `yaml:"type"`
			FileInfo struct {
				Mode int `yaml:"mode"`
			} `yaml:"file_info"`
		} `yaml:"contents"`
		Scripts map[string]string `yaml:"scripts"`
	} `yaml:"nfpms"`
}

func packages(t *testing.T) (p packaging) {
	t.Helper()
	data, err := os.ReadFile("../.goreleaser.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(data, &p); err != nil {
		t.Fatal(err)
	}
	if len(p.NFPMs) != 1 || len(p.Archives) < 2 {
		t.Fatalf("%d packages, %d archives", len(p.NFPMs), len(p.Archives))
	}
	return p
}

func matches(t *testing.T, pattern, name string) bool {
	t.Helper()
	ok, err := path.Match(pattern, name)
	if err != nil {
		t.Fatal(err)
	}
	return ok
}

// TestEverythingIsPackaged: what lies here is in the package, where its reader
// looks, and in an archive.
func TestEverythingIsPackaged(t *testing.T) {
	p := packages(t)
	homes := map[string]string{
		"systemd": "/usr/lib/systemd/system/", "sysusers.d": "/usr/lib/sysusers.d/", "tmpfiles.d": "/usr/lib/tmpfiles.d/",
		"logrotate.d": "/etc/logrotate.d/", "monitoring": "/usr/share/stella/monitoring/", "kubernetes": "/usr/share/stella/kubernetes/",
	}
	for _, file := range append(glob(t, "*/*", 14), "../docs/runbooks/mirror.md") {
		name := path.Join("deploy", file)
		home, known := homes[path.Dir(file)]
		if file == "../docs/runbooks/mirror.md" {
			home, known = "/usr/share/doc/stella/runbooks/", true
		}
		if !known {
			t.Errorf("%s: where does a package put it?", name)
		}
		packed := 0
		for _, c := range p.NFPMs[0].Contents {
			if c.Src != "" && matches(t, c.Src, name) {
				packed++
				if !strings.HasPrefix(c.Dst, home) {
					t.Errorf("%s goes to %s, not below %s", name, c.Dst, home)
				}
			}
		}
		if packed != 1 {
			t.Errorf("%s is %d times in the package", name, packed)
		}
		if !slices.ContainsFunc(p.Archives, func(a struct {
			IDs   []string `yaml:"ids"`
			Files []string `yaml:"files"`
		}) bool {
			return slices.ContainsFunc(a.Files, func(pattern string) bool { return matches(t, pattern, name) })
		}) {
			t.Errorf("%s is in no archive", name)
		}
	}
}

// TestPackagePaths: no pattern is about nothing, programs are where the units
// look, and what the units read has a closed folder.
func TestPackagePaths(t *testing.T) {
	p := packages(t)
	if p.NFPMs[0].Bindir != "/usr/bin" {
		t.Errorf("programs go to %s, the units say /usr/bin", p.NFPMs[0].Bindir)
	}
	closed := map[string]bool{}
	for _, c := range p.NFPMs[0].Contents {
		if c.Type == "dir" && c.FileInfo.Mode == 0o700 {
			closed[c.Dst] = true
		}
		if strings.HasPrefix(c.Src, "deploy/") {
			glob(t, "../"+c.Src, 1)
		}
	}
	for _, a := range p.Archives {
		for _, pattern := range a.Files {
			if strings.HasPrefix(pattern, "deploy/") || strings.HasPrefix(pattern, "docs/") {
				glob(t, "../"+pattern, 1)
			}
		}
	}
	for _, l := range readUnit(t, "systemd/stella-mirror-sync.service")["Service.LoadCredential"] {
		if _, file, _ := strings.Cut(l, ":"); !closed[path.Dir(file)] {
			t.Errorf("%s: the package makes no closed folder %s", l, path.Dir(file))
		}
	}
	script, err := os.ReadFile("../" + p.NFPMs[0].Scripts["postinstall"])
	if err != nil {
		t.Fatal(err)
	}
	users, folders := strings.Index(string(script), "systemd-sysusers /usr/lib/sysusers.d/stella.conf"), strings.Index(string(script), "systemd-tmpfiles --create /usr/lib/tmpfiles.d/stella.conf")
	if users < 0 || folders < users {
		t.Error("the postinstall script does not make the users, and then their folders")
	}
}
