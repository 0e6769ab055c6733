package awskms

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stella-ops/stella/internal/keyring"
	"github.com/stella-ops/stella/internal/testenv"
	"github.com/stella-ops/stella/internal/testenv/fakekms"
)

const (
	accessKey    = "AKIAIOSFODNN7EXAMPLE"
	secretKey    = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
	sessionToken = "FwoGZXIvYXdzEXAMPLESESSIONTOKEN"
	region       = "eu-central-1"
)

// identity gives the process one identity, and hides the machine's own.
func identity(t *testing.T) {
	t.Helper()
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CA_BUNDLE",
		"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_KMS", "AWS_USE_FIPS_ENDPOINT",
	} {
		t.Setenv(name, "")
	}
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": accessKey, "AWS_SECRET_ACCESS_KEY": secretKey, "AWS_SESSION_TOKEN": sessionToken,
		"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": empty, "AWS_SHARED_CREDENTIALS_FILE": empty,
	} {
		t.Setenv(name, value)
	}
}

// site is a service and how to open handles on it.
type site struct {
	*fakekms.Server
	ca *testenv.CA
}

func start(t *testing.T) site {
	t.Helper()
	identity(t)
	ca, err := testenv.NewCA(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	fake, err := fakekms.Start(t.Context(), ca, fakekms.Options{Region: region, AccessKeyID: accessKey, SessionToken: sessionToken})
	if err != nil {
		t.Fatal(err)
	}
	return site{fake, ca}
}

func (s site) open(t *testing.T) *Provider {
	t.Helper()
	p, err := Open(t.Context(), Options{Region: region, Endpoint: s.URL, CAFile: s.ca.CertFile})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func makeKey(t *testing.T, p *Provider, name string) string {
	t.Helper()
	ref, err := p.Make(t.Context(), name)
	if err != nil {
		t.Fatalf("make %s: %v", name, err)
	}
	return ref
}

func openKey(t *testing.T, p *Provider, ref string) keyring.RemoteKey {
	t.Helper()
	k, err := p.Open(t.Context(), ref)
	if err != nil {
		t.Fatalf("open %s: %v", ref, err)
	}
	return k
}
