package authority_test

import (
	"context"
	"encoding/json"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/zitadel/oidc/v3/pkg/client/rp"
	"github.com/zitadel/oidc/v3/pkg/client/rs"
	zoidc "github.com/zitadel/oidc/v3/pkg/oidc"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/stella-ops/stella/internal/authority/clients"
	"github.com/stella-ops/stella/internal/testenv"
)

// bearer is a client that libraries without DPoP can be.
func bearer(id string) clients.Document {
	doc := standard(id)
	no := false
	doc.DPoPBound = &no
	doc.Grants = []string{clients.GrantCredentials, clients.GrantDevice, clients.GrantRefresh}
	doc.Introspects = []string{"api://jobs"}
	return doc
}

// golang.org/x/oauth2: client credentials, the device flow with a person, and
// a refresh, with what coreos/go-oidc discovers and verifies.
func TestXOAuth2(t *testing.T) {
	t.Parallel()
	r := single(t, nil)
	secret := r.client(bearer("go"))
	public := bearer("go-public") // the library sends no secret to the device endpoint
	public.Method, public.Grants = clients.Public, []string{clients.GrantDevice, clients.GrantRefresh}
	r.client(public)
	r.user("ana")
	ctx := context.WithValue(t.Context(), oauth2.HTTPClient, r.http)
	provider, err := oidc.NewProvider(oidc.ClientContext(ctx, r.http), r.issuer)
	if err != nil {
		t.Fatal(err)
	}
	verifier := provider.Verifier(&oidc.Config{ClientID: "api://jobs"})
	verify := func(name string, tok *oauth2.Token) {
		t.Helper()
		if _, err := verifier.Verify(ctx, tok.AccessToken); err != nil || !tok.Valid() {
			t.Errorf("%s: %v, valid %v", name, err, tok.Valid())
		}
	}
	endpoint := provider.Endpoint()
	endpoint.AuthStyle = oauth2.AuthStyleInHeader
	machine := clientcredentials.Config{ClientID: "go", ClientSecret: secret, TokenURL: endpoint.TokenURL, AuthStyle: oauth2.AuthStyleInHeader, Scopes: []string{"jobs.read"}}
	tok, err := machine.Token(ctx)
	if err != nil {
		t.Fatal(err)
	}
	verify("client credentials", tok)
	machine.ClientSecret = "wrong"
	if _, err := machine.Token(ctx); err == nil || !strings.Contains(err.Error(), "invalid_client") {
		t.Errorf("control: %v", err)
	}

	endpoint.AuthStyle = oauth2.AuthStyleInParams
	person := oauth2.Config{ClientID: "go-public", Endpoint: endpoint, Scopes: []string{"jobs.read", "jobs.trigger"}}
	begun, err := person.DeviceAuth(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.person("ana").Decide(ctx, begun.VerificationURIComplete, true); err != nil {
		t.Fatal(err)
	}
	begun.Interval = 1 // RFC 8628 lets the server ask for more; nothing is pending any more
	tok, err = person.DeviceAccessToken(ctx, begun)
	if err != nil {
		t.Fatal(err)
	}
	verify("device", tok)
	stale := *tok
	stale.Expiry = stale.Expiry.AddDate(-1, 0, 0)
	next, err := person.TokenSource(ctx, &stale).Token()
	if err != nil {
		t.Fatal(err)
	}
	verify("refresh", next)
	if next.RefreshToken == tok.RefreshToken || next.AccessToken == tok.AccessToken {
		t.Error("nothing was refreshed")
	}

	denied, err := person.DeviceAuth(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.person("ana").Decide(ctx, denied.VerificationURIComplete, false); err != nil {
		t.Fatal(err)
	}
	denied.Interval = 1
	if _, err := person.DeviceAccessToken(ctx, denied); err == nil || !strings.Contains(err.Error(), "access_denied") {
		t.Errorf("control: a denied login: %v", err)
	}
}

// zitadel/oidc: discovery by its relying party, introspection by its resource
// server.
func TestZitadelOIDC(t *testing.T) {
	r := single(t, nil)
	secret := r.client(bearer("zitadel"))
	foreign := bearer("foreign")
	foreign.Introspects, foreign.Tenant = nil, "beta"
	other := r.client(foreign)
	ctx := t.Context()
	party, err := rp.NewRelyingPartyOIDC(ctx, r.issuer, "zitadel", secret, "", []string{"jobs.read"}, rp.WithHTTPClient(r.http))
	if err != nil {
		t.Fatal(err)
	}
	if party.Issuer() != r.issuer || party.GetDeviceAuthorizationEndpoint() != r.issuer+"/device_authorization" || party.GetRevokeEndpoint() != r.issuer+"/revoke" {
		t.Errorf("discovered %q %q %q", party.Issuer(), party.GetDeviceAuthorizationEndpoint(), party.GetRevokeEndpoint())
	}
	tok, err := rp.ClientCredentials(ctx, party, nil)
	if err != nil {
		t.Fatal(err)
	}
	introspect := func(id, secret string) *zoidc.IntrospectionResponse {
		t.Helper()
		server, err := rs.NewResourceServerClientCredentials(ctx, r.issuer, id, secret, rs.WithClient(r.http))
		if err != nil {
			t.Fatal(err)
		}
		got, err := rs.Introspect[*zoidc.IntrospectionResponse](ctx, server, tok.AccessToken)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if got := introspect("zitadel", secret); !got.Active || got.ClientID != "zitadel" || got.Issuer != r.issuer || got.Claims["stellaops:tenant"] != "acme" {
		t.Errorf("introspected %+v", got)
	}
	if got := introspect("foreign", other); got.Active {
		t.Errorf("control: a foreign client learns %+v", got)
	}
	if a := r.form("/revoke", url.Values{"token": {tok.AccessToken}}, basicHeader("zitadel", secret)); a.status != 200 {
		t.Fatal(a.status)
	}
	if got := introspect("zitadel", secret); got.Active {
		t.Errorf("after revocation: %+v", got)
	}
}

// curl --cert: a machine with nothing but a certificate.
func TestCurlWithCertificate(t *testing.T) {
	testenv.Need(t, "curl", "curl")
	s := newCertSite(t)
	s.client(certDoc("svc"))
	cert, key, err := s.roots.IssueClient("curl", clients.CertificateURI("svc"), nil)
	if err != nil {
		t.Fatal(err)
	}
	curl := func(args ...string) string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), "curl", append([]string{
			"--silent", "--show-error", "--noproxy", "*", "--cacert", filepath.Join(s.site.dir, "ca.pem"), "--write-out", "\n%{http_code}",
		}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("curl %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	at := s.srv.MTLSURL()
	out := curl("--cert", cert, "--key", key, "--data", "grant_type=client_credentials&client_id=svc", at+"/token")
	body, status, _ := strings.Cut(out, "\n\n")
	var answer struct {
		Token string `json:"access_token"`
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil || status != "200" {
		t.Fatalf("%s", out)
	}
	authorization := "Authorization: Bearer " + answer.Token
	if out := curl("--cert", cert, "--key", key, "--header", authorization, at+"/internal/keyring"); !strings.HasSuffix(out, "\n200") {
		t.Errorf("with the certificate: %s", out)
	}
	if out := curl("--header", authorization, at+"/internal/keyring"); !strings.HasSuffix(out, "\n401") {
		t.Errorf("control: without it: %s", out)
	}
	if out := curl("--data", "grant_type=client_credentials&client_id=svc", at+"/token"); !strings.HasSuffix(out, "\n401") {
		t.Errorf("control: no certificate: %s", out)
	}
}
