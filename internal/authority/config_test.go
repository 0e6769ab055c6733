package authority_test

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/stella-ops/stella/internal/authority"
	"github.com/stella-ops/stella/internal/fault"
)

const minimal = `schemaVersion: 1
issuer: https://authority.example
tls: {certificate: a.crt, key: a.key}
signing: {keyDirectory: /keys}
`

func TestConfigRefusals(t *testing.T) {
	if _, err := authority.ParseConfig("a.yaml", []byte(minimal), nil); err != nil {
		t.Fatalf("control: %v", err)
	}
	rows := map[string]struct{ yaml, want string }{
		"unknown key":      {minimal + "isuer: x\n", "a.yaml:5: "},
		"repeated key":     {minimal + "issuer: https://b.example\n", "a.yaml:5: issuer"},
		"wrong type":       {minimal + "tenants: acme\n", "a.yaml:5: tenants"},
		"schema":           {strings.Replace(minimal, "1", "2", 1), "a.yaml:1: schemaVersion"},
		"issuer slash":     {strings.Replace(minimal, "example", "example/", 1), "a.yaml:2: issuer"},
		"issuer http":      {strings.Replace(minimal, "https", "http", 1), "a.yaml:2: issuer"},
		"issuer port 0":    {strings.Replace(minimal, "example", "example:0", 1), "issuer: port 0"},
		"no tls":           {strings.Replace(minimal, "tls:", "#", 1), "tls: certificate and key"},
		"http not local":   {strings.Replace(minimal, "tls: {certificate: a.crt, key: a.key}", "insecureHttp: true\nlisten: 0.0.0.0:80", 1), "insecureHttp"},
		"password":         {minimal + "storage: {connectionString: \"mongodb://u:hunter2@h/\"}\n", "storage.connectionString: holds a password"},
		"not mongodb":      {minimal + "storage: {connectionString: \"postgres://h/\"}\n", "storage.connectionString: want"},
		"memory":           {minimal + "storage: {connectionString: memory}\n", "storage.connectionString: memory"},
		"long lifetime":    {minimal + "accessTokenLifetime: 1.00:00:00\n", "a.yaml:5: accessTokenLifetime"},
		"fine lifetime":    {minimal + "accessTokenLifetime: 00:02:00.0005\n", "a.yaml:5: accessTokenLifetime: 00:02:00.0005 is not a whole"},
		"fine cache":       {strings.Replace(minimal, "{keyDirectory", "{jwksCacheLifetime: 1.0001s, keyDirectory", 1), "signing.jwksCacheLifetime"},
		"fine skew":        {strings.Replace(minimal, "{keyDirectory", "{clockSkew: 1us, keyDirectory", 1), "signing.clockSkew"},
		"fine lease":       {strings.Replace(minimal, "{keyDirectory", "{signLease: 10000.5ms, keyDirectory", 1), "signing.signLease"},
		"bare number":      {minimal + "accessTokenLifetime: 120\n", "accessTokenLifetime"},
		"admin":            {minimal + "admin: {listen: \"0.0.0.0:9\"}\n", "admin.listen"},
		"secret in place":  {minimal + "bootstrap: {apiKey: hunter2hunter2}\n", "bootstrap.apiKey"},
		"activeKeyId":      {strings.Replace(minimal, "{keyDirectory", "{activeKeyId: k, keyDirectory", 1), "signing.activeKeyId"},
		"additionalKeys":   {strings.Replace(minimal, "{keyDirectory", "{additionalKeys: [{keyId: k}], keyDirectory", 1), "signing.additionalKeys"},
		"algorithm":        {strings.Replace(minimal, "{keyDirectory", "{algorithm: RS256, keyDirectory", 1), "allowed values: ES256"},
		"no key directory": {strings.Replace(minimal, "keyDirectory: /keys", "", 1), "signing.keyDirectory"},
		"same point twice": {strings.Replace(minimal, "{keyDirectory", "{vantagePoints: [{name: e, url: 'https://e/'}, {name: e, url: 'https://e/'}], keyDirectory", 1), "vantagePoints.1.name"},
		"tenant":           {minimal + "tenants: [ACME]\n", "tenants.0"},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			_, err := authority.ParseConfig("a.yaml", []byte(row.yaml), nil)
			if fault.KindOf(err) != fault.Config || !strings.Contains(err.Error(), row.want) {
				t.Fatalf("%v", err)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("repeats a secret: %v", err)
			}
		})
	}
}

func TestConfigEnvironment(t *testing.T) {
	c, err := authority.ParseConfig("a.yaml", []byte(minimal), []string{
		"STELLAOPS_AUTHORITY__ISSUER=https://other.example", "STELLAOPS_AUTHORITY__TENANTS__0=acme",
		"STELLAOPS_AUTHORITY__SECURITY__DPOP__REQUIRENONCE=false",
	})
	if err != nil || c.Issuer != "https://other.example" || c.Tenants[0] != "acme" || c.Security.DPoP.RequireNonce {
		t.Fatalf("%+v %v", c, err)
	}
	// Names that upstream's deployments set.
	plugins := t.TempDir()
	c, err = authority.ParseConfig("a.yaml", []byte(minimal), []string{
		"STELLAOPS_AUTHORITY__PLUGINDIRECTORIES__0=/app/plugins", "STELLAOPS_AUTHORITY__PLUGINS__CONFIGURATIONDIRECTORY=" + plugins,
		"STELLAOPS_AUTHORITY__SECURITY__RATELIMITING__TOKEN__PERMITLIMIT=7",
	})
	if err != nil || c.Security.RateLimiting.Token.PermitLimit != 7 || c.Plugins.ConfigurationDirectory != plugins || len(c.PluginDirectories) != 1 {
		t.Errorf("upstream's names: %+v %v", c, err)
	}
	if _, err := authority.ParseConfig("a.yaml", []byte(minimal), []string{"STELLAOPS_AUTHORITY__ISUER=x"}); fault.KindOf(err) != fault.Config {
		t.Fatalf("unknown name: %v", err)
	}
}

// paths lists the keys of a Config; list items are keys of the list.
func paths(t reflect.Type, prefix string) []string {
	var all []string
	for i := range t.NumField() {
		f := t.Field(i)
		if !f.IsExported() {
			continue
		}
		path := prefix + f.Tag.Get("yaml")
		ft := f.Type
		if ft.Kind() == reflect.Slice {
			ft = ft.Elem()
		}
		if ft.Kind() == reflect.Struct {
			all = append(all, paths(ft, path+".")...)
			continue
		}
		all = append(all, path)
	}
	return all
}

// The sample decodes, and sample and manual have every key.
func TestConfigIsDocumented(t *testing.T) {
	sample, err := os.ReadFile("../../etc/authority.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := authority.ParseConfig("authority.yaml", sample, nil); err != nil {
		t.Fatal(err)
	}
	manual, err := os.ReadFile("../../docs/config-authority.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths(reflect.TypeFor[authority.Config](), "") {
		name := path[strings.LastIndexByte(path, '.')+1:]
		if !regexp.MustCompile(`(?m)^[\s#-]*` + name + `:`).Match(sample) {
			t.Errorf("etc/authority.yaml lacks %s", path)
		}
		doc := "`" + path + "`"
		if strings.HasPrefix(path, "signing.additionalKeys.") {
			doc = "`" + name + "`"
		}
		if !bytes.Contains(manual, []byte(doc)) {
			t.Errorf("docs/config-authority.md lacks %s", path)
		}
	}
}

func TestMainCommand(t *testing.T) {
	s := newSite(t)
	file := s.write("a.yaml", s.config("a", "https://127.0.0.1:0", memory, "", ""))
	run := func(args ...string) (int, string, string) {
		var out, errs bytes.Buffer
		code := authority.Main(args, nil, &out, &errs)
		return code, out.String(), errs.String()
	}
	if code, out, errs := run("--config", file, "--check"); code != 0 || !strings.Contains(out, "good") {
		t.Errorf("check: %d %s %s", code, out, errs)
	}
	if code, out, _ := run("--help"); code != 0 || !strings.Contains(out, "usage:") {
		t.Errorf("help: %d %s", code, out)
	}
	if code, _, errs := run("--port", "1"); code != 2 || !strings.Contains(errs, "hint:") {
		t.Errorf("unknown flag: %d %s", code, errs)
	}
	if code, _, errs := run("--config", filepath.Join(s.dir, "absent.yaml")); code != 78 {
		t.Errorf("absent file: %d %s", code, errs)
	}
	if err := os.Chmod(filepath.Join(s.dir, "bootstrap"), 0o644); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := run("--config", file, "--check"); code != 78 || !strings.Contains(errs, "chmod 600") {
		t.Errorf("open secret: %d %s", code, errs)
	}
	if entries, err := os.ReadDir(filepath.Join(s.dir, "keys")); err != nil || len(entries) != 0 {
		t.Errorf("check touched the key directory: %v %v", entries, err)
	}
}

// A reload takes in what may change, and refuses the rest as a whole.
func TestReload(t *testing.T) {
	s := newSite(t)
	base := s.config("a", "https://127.0.0.1:0", memory, "", "")
	next := base
	r := s.start("a", base, authority.Deps{Reload: func() (*authority.Config, error) {
		return authority.ParseConfig("a.yaml", []byte(next), nil)
	}})
	secret := r.client(standard("svc"))
	good := func() bool { return r.send(r.request("svc", secret, newProver(t))).status == 200 }
	if !good() {
		t.Fatal("control")
	}
	next = base + "tenants: [beta]\n"
	r.srv.Reload(t.Context())
	refused(t, r.send(r.request("svc", secret, newProver(t))), 400, "unauthorized_client")
	next = strings.Replace(base, "replica: a", "replica: b", 1) + "tenants: [acme]\n"
	r.srv.Reload(t.Context())
	refused(t, r.send(r.request("svc", secret, newProver(t))), 400, "unauthorized_client")
	next = "nonsense"
	r.srv.Reload(t.Context())
	refused(t, r.send(r.request("svc", secret, newProver(t))), 400, "unauthorized_client")
	next = base
	r.srv.Reload(t.Context())
	if !good() {
		t.Error("not back")
	}
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte(minimal))
	f.Add([]byte(minimal + "storage: {connectionString: memory, acceptDataLoss: true}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := authority.ParseConfig("f.yaml", data, nil)
		if err == nil && (c.SchemaVersion != 1 || c.Signing.KeyDirectory == "" || c.Replica == "") {
			t.Fatalf("accepted %q", data)
		}
		if err != nil && fault.KindOf(err) != fault.Config {
			t.Fatalf("kind of %v", err)
		}
	})
}
