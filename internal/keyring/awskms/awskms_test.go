package awskms

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/keyring"
	"github.com/stella-ops/stella/internal/keyring/providertest"
)

const (
	someID   = "1234abcd-12ab-34cd-56ef-1234567890ab"
	someARN  = "arn:aws:kms:" + region + ":111122223333:key/" + someID
	someRef  = "awskms:///" + someARN
	multiARN = "arn:aws:kms:" + region + ":111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab"
)

func malformedRefs() []string {
	return []string{
		"awskms:" + someARN, "awskms:/" + someARN, "awskms://" + someARN, "AWSKMS:///" + someARN, " " + someRef, someRef + " ", someRef + "\n",
		"awskms://localhost:4566/" + someARN, "awskms://kms.example/" + someARN, "awskms:////" + someARN,
		"awskms:///alias/stella", "awskms:///arn:aws:kms:" + region + ":111122223333:alias/stella",
		"awskms:///" + someID, "awskms:///key/" + someID, "awskms:///mrk-1234abcd12ab34cd56ef1234567890ab",
		strings.Replace(someRef, ":kms:", ":s3:", 1), strings.Replace(someRef, "arn:aws:", "arn:awx:", 1), strings.Replace(someRef, "arn:aws:", "arn:aws-:", 1),
		strings.Replace(someRef, region, "", 1), strings.Replace(someRef, region, "evil.example/", 1), strings.Replace(someRef, region, "EU-central-1", 1),
		strings.Replace(someRef, "111122223333", "11112222333", 1), strings.Replace(someRef, "111122223333", "", 1),
		strings.ToUpper(someRef), strings.Replace(someRef, someID, strings.ToUpper(someID), 1), someRef + "/x", someRef + "?version=1", someRef + "#x",
		someRef[:len(someRef)-1], someRef + "0", someRef + ":x", strings.Replace(someRef, "key/", "key/mrk-", 1),
		strings.Replace(someRef, region, "us-east-1", 1),
	}
}

func TestProvider(t *testing.T) {
	providertest.Run(t, func(t *testing.T) providertest.Subject {
		s := start(t)
		return providertest.Subject{
			Scheme: Scheme, Missing: someRef, Malformed: malformedRefs(),
			Open: func(t *testing.T) keyring.Provider { return s.open(t) },
		}
	})
}

func TestOpenAsksNobody(t *testing.T) {
	identity(t)
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	// Nothing listens there, and it is not noticed yet.
	p, err := Open(t.Context(), Options{Region: region, Endpoint: "https://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.Open(t.Context(), someRef)
	if fault.KindOf(err) != fault.Config || len(fault.HintsOf(err)) == 0 || !strings.Contains(err.Error(), "no AWS credentials") {
		t.Errorf("without credentials: %v", err)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", accessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", secretKey)
	if p, err = Open(t.Context(), Options{Region: region, Endpoint: "https://127.0.0.1:1"}); err != nil {
		t.Fatal(err)
	}
	if _, err = p.Open(t.Context(), someRef); fault.KindOf(err) != fault.Transient {
		t.Errorf("without a service: %v", err)
	}
}

func TestOpenOptions(t *testing.T) {
	identity(t)
	for _, endpoint := range []string{"", "https://kms.example", "https://kms.example:8443/", "http://127.0.0.1:4566", "http://localhost:1", "http://[::1]:1"} {
		if _, err := Open(t.Context(), Options{Region: region, Endpoint: endpoint}); err != nil {
			t.Errorf("endpoint %q: %v", endpoint, err)
		}
	}
	for _, endpoint := range []string{
		"kms.example", "http://kms.example", "http://10.0.0.1", "ftp://127.0.0.1", "https://", "https://u:hunter2@kms.example",
		"https://kms.example/path", "https://kms.example?hunter2", "https://kms.example#x", "https://kms.example:x", "\x00", "unix:///x",
	} {
		_, err := Open(t.Context(), Options{Region: region, Endpoint: endpoint})
		if fault.KindOf(err) != fault.Config || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("endpoint %q: %v", endpoint, err)
		}
	}
	for _, bad := range []string{"", "x", "evil.example/", "eu-central-1.evil", "-eu-", "EU-CENTRAL-1"} {
		if _, err := Open(t.Context(), Options{Region: bad}); fault.KindOf(err) != fault.Config {
			t.Errorf("region %q: %v", bad, err)
		}
	}
	t.Setenv("AWS_REGION", "us-east-1")
	if p, err := Open(t.Context(), Options{}); err != nil || p.region != "us-east-1" {
		t.Errorf("region of the environment: %v", err)
	}
}

func TestCAFile(t *testing.T) {
	s := start(t)
	ref := makeKey(t, s.open(t), "stella-0a-1")
	p, err := Open(t.Context(), Options{Region: region, Endpoint: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Open(t.Context(), ref); fault.KindOf(err) != fault.Trust || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a certificate of nobody's: %v", err)
	}
	t.Setenv("AWS_CA_BUNDLE", s.ca.CertFile)
	if p, err = Open(t.Context(), Options{Region: region, Endpoint: s.URL}); err != nil {
		t.Fatal(err)
	}
	openKey(t, p, ref)
	junk := filepath.Join(t.TempDir(), "junk.pem")
	if err := os.WriteFile(junk, []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{junk, junk + ".missing"} {
		if _, err := Open(t.Context(), Options{Region: region, CAFile: file}); fault.KindOf(err) != fault.Config {
			t.Errorf("CA file %s: %v", file, err)
		}
	}
}
