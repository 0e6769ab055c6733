package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/stella-ops/stella/internal/fault"
)

// place makes a file below dir and returns its path.
func place(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// source is one that finds nothing of this machine.
func source(t *testing.T, env ...string) Source {
	t.Helper()
	dir := t.TempDir()
	return Source{Environ: append([]string{"HOME=" + filepath.Join(dir, "home"), "XDG_CONFIG_HOME=" + filepath.Join(dir, "xdg")}, env...), System: filepath.Join(dir, "etc.yaml")}
}

func TestSearchOrder(t *testing.T) {
	dir := t.TempDir()
	named := place(t, dir, "named.yaml", "tenant: named\n")
	env := place(t, dir, "env.yaml", "tenant: env\n")
	xdg := place(t, dir, "xdg/stella/stella.yaml", "tenant: xdg\n")
	home := place(t, dir, "home/.config/stella/stella.yaml", "tenant: home\n")
	system := place(t, dir, "etc.yaml", "tenant: system\n")
	src := Source{Path: named, System: system, Environ: []string{"STELLA_CONFIG=" + env, "XDG_CONFIG_HOME=" + filepath.Join(dir, "xdg"), "HOME=" + filepath.Join(dir, "home")}}
	for _, want := range []string{"named", "env", "xdg", "home", "system", ""} {
		c, err := Load(src)
		if err != nil || c.Tenant != want {
			t.Fatalf("tenant %q, %v; want %q", c.Tenant, err, want)
		}
		switch want { // take away what has been found
		case "named":
			src.Path = ""
		case "env":
			src.Environ = src.Environ[1:]
		case "xdg":
			src.Environ[0] = "XDG_CONFIG_HOME=relative" // to be ignored, says the specification
		default:
			for path, name := range map[string]string{home: "home", system: "system"} {
				if name == want {
					if err := os.Remove(path); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	}
	_ = xdg
	for _, src := range []Source{{Path: filepath.Join(dir, "gone")}, {Environ: []string{"STELLA_CONFIG=" + filepath.Join(dir, "gone")}}} {
		if _, err := Load(src); fault.KindOf(err) != fault.Config {
			t.Errorf("a named file that is gone: %v", err)
		}
	}
	unreadable := place(t, dir, "xdg2/stella/stella.yaml/x", "")
	if _, err := Load(Source{System: system, Environ: []string{"XDG_CONFIG_HOME=" + filepath.Join(filepath.Dir(unreadable), "../..")}}); fault.KindOf(err) != fault.Config {
		t.Errorf("a file that cannot be read is passed over: %v", err)
	}
}

func TestPrecedenceAndOrigins(t *testing.T) {
	src := source(t, "STELLA_TENANT=env", "STELLA_AUTH_DPOP=false", "STELLA_AUTH_SCOPES=x, y z", "STELLA_AUTHORITY_TIMEOUT=3s", "STELLA_OUTPUT=", "STELLA_TEST_ANYTHING=1")
	src.Path = place(t, t.TempDir(), "stella.yaml", `authority:
  url: https://a.example
  timeout: 00:00:05
auth:
  scopes: [f]
  client_secret: file:secret
  token_cache: tokens
tenant: file
offline: true
vantage_points:
- name: edge
  url: https://edge.example/jwks
  ca_file: /abs.pem
`)
	flags := pflag.NewFlagSet("x", pflag.ContinueOnError)
	flags.String("tenant", "", "")
	flags.Bool("offline", false, "")
	flags.StringSlice("scope", nil, "")
	src.Flags = map[string]*pflag.Flag{"tenant": flags.Lookup("tenant"), "offline": flags.Lookup("offline"), "auth.scopes": flags.Lookup("scope")}
	dir := filepath.Dir(src.Path)

	c, err := Load(src)
	if err != nil {
		t.Fatal(err)
	}
	if c.Tenant != "env" || !c.Offline || c.Auth.DPoP || c.Authority.Timeout.Std() != 3*time.Second || c.Output != "text" ||
		!slices.Equal(c.Auth.Scopes, []string{"x", "y", "z"}) || string(c.Auth.ClientSecret) != "file:"+dir+"/secret" || c.Auth.TokenCache != dir+"/tokens" {
		t.Errorf("%+v", c)
	}
	for key, want := range map[string]string{
		"tenant": "env STELLA_TENANT", "offline": "file " + src.Path + ":9", "authority.url": "file " + src.Path + ":2",
		"authority.timeout": "env STELLA_AUTHORITY_TIMEOUT", "auth.audience": "default", "vantage_points.0.url": "file " + src.Path + ":12",
	} {
		if got := c.Origin(key); got != want {
			t.Errorf("%s comes from %q, want %q", key, got, want)
		}
	}
	if err := flags.Parse([]string{"--tenant=flag", "--offline=false", "--scope=s1,s2"}); err != nil {
		t.Fatal(err)
	}
	c, err = Load(src)
	if err != nil || c.Tenant != "flag" || c.Offline || !slices.Equal(c.Auth.Scopes, []string{"s1", "s2"}) || c.Origin("auth.scopes") != "flag --scope" {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestEveryKeyHasItsVariable(t *testing.T) {
	for _, k := range Keys() {
		if k.Doc == "" || k.Type == "" {
			t.Errorf("%s has no manual", k.Key)
		}
		if k.FileOnly {
			continue
		}
		value := map[string]string{"duration": "7s", "true or false": "true", "text or json": "json", "secret reference": "env:X", "list of text": "a b", "whole number": "7"}[k.Type]
		extra := []string{}
		switch k.Key {
		case "authority.url":
			value = "https://x.example"
		case "authority.origins":
			value = "https://x.example https://y.example:8443"
		case "auth.method":
			value, extra = "private_key_jwt", []string{"STELLA_AUTH_PRIVATE_KEY=env:X"}
		case "auth.certificate":
			extra = []string{"STELLA_AUTH_CERTIFICATE_KEY=file:x"}
		case "auth.certificate_key":
			value, extra = "cred:x", []string{"STELLA_AUTH_CERTIFICATE=x"}
		case "mirror.metrics_file":
			value = "/x/y.prom"
		case "mirror.s3.endpoint":
			value = "https://s3.example"
		case "mirror.s3.access_key_id", "mirror.s3.session_token":
			extra = []string{"STELLA_MIRROR_S3_SECRET_ACCESS_KEY=env:X", "STELLA_MIRROR_S3_ACCESS_KEY_ID=env:X"}
		case "mirror.s3.secret_access_key":
			extra = []string{"STELLA_MIRROR_S3_ACCESS_KEY_ID=env:X"}
		case "mirror.https.username":
			extra = []string{"STELLA_MIRROR_HTTPS_PASSWORD=env:X"}
		case "mirror.https.password":
			extra = []string{"STELLA_MIRROR_HTTPS_USERNAME=x"}
		case "":
			t.Error("a key without a name")
		}
		if value == "" {
			value = "value"
		}
		c, err := Load(source(t, append(extra, k.Env+"="+value)...))
		if err != nil {
			t.Errorf("%s: %v", k.Env, err)
			continue
		}
		got := c.Values()[slices.IndexFunc(c.Values(), func(v Value) bool { return v.Key == k.Key })]
		want := map[string]string{"7s": "00:00:07"}[value]
		if want == "" {
			want = value
		}
		if d := cmp.Diff(Value{k.Key, want, "env " + k.Env}, got); d != "" {
			t.Error(d)
		}
	}
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct{ yaml, env, want string }{
		{env: "STELLA_AUTHORITY_URI=x", want: "environment STELLA_AUTHORITY_URI: nothing reads this variable | did you mean STELLA_AUTHORITY_URL?"},
		{env: "STELLA_SOMETHING_ELSE=x", want: "unset STELLA_SOMETHING_ELSE"},
		{env: "STELLA_VANTAGE_POINTS=x", want: "in the configuration file only"},
		{env: "STELLA_OUTPUT=xml", want: `environment STELLA_OUTPUT: found "xml"; allowed values: text, json`},
		{env: "STELLA_OFFLINE=maybe", want: `environment STELLA_OFFLINE: found "maybe" where true or false belongs`},
		{env: "STELLA_AUTH_CLIENT_SECRET=hunter2", want: "environment STELLA_AUTH_CLIENT_SECRET: not a secret reference"},
		{env: "STELLA_AUTHORITY_URL=http://a.example", want: `environment STELLA_AUTHORITY_URL: authority.url: found scheme "http"`},
		{env: "STELLA_LOG_LEVEL=loud", want: "allowed: debug, info, warn, error"},
		{env: "STELLA_PROGRESS_INTERVAL=often", want: "allowed: seconds or a duration"},
		{yaml: "authority: {url: 'https://u:hunter2@a.example'}", want: "must not hold a user or a password"},
		{yaml: "authority: {url: 'https://a.example?x=1'}", want: "query or a fragment"},
		{yaml: "authority: {url: 'a.example'}", want: "not a URL such as"},
		{yaml: "authority: {url: 'http://127.0.0.1.evil.example'}", want: "or http on loopback"},
		{yaml: "authority: {timeout: 00:00:00}", want: "authority.timeout: found 0s"},
		{yaml: "authority: {timeout: 1h}", want: "at most 10m0s"},
		{yaml: "auth: {method: client_secret_basic}", want: "needs auth.client_secret"},
		{yaml: "auth: {certificate: x, private_key: 'env:B', certificate_key: 'file:k'}", want: "auth.method: not set, though auth.private_key and auth.certificate are"},
		{yaml: "authority: {origins: ['http://x.example']}", want: "authority.origins: item 0"},
		{yaml: "authority: {origins: ['https://x.example/path']}", want: "authority.origins: item 0: an origin has no path"},
		{yaml: "auth: {certificate: x}", want: "belong together"},
		{yaml: "auth: {certificate_key: 'file:x'}", want: "belong together"},
		{yaml: "auth: {certificate: x, certificate_key: 'env:X'}", want: "auth.certificate_key: only file:PATH and cred:NAME"},
		{yaml: "auth: {method: tls_client_auth}", want: "tls_client_auth needs auth.certificate"},
		{yaml: "auth: {client_secret: 'env:A', private_key: 'env:B'}", want: "auth.method: not set, though | say which one counts"},
		{yaml: "auth: {bootstrap_header: 'a: b'}", want: "no HTTP header name"},
		{yaml: "auth: {scopes: ['a b']}", want: "item 0 is no scope"},
		{yaml: "tenant: 'A'", want: ":1: tenant: found \"A\""},
		{yaml: "vantage_points: [{name: '', url: 'https://x'}]", want: "vantage_points.0.name: found"},
		{yaml: "vantage_points: [{name: a, url: 'https://x'}, {name: a, url: 'https://y'}]", want: `vantage_points.1.name: "a" is used twice`},
		{yaml: "vantage_points: [{name: a}]", want: "vantage_points.0.url: not a URL"},
		{yaml: "vantage_points: {a: b}", want: "where a list belongs"},
		{yaml: "outptu: json", want: "did you mean output?"},
	} {
		src := source(t, c.env)
		if c.yaml != "" {
			src.Path = place(t, t.TempDir(), "f.yaml", c.yaml+"\n")
		}
		_, err := Load(src)
		if fault.KindOf(err) != fault.Config {
			t.Errorf("%s%s: %v", c.yaml, c.env, err)
			continue
		}
		text := err.Error() + " | " + strings.Join(fault.HintsOf(err), " | ")
		for _, want := range strings.Split(c.want, " | ") {
			if !strings.Contains(text, want) || strings.Contains(text, "hunter2") {
				t.Errorf("%s%s: %q, want to find %q", c.yaml, c.env, text, want)
			}
		}
	}
}

func TestToken(t *testing.T) {
	path := place(t, t.TempDir(), "token", "tok\n")
	for value, warn := range map[string]bool{"": false, "raw.token": true, "file:" + path: false} {
		c, err := Load(source(t, "STELLA_TOKEN="+value))
		if err != nil {
			t.Fatal(err)
		}
		if (len(c.Warnings()) > 0) != warn || c.HasToken() != (value != "") {
			t.Errorf("%q warns %v", value, c.Warnings())
		}
		for _, v := range c.Values() {
			if strings.Contains(v.Value, "raw.token") {
				t.Errorf("it is shown: %+v", v)
			}
		}
		got, err := c.Token()
		if want := map[string]string{"raw.token": "raw.token", "file:" + path: "tok"}[value]; err != nil || string(got.Reveal()) != want {
			t.Errorf("%q: %q, %v", value, got.Reveal(), err)
		}
	}
	c, err := Load(source(t, "STELLA_TOKEN=file:/nonexistent"))
	if err != nil {
		t.Fatalf("loading opens the secret: %v", err)
	}
	if _, err := c.Token(); fault.KindOf(err) != fault.Config {
		t.Errorf("a missing file is %v", err)
	}
}

func TestRequire(t *testing.T) {
	c, err := Load(source(t, "STELLA_AUTH_CLIENT_ID=x"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Require("auth.client_id"); err != nil {
		t.Error(err)
	}
	err = c.Require("auth.client_id", "authority.url")
	if fault.KindOf(err) != fault.Config || !strings.Contains(strings.Join(fault.HintsOf(err), ""), "STELLA_AUTHORITY_URL") {
		t.Errorf("%v %q", err, fault.HintsOf(err))
	}
}

func TestEffectiveMethod(t *testing.T) {
	for want, a := range map[Method]Auth{
		None: {ClientID: "x"}, ClientSecretBasic: {ClientSecret: "env:X"}, PrivateKeyJWT: {PrivateKey: "env:X"}, TLSClientAuth: {Certificate: "x"},
	} {
		if a.Person() != (want == None) {
			t.Errorf("%+v is a person: %v", a, a.Person())
		}
		if a.Device = true; !a.Person() {
			t.Errorf("%+v is no person", a)
		}
		if got := a.EffectiveMethod(); got != want {
			t.Errorf("%+v: %q", a, got)
		}
	}
	if got := (Auth{Method: ClientSecretBasic, PrivateKey: "env:X"}).EffectiveMethod(); got != ClientSecretBasic {
		t.Errorf("the configured method does not count: %s", got)
	}
}

func TestNoHomeMeansNoCache(t *testing.T) {
	c, err := Load(Source{System: "/nonexistent"})
	if err != nil || c.Auth.TokenCache != "" {
		t.Errorf("%+v, %v", c, err)
	}
}
