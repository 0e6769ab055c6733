package authority_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stella-ops/stella/internal/authority"
	"github.com/stella-ops/stella/internal/keyring"
	"github.com/stella-ops/stella/internal/testenv/fakekms"
	"github.com/stella-ops/stella/internal/testenv/fakevault"
)

// keyProvider is an HSM or key service that replicas may be configured for.
type keyProvider struct {
	signing string                // what goes into the section signing
	down    func(bool)            // makes every call fail, and ends that; nil where that cannot be played
	ended   func(ref string) bool // whether the key can sign no more
	given   func() string         // makes a key as an operator would: its reference
}

func vaultProvider(t *testing.T, s *site) keyProvider {
	t.Helper()
	v, err := fakevault.Start(t.Context(), s.ca)
	if err != nil {
		t.Fatal(err)
	}
	token := s.write("vault-token", v.Token()+"\n")
	return keyProvider{
		signing: fmt.Sprintf(`, keySource: hashivault, hashivault: {address: %q, caFile: %q, token: "file:%s"}`, v.URL, v.CAFile, token),
		down:    v.Seal,
		ended: func(ref string) bool {
			name, _, _ := strings.Cut(strings.TrimPrefix(ref, "hashivault://"), "?")
			_, err := v.Admin("GET", "keys/"+name, nil)
			return err != nil
		},
		given: func() string {
			if _, err := v.Admin("POST", "keys/ours", map[string]any{"type": "ecdsa-p256"}); err != nil {
				t.Fatal(err)
			}
			return "hashivault://ours?version=1"
		},
	}
}

func kmsProvider(t *testing.T, s *site) keyProvider {
	t.Helper()
	empty := s.write("empty", "")
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": "of-a-test", "AWS_SESSION_TOKEN": "", "AWS_PROFILE": "",
		"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": empty, "AWS_SHARED_CREDENTIALS_FILE": empty,
	} {
		t.Setenv(name, value)
	}
	k, err := fakekms.Start(t.Context(), s.ca, fakekms.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return keyProvider{
		signing: fmt.Sprintf(`, keySource: awskms, awskms: {region: eu-central-1, endpoint: %q, caFile: %q}`, k.URL, s.ca.CertFile),
		down: func(down bool) {
			if k.Behave(); down {
				k.Fail(fakekms.Every, -1, fakekms.Failure{Status: 500, Code: "KMSInternalException", Message: "drill"})
			}
		},
		ended: func(ref string) bool {
			for _, key := range k.Keys() {
				if strings.HasSuffix(ref, key.ARN) {
					return key.State != "Enabled"
				}
			}
			return true
		},
		given: func() string {
			arn, err := k.AddKey(fakekms.Key{})
			if err != nil {
				t.Fatal(err)
			}
			return "awskms:///" + arn
		},
	}
}

// TestKeysAtAProvider: tokens are signed, rotated and refused as with files;
// no private key is in the key directory; what is over is destroyed where it was
// made; an outage is a 503 that ends by itself.
func TestKeysAtAProvider(t *testing.T) {
	for name, start := range map[string]func(*testing.T, *site) keyProvider{"hashivault": vaultProvider, "awskms": kmsProvider} {
		t.Run(name, func(t *testing.T) { keysAtAProvider(t, start) })
	}
}

func keysAtAProvider(t *testing.T, start func(*testing.T, *site) keyProvider) {
	t.Helper()
	s := newSite(t)
	p := start(t, s)
	r := s.start("a", s.config("a", "https://127.0.0.1:0", memory, quick+p.signing+", takeKeysIn: true", ""), authority.Deps{})
	secret := r.client(standard("svc"))
	r.token("svc", secret, newProver(t))
	checkKeyFiles(t, s)
	if p.down != nil {
		outage(t, r, p, secret)
	}
	first := state(r.report(), keyring.Active)
	firstRef := r.report().Keys[0].Private
	rotated(t, r, keyring.Request{Action: keyring.Stage})
	if kid := part(t, r.token("svc", secret, newProver(t)), 0)["kid"]; kid == first {
		t.Errorf("still signed by %s", first)
	}
	if p.ended(firstRef) {
		t.Error("a retiring key was destroyed: undo needs it")
	}
	if a := r.change(keyring.Request{Action: keyring.Retire, KID: first, Force: true, Reason: "drill"}); a.status != 200 {
		t.Fatalf("retire: %d %s", a.status, a.body)
	}
	eventually(t, "destroyed", func() bool { return p.ended(firstRef) })
	// The operator's own key signs likewise, and is not destroyed.
	ref := p.given()
	kid := rotated(t, r, keyring.Request{Action: keyring.Stage, Reference: ref, Reason: "ours"})
	if got := part(t, r.token("svc", secret, newProver(t)), 0)["kid"]; got != kid {
		t.Errorf("signed by %v, want %s", got, kid)
	}
	for _, a := range []keyring.Action{keyring.Taint, keyring.Revoke} {
		if a := r.change(keyring.Request{Action: a, KID: kid, Reason: "drill", Force: a == keyring.Taint}); a.status != 200 {
			t.Fatalf("%d %s", a.status, a.body)
		}
	}
	if p.ended(ref) {
		t.Error("the operator's own key was destroyed")
	}
	checkKeyFiles(t, s)
}

// TestProviderAwayAtStart: a replica that starts while its provider is away
// serves the key set, says what is wrong, can be told to taint the active key, and
// signs once the provider is back.
func TestProviderAwayAtStart(t *testing.T) {
	s := newSite(t)
	p := vaultProvider(t, s)
	first := s.start("a", s.config("a", "https://127.0.0.1:0", memory, quick+p.signing, ""), authority.Deps{})
	kids := first.kids()
	first.stop()
	p.down(true)
	r := s.begin("b", s.config("b", "https://127.0.0.1:0", memory, quick+p.signing, ""), authority.Deps{})
	eventually(t, "up", func() bool { return r.do("GET", "/health", nil, nil).status == 200 })
	if got := r.kids(); strings.Join(got, " ") != strings.Join(kids, " ") {
		t.Errorf("key set %v, want %v", got, kids)
	}
	if a := r.do("GET", "/ready", nil, nil); a.status != 503 {
		t.Errorf("ready: %d", a.status)
	}
	a := r.change(keyring.Request{Action: keyring.Taint, Reason: "drill"})
	if a.status != 409 || !strings.Contains(string(a.body), "--outage") {
		t.Errorf("taint: %d %s", a.status, a.body)
	}
	if a := r.change(keyring.Request{Action: keyring.Taint, Reason: "drill", Outage: true}); a.status != 200 {
		t.Errorf("taint with an outage: %d %s", a.status, a.body)
	}
	p.down(false)
	r.ready() // the Authority makes the standby active by itself
}

// rotated stages, publishes and activates a key and returns its kid.
func rotated(t *testing.T, r *replica, stage keyring.Request) string {
	t.Helper()
	a := r.change(stage)
	if a.status != 200 {
		t.Fatalf("stage: %d %s", a.status, a.body)
	}
	kid := a.field("kid")
	if a := r.change(keyring.Request{Action: keyring.Publish, KID: kid}); a.status != 200 {
		t.Fatalf("publish: %d %s", a.status, a.body)
	}
	eventually(t, "activate "+kid, func() bool { return r.change(keyring.Request{Action: keyring.Activate, KID: kid}).status == 200 })
	return kid
}

func checkKeyFiles(t *testing.T, s *site) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(s.dir, "keys", "*.pem"))
	if err != nil || len(files) != 1 || filepath.Base(files[0]) != "history.pem" {
		t.Errorf("private keys in the directory: %v %v", files, err)
	}
	if _, err := os.Stat(filepath.Join(s.dir, "keys", "history-0000000001")); err != nil {
		t.Error(err)
	}
}

// outage: nothing is issued, the key set is served, and it ends by itself.
func outage(t *testing.T, r *replica, p keyProvider, secret string) {
	t.Helper()
	q := r.request("svc", secret, newProver(t))
	p.down(true)
	a := r.send(q)
	if a.status != 503 || a.header.Get("Retry-After") == "" || a.field("access_token") != "" {
		t.Errorf("provider down: %d %s", a.status, a.body)
	}
	eventually(t, "not ready", func() bool { return r.do("GET", "/ready", nil, nil).status == 503 })
	if a := r.do("GET", "/health", nil, nil); a.status != 200 {
		t.Errorf("health, which a restart would not cure: %d %s", a.status, a.body)
	}
	if why := r.report().CannotSign; !strings.Contains(why, "the provider of keys") {
		t.Errorf("the report does not say that nothing is signed: %q", why)
	}
	if len(r.kids()) != 2 {
		t.Error("the key set needs the provider")
	}
	version := r.report().Version
	if a := r.change(keyring.Request{Action: keyring.Stage}); a.status != 503 || r.report().Version != version {
		t.Errorf("stage while the provider is down: %d %s", a.status, a.body)
	}
	p.down(false)
	r.ready()
	r.token("svc", secret, newProver(t))
}

// TestReferencesRefused: what names no key of a configured provider changes
// nothing and is the caller's mistake.
func TestReferencesRefused(t *testing.T) {
	r := single(t, nil)
	before := r.report().Version
	for _, ref := range []string{"awskms:///arn:aws:kms:eu-central-1:1:key/x", "hashivault://k?version=1", "history", "../keys/history", "file:/etc/passwd", "x:\x1b[2J", strings.Repeat("a", 5000)} {
		if a := r.change(keyring.Request{Action: keyring.Stage, Reference: ref, Reason: "x"}); a.status != 400 || a.field("error") != "invalid" {
			t.Errorf("%.30q: %d %s", ref, a.status, a.body)
		}
	}
	if a := r.change(keyring.Request{Action: keyring.Publish, Reference: "awskms:///x"}); a.status != 400 {
		t.Errorf("with publish: %d %s", a.status, a.body)
	}
	if r.report().Version != before {
		t.Error("something was recorded")
	}
}
