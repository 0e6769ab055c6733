package fakekms_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stella-ops/stella/internal/testenv"
	"github.com/stella-ops/stella/internal/testenv/fakekms"
)

// What is no signed request of the expected identity is refused, in each of its
// parts. The client of AWS KMS is tested with this service, so the rest is seen
// there.
func TestAuthentication(t *testing.T) {
	ca, err := testenv.NewCA(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s, err := fakekms.Start(t.Context(), ca, fakekms.Options{SessionToken: "token"})
	if err != nil {
		t.Fatal(err)
	}
	good := map[string]string{
		"X-Amz-Target": "TrentService.ListAliases", "Content-Type": "application/x-amz-json-1.1",
		"X-Amz-Date": "20260102T030405Z", "X-Amz-Security-Token": "token",
		"Authorization": "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20260102/eu-central-1/kms/aws4_request, " +
			"SignedHeaders=content-type;host;x-amz-date;x-amz-target, Signature=" + strings.Repeat("0a", 32),
	}
	for what, c := range map[string]struct{ header, old, new, want string }{
		"control":    {"X-Amz-Date", "", "", `"Aliases":[]`},
		"unsigned":   {"Authorization", good["Authorization"], "", "MissingAuthenticationTokenException"},
		"bearer":     {"Authorization", "AWS4-HMAC-SHA256", "Bearer", "IncompleteSignatureException"},
		"cut":        {"Authorization", "0a0a", "", "IncompleteSignatureException"},
		"service":    {"Authorization", "/kms/", "/s3/", "IncompleteSignatureException"},
		"identity":   {"Authorization", "7EXAMPLE", "8EXAMPLE", "UnrecognizedClientException"},
		"session":    {"X-Amz-Security-Token", "token", "other", "UnrecognizedClientException"},
		"region":     {"Authorization", "eu-central-1", "us-east-1", "InvalidSignatureException"},
		"date":       {"X-Amz-Date", "20260102", "20260103", "InvalidSignatureException"},
		"one header": {"Authorization", ";x-amz-target", "", "InvalidSignatureException"},
		"action":     {"X-Amz-Target", "ListAliases", "Nothing", "NotFoundException"},
		"target":     {"X-Amz-Target", "TrentService", "Other", "UnknownOperationException"},
		"type":       {"Content-Type", "1.1", "1.0", "UnknownOperationException"},
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL, strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range good {
			if name == c.header {
				value = strings.Replace(value, c.old, c.new, 1)
			}
			if value != "" {
				r.Header.Set(name, value)
			}
		}
		resp, err := ca.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || !strings.Contains(string(body), c.want) || (resp.StatusCode == http.StatusOK) != (what == "control") {
			t.Errorf("%s: HTTP %d %s, %v", what, resp.StatusCode, body, err)
		}
	}
}
