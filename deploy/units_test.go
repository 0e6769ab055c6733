package deploy_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stella-ops/stella/internal/testenv"
)

// unit is a unit file: each key, "Section.Name", with all its values in order.
type unit map[string][]string

func readUnit(t *testing.T, path string) unit {
	t.Helper()
	u := unit{}
	section := ""
	for i, line := range lines(t, path) {
		line = strings.TrimSpace(line)
		name, value, ok := strings.Cut(line, "=")
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "[") && strings.HasSuffix(line, "]"):
			section = line[1 : len(line)-1]
		case !ok || section == "":
			t.Errorf("%s:%d is no setting: %q", path, i+1, line)
		default:
			u[section+"."+name] = append(u[section+"."+name], value)
		}
	}
	return u
}

// one is the value of a key that must be there once.
func (u unit) one(t *testing.T, key string) string {
	t.Helper()
	if len(u[key]) != 1 {
		t.Errorf("%s is there %d times, want once", key, len(u[key]))
		return ""
	}
	return u[key][0]
}

// environment is what Environment= sets.
func (u unit) environment() map[string]string {
	env := map[string]string{}
	for _, v := range u["Service.Environment"] {
		name, value, _ := strings.Cut(v, "=")
		env[name] = value
	}
	return env
}

func lines(t *testing.T, path string) []string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out []string
	for s := bufio.NewScanner(f); s.Scan(); {
		out = append(out, s.Text())
	}
	return out
}

func glob(t *testing.T, pattern string, least int) []string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) < least {
		t.Fatalf("%s: %d files, want %d or more: %v", pattern, len(files), least, err)
	}
	return files
}

func TestMirrorUnits(t *testing.T) {
	for path, want := range map[string]map[string]string{
		"systemd/stella-mirror-sync.service": {
			"Service.Type": "oneshot", "Service.ExecStart": "/usr/bin/stella --config /etc/stella/stella.yaml mirror sync",
			"Service.User": "stella-mirror", "Service.Group": "stella-mirror",
			// What nobody may read nobody can serve.
			"Service.UMask": "0022", "Service.StateDirectory": "stella-mirror", "Service.StateDirectoryMode": "0755",
			"Unit.RequiresMountsFor": "/var/lib/stella-mirror",
			// 21 and 78 leave the unit failed; what passes does not.
			"Service.SuccessExitStatus": "10 24 143",
			"Service.TimeoutStartSec":   "6h", "Service.MemoryMax": "512M",
			"Service.RestrictAddressFamilies": "AF_INET AF_INET6",
		},
		"systemd/stella-mirror-prune.service": {
			"Service.Type": "oneshot", "Service.ExecStart": "/usr/bin/stella --config /etc/stella/stella.yaml --offline mirror prune",
			"Service.User": "stella-mirror", "Service.UMask": "0022", "Service.StateDirectory": "stella-mirror",
			"Service.StateDirectoryMode": "0755", "Service.PrivateNetwork": "yes", "Service.SuccessExitStatus": "24 143",
		},
		"systemd/stella-mirror-sync.timer": {
			"Timer.OnCalendar": "*:0/5", "Timer.Persistent": "yes", "Timer.AccuracySec": "1s",
			"Timer.RandomizedDelaySec": "60s", "Timer.FixedRandomDelay": "yes", "Install.WantedBy": "timers.target",
		},
		"systemd/stella-mirror-prune.timer": {"Timer.Persistent": "yes", "Install.WantedBy": "timers.target"},
	} {
		u := readUnit(t, path)
		for key, value := range want {
			if got := u.one(t, key); got != value {
				t.Errorf("%s: %s is %q, want %q", path, key, got, value)
			}
		}
	}
}

// TestUnitsFitTogether: users exist, credentials that are referred to are
// loaded, and folders of one service are not behind the closed one of another.
func TestUnitsFitTogether(t *testing.T) {
	users := regexp.MustCompile(`(?m)^u (\S+)`).FindAllStringSubmatch(strings.Join(lines(t, "sysusers.d/stella.conf"), "\n"), -1)
	closed, state := map[string]string{}, map[string][]string{}
	for _, path := range glob(t, "systemd/*.service", 4) {
		u := readUnit(t, path)
		if name := u.one(t, "Service.User"); !slices.ContainsFunc(users, func(m []string) bool { return m[1] == name }) {
			t.Errorf("%s: no user %q in sysusers.d", path, name)
		}
		for name, value := range u.environment() {
			if cred, ok := strings.CutPrefix(value, "cred:"); ok && !slices.ContainsFunc(u["Service.LoadCredential"], func(l string) bool { return strings.HasPrefix(l, cred+":/") }) {
				t.Errorf("%s: %s refers to the credential %q, which is not loaded", path, name, cred)
			}
		}
		for _, dir := range strings.Fields(strings.Join(u["Service.StateDirectory"], " ")) {
			state[dir] = append(state[dir], path)
			if u.one(t, "Service.StateDirectoryMode") == "0700" {
				closed[dir] = u.one(t, "Service.User")
			}
		}
	}
	for dir, paths := range state {
		for _, path := range paths {
			user := readUnit(t, path).one(t, "Service.User")
			for above, owner := range closed {
				if owner != user && (dir == above || strings.HasPrefix(dir, above+"/")) {
					t.Errorf("%s: %s cannot reach %s, which is below %s of %s", path, user, dir, above, owner)
				}
			}
		}
	}
}

// TestFolders: what the units want is made when the package is installed, with
// the same owner and mode.
func TestFolders(t *testing.T) {
	made := map[string]bool{}
	for _, line := range lines(t, "tmpfiles.d/stella.conf") {
		f := strings.Fields(line)
		if len(f) == 0 || f[0] == "#" {
			continue
		}
		if len(f) != 6 || f[0] != "d" || f[2] != "0755" || f[3] != "stella-mirror" || f[4] != "stella-mirror" || f[5] != "-" {
			t.Errorf("%q is no line for a folder that the mirror writes and all read", line)
			continue
		}
		made[f[1]] = true
	}
	for _, want := range []string{"/var/lib/stella-mirror", "/var/lib/stella-mirror/concelier", "/var/lib/stella-mirror/excititor"} {
		if !made[want] {
			t.Errorf("nothing makes %s", want)
		}
	}
}

// place copies all units aside, with a program in them that is there, and
// returns the path of the named one after change.
func place(t *testing.T, name string, change func(string) string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, path := range glob(t, "systemd/*", 7) {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		text := regexp.MustCompile(`(?m)^ExecStart=\S+`).ReplaceAllLiteralString(string(data), "ExecStart="+self)
		if filepath.Base(path) == name && change != nil {
			changed := change(text)
			if changed == text {
				t.Fatalf("the control did not change %s", name)
			}
			text = changed
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(path)), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, name)
}

func TestSystemdUnderstands(t *testing.T) {
	analyze := testenv.Need(t, "systemd-analyze", "systemd")
	verify := func(path string) string {
		out, err := exec.CommandContext(t.Context(), analyze, "verify", path).CombinedOutput()
		if err != nil && len(out) == 0 {
			t.Fatal(err)
		}
		return string(out) // an unknown key is a warning, and no error
	}
	for _, path := range glob(t, "systemd/*", 7) {
		name := filepath.Base(path)
		if out := verify(place(t, name, nil)); out != "" {
			t.Errorf("%s: %s", name, out)
		}
	}
	for name, bad := range map[string]string{"stella-mirror-sync.service": "ProtectSystems=strict", "stella-mirror-sync.timer": "OnCalendar=*:0/65"} {
		section := "[Service]"
		if strings.HasSuffix(name, ".timer") {
			section = "[Timer]"
		}
		path := place(t, name, func(s string) string { return strings.Replace(s, section, section+"\n"+bad, 1) })
		if out := verify(path); out == "" {
			t.Errorf("control: %s with %q passes", name, bad)
		}
	}
}

func TestSandbox(t *testing.T) {
	analyze := testenv.Need(t, "systemd-analyze", "systemd")
	exposure := func(path string) float64 {
		out, err := exec.CommandContext(t.Context(), analyze, "security", "--offline=yes", "--no-pager", path).CombinedOutput()
		m := regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+)`).FindSubmatch(out)
		if m == nil {
			t.Fatalf("%v: %s", err, out)
		}
		level, err := strconv.ParseFloat(string(m[1]), 64)
		if err != nil {
			t.Fatal(err)
		}
		return level
	}
	limits := map[string]float64{"stella-mirror-sync.service": 1.5, "stella-mirror-prune.service": 0.8}
	for _, path := range glob(t, "systemd/*.service", 4) {
		name := filepath.Base(path)
		limit, ok := limits[name]
		if !ok {
			limit = 2
		}
		level := exposure(place(t, name, nil))
		t.Logf("%s: exposure %.1f", name, level)
		if level > limit {
			t.Errorf("%s has an exposure of %.1f, more than %.1f: systemd-analyze security --offline=yes says of what", name, level, limit)
		}
	}
	open := func(s string) string {
		return regexp.MustCompile(`(?m)^(Protect|Private|Restrict|SystemCall|CapabilityBounding|NoNew|IPAddress).*\n`).ReplaceAllString(s, "")
	}
	for name := range limits {
		if level := exposure(place(t, name, open)); level <= 2 {
			t.Errorf("control: %s without its sandbox has an exposure of %.1f", name, level)
		}
	}
}

// TestTimerInterval: systemd reads the calendar as every five minutes.
func TestTimerInterval(t *testing.T) {
	analyze := testenv.Need(t, "systemd-analyze", "systemd")
	spec := readUnit(t, "systemd/stella-mirror-sync.timer").one(t, "Timer.OnCalendar")
	cmd := exec.CommandContext(t.Context(), analyze, "calendar", "--base-time=2026-11-22 12:01:00 UTC", "--iterations=3", spec)
	cmd.Env = append(os.Environ(), "TZ=UTC")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, want := range []int{5, 10, 15} {
		if !strings.Contains(string(out), fmt.Sprintf("2026-11-22 12:%02d:00 UTC", want)) {
			t.Errorf("no run at 12:%02d: %s", want, out)
		}
	}
}
