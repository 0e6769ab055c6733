package plugins

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/authority/users"
	"github.com/stella-ops/stella/internal/fault"
)

// dir makes a directory of manifests from pairs of name and text.
func dir(t *testing.T, files ...string) string {
	t.Helper()
	d := filepath.Join(t.TempDir(), "authority.plugins")
	if err := os.Mkdir(d, 0o755); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(files); i += 2 {
		if err := os.WriteFile(filepath.Join(d, files[i]), []byte(files[i+1]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

const full = `bootstrapUser: {username: Admin, password: "file:SECRET", scopes: [a], roles: [r], tenant: t}
passwordPolicy: {minimumLength: 14, requireUppercase: true, requireLowercase: true, requireDigit: true, requireSymbol: true}
passwordHashing: {algorithm: Argon2id, memorySizeInKib: 65536, iterations: 3, parallelism: 4}
lockout: {enabled: true, maxAttempts: 3, windowMinutes: 60}
tokenSigning: {keyDirectory: ../elsewhere}
`

func TestLoad(t *testing.T) {
	empty, err := Load(dir(t, "README.md", "x", ".hidden.yaml", "x", "standard.yaml.bak", "x"))
	if err != nil || empty.Path != "" || empty.Policy() != users.DefaultPolicy() {
		t.Fatalf("no manifest: %+v %v", empty, err)
	}
	if doc, err := empty.First(); doc != nil || err != nil {
		t.Errorf("no bootstrap user: %+v %v", doc, err)
	}
	secret := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(secret, []byte("correct horse battery\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"standard.yaml", "standard.yml", "Standard.YAML"} {
		s, err := Load(dir(t, file, strings.Replace(full, "SECRET", secret, 1)))
		if err != nil {
			t.Fatal(err)
		}
		if want := (users.Policy{
			Password: users.PasswordRules{MinimumLength: 14, Upper: true, Lower: true, Digit: true, Symbol: true},
			Hashing:  users.Hashing{MemoryKiB: 65536, Iterations: 3, Parallelism: 4},
			Lockout:  users.Lockout{Enabled: true, MaxAttempts: 3, Window: time.Hour},
		}); s.Policy() != want || filepath.Base(s.Path) != file {
			t.Errorf("%+v", s)
		}
		doc, err := s.First()
		if err != nil || !reflect.DeepEqual(doc, &users.Document{Username: "Admin", Password: "correct horse battery", Scopes: []string{"a"}, Roles: []string{"r"}, Tenant: "t"}) {
			t.Errorf("%+v %v", doc, err)
		}
	}
	if err := os.Chmod(secret, 0o644); err != nil {
		t.Fatal(err)
	}
	s, err := Load(dir(t, "standard.yaml", strings.Replace(full, "SECRET", secret, 1)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.First(); fault.KindOf(err) != fault.Config {
		t.Errorf("a password that others can read: %v", err)
	}
}

// Each differs from a good directory in one thing.
func TestLoadRefuses(t *testing.T) {
	good := strings.Replace(full, "SECRET", "x", 1)
	if _, err := Load(dir(t, "standard.yaml", good)); err != nil {
		t.Fatalf("control: %v", err)
	}
	for name, row := range map[string]struct{ old, new, want string }{
		"unknown key":        {"lockout:", "lockouts:", `standard.yaml:4: unknown key "lockouts"`},
		"wrong type":         {"minimumLength: 14", "minimumLength: many", "standard.yaml:2: passwordPolicy.minimumLength"},
		"password itself":    {`"file:x"`, "hunter2hunter2", "standard.yaml:1: bootstrapUser.password"},
		"no password":        {`password: "file:x", `, "", "bootstrapUser.password: is required"},
		"no username":        {"username: Admin, ", "", "bootstrapUser.username: is required"},
		"no tenant":          {", tenant: t", "", "bootstrapUser.tenant: is required"},
		"odd username":       {"Admin", "a/b", "standard.yaml:1: bootstrapUser.username"},
		"reset":              {"username", "requirePasswordReset: true, username", "standard.yaml:1: bootstrapUser.requirePasswordReset"},
		"short passwords":    {"minimumLength: 14", "minimumLength: 7", "standard.yaml:2: passwordPolicy.minimumLength"},
		"endless passwords":  {"minimumLength: 14", "minimumLength: 257", "standard.yaml:2: passwordPolicy.minimumLength"},
		"algorithm":          {"Argon2id", "Pbkdf2", "standard.yaml:3: passwordHashing.algorithm"},
		"little memory":      {"65536", "7000", "standard.yaml:3: passwordHashing: too weak"},
		"little work":        {"65536, iterations: 3", "19456, iterations: 1", "standard.yaml:3: passwordHashing: too weak"},
		"much memory":        {"65536", "262145", "standard.yaml:3: passwordHashing"},
		"many lanes":         {"parallelism: 4", "parallelism: 17", "standard.yaml:3: passwordHashing"},
		"lanes overflow":     {"parallelism: 4", "parallelism: 260", "standard.yaml:3: passwordHashing.parallelism"},
		"no attempts":        {"maxAttempts: 3", "maxAttempts: 0", "standard.yaml:4: lockout.maxAttempts"},
		"many attempts":      {"maxAttempts: 3", "maxAttempts: 101", "standard.yaml:4: lockout.maxAttempts"},
		"no window":          {"windowMinutes: 60", "windowMinutes: 0", "standard.yaml:4: lockout.windowMinutes"},
		"long window":        {"windowMinutes: 60", "windowMinutes: 1441", "standard.yaml:4: lockout.windowMinutes"},
		"negative iteration": {"iterations: 3", "iterations: -3", "standard.yaml:3: passwordHashing.iterations"},
	} {
		text := strings.Replace(good, row.old, row.new, 1)
		if text == good {
			t.Fatalf("%s changes nothing", name)
		}
		_, err := Load(dir(t, "standard.yaml", text))
		if fault.KindOf(err) != fault.Config || !strings.Contains(err.Error(), row.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, files := range map[string][]string{
		"another plug-in": {"ldap.yaml", ""},
		"beside standard": {"ldap.yml", "", "standard.yaml", good},
		"two of them":     {"standard.yaml", good, "standard.yml", good},
		"two by case":     {"Standard.yaml", good, "standard.yaml", good},
	} {
		if s, err := Load(dir(t, files...)); fault.KindOf(err) != fault.Config || s != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Load(filepath.Join(t.TempDir(), "absent")); fault.KindOf(err) != fault.Config {
		t.Errorf("no directory: %v", err)
	}
	var many []string
	for i := range maxEntries + 1 {
		many = append(many, "note-"+strings.Repeat("x", i%200)+string(rune('a'+i/200)), "")
	}
	if _, err := Load(dir(t, many...)); fault.KindOf(err) != fault.Config {
		t.Errorf("too many files: %v", err)
	}
}

func TestKeyDirectory(t *testing.T) {
	base := dir(t, "standard.yaml", "tokenSigning: {keyDirectory: ../own}\n")
	set, err := Load(base)
	if err != nil {
		t.Fatal(err)
	}
	parent := filepath.Dir(base)
	for _, row := range []struct {
		s               *Standard
		main, dir, says string
	}{
		{Default(base), "", filepath.Join(parent, "keys"), ""},
		{Default(base), "/main", "/main", ""},
		{set, "", filepath.Join(parent, "own"), ""},
		{set, parent + "/own/", parent + "/own/", ""},
		{set, "/main", "/main", `keys are in "/main" (signing.keyDirectory), not in "` + parent + `/own"`},
	} {
		got, note := row.s.KeyDirectory(row.main)
		if got != row.dir || !strings.HasPrefix(note, row.says) || (row.says == "") != (note == "") {
			t.Errorf("main %q: %q, %q", row.main, got, note)
		}
	}
}

// keys lists the keys of a manifest.
func keys(t reflect.Type, prefix string) []string {
	var all []string
	for i := range t.NumField() {
		f := t.Field(i)
		switch tag := f.Tag.Get("yaml"); {
		case tag == "-" || !f.IsExported():
		case f.Type.Kind() == reflect.Struct:
			all = append(all, keys(f.Type, prefix+tag+".")...)
		default:
			all = append(all, prefix+tag)
		}
	}
	return all
}

// The sample is accepted as it is and with its comments taken away, and sample
// and manual have every key.
func TestDocumented(t *testing.T) {
	sample, err := os.ReadFile("../../../etc/authority.plugins/standard.yaml")
	if err != nil {
		t.Fatal(err)
	}
	manual, err := os.ReadFile("../../../docs/config-authority-plugins.md")
	if err != nil {
		t.Fatal(err)
	}
	s, err := Load("../../../etc/authority.plugins")
	if err != nil || s.Policy() != users.DefaultPolicy() {
		t.Fatalf("the sample is not the defaults: %+v %v", s, err)
	}
	open := regexp.MustCompile(`(?m)^#( *[A-Za-z]+:( |$))`).ReplaceAll(sample, []byte("$1"))
	open = regexp.MustCompile(`(?m)^  # ([a-zA-Z]+:)`).ReplaceAll(open, []byte("  $1"))
	open = regexp.MustCompile(`(?m)^ (bootstrapUser|tokenSigning):`).ReplaceAll(open, []byte("$1:"))
	open = regexp.MustCompile(`(?m)^   ([a-zA-Z]+:)`).ReplaceAll(open, []byte("  $1"))
	if s, err = Load(dir(t, "standard.yaml", string(open))); err != nil || s.BootstrapUser.Username == "" || s.TokenSigning.KeyDirectory == "" {
		t.Fatalf("%v in\n%s", err, open)
	}
	all := keys(reflect.TypeFor[Standard](), "")
	if len(all) != 19 {
		t.Errorf("%d keys: %v", len(all), all)
	}
	for _, key := range all {
		name := key[strings.LastIndexByte(key, '.')+1:]
		if !regexp.MustCompile(`(?m)^[\s#]*` + name + `:`).Match(sample) {
			t.Errorf("the sample lacks %s", key)
		}
		if !bytes.Contains(manual, []byte("| `"+key+"` |")) {
			t.Errorf("the manual lacks %s", key)
		}
	}
}

// FuzzParse: what is accepted is a policy that the directory of users can obey.
func FuzzParse(f *testing.F) {
	f.Add([]byte(full))
	f.Add([]byte("lockout: {enabled: false}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s := Default("d")
		s.Path = "d/standard.yaml"
		if err := s.parse(data); err != nil {
			if fault.KindOf(err) != fault.Config {
				t.Fatal(err)
			}
			return
		}
		p := s.Policy()
		if p.Hashing.Check() != nil || p.Lockout.MaxAttempts < 1 || p.Lockout.Window < time.Minute || p.Password.MinimumLength < 8 {
			t.Fatalf("%q gives %+v", data, p)
		}
	})
}
