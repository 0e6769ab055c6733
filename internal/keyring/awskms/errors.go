package awskms

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strings"
	"unicode"

	"github.com/aws/aws-sdk-go-v2/credentials/processcreds"
	"github.com/aws/smithy-go"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/httpd"
)

// maxText bounds what an error repeats of a text from outside, in characters.
const maxText = 200

// clean makes a text from outside one bounded line without what is in secrets.
func clean(text string, secrets ...string) string {
	for _, s := range secrets {
		if s != "" {
			text = strings.ReplaceAll(text, s, "[redacted]")
		}
	}
	var b strings.Builder
	n := 0
	for _, r := range text {
		if !unicode.IsPrint(r) {
			r = ' '
		}
		if n++; n > maxText {
			b.WriteString("…")
			break
		}
		b.WriteRune(r)
	}
	return b.String()
}

func (p *Provider) clean(text string) string { return clean(text, p.creds.inUse()...) }

// failed makes an error of the SDK one of ours: with a kind, bounded, and
// without the SDK's error in its chain, which repeats the request.
func (p *Provider) failed(ctx context.Context, call, doing string, err error) error {
	var ours *fault.Error
	var creds *credentialError
	var api smithy.APIError
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return fmt.Errorf("%s: %w", doing, context.Canceled)
	case ctx.Err() != nil:
		return fault.Errorf(fault.Transient, "%s: AWS KMS did not answer in time: %w", doing, ctx.Err())
	case errors.As(err, &creds):
		return p.noCredentials(doing, creds.error)
	case errors.As(err, &ours): // of the HTTP client, which refuses to leave the machine unprotected
		return fault.Errorf(ours.Kind, "%s: %s", doing, p.clean(ours.Error()))
	case errors.As(err, &api):
		return p.refused(call, doing, api, statusOf(err))
	}
	return p.unanswered(doing, err)
}

// refused is for errors that the service gives a name.
func (p *Provider) refused(call, doing string, api smithy.APIError, status int) error {
	code := p.clean(api.ErrorCode())
	said := code + ": " + p.clean(api.ErrorMessage())
	switch code {
	case "NotFoundException":
		return fault.Errorf(fault.NotFound, "%s: %s: %w", doing, said, fs.ErrNotExist)
	case "AccessDeniedException", "AccessDenied":
		return fault.Errorf(fault.Denied, "%s: %s", doing, said).
			Hint("allow this identity %s, in its IAM policy or in the policy of the key", needs(call)).
			Hint("who it is: aws sts get-caller-identity")
	case "DisabledException", "KMSInvalidStateException":
		return fault.Errorf(fault.Order, "%s: %s", doing, said).
			Hint("only an enabled key signs: aws kms describe-key, then enable-key or cancel-key-deletion, or rotate to another key")
	case "LimitExceededException":
		return fault.Errorf(fault.Order, "%s: %s", doing, said).
			Hint("raise the quota of AWS KMS in this account and region, or delete what is not used")
	case "ThrottlingException", "KMSInternalException", "DependencyTimeoutException", "KeyUnavailableException",
		"RequestTimeout", "RequestTimeoutException", "TooManyRequestsException", "ServiceUnavailable", "ServiceUnavailableException", "InternalFailure":
		return fault.Errorf(fault.Transient, "%s: %s", doing, said)
	case "UnrecognizedClientException", "InvalidClientTokenId", "ExpiredTokenException", "ExpiredToken", "InvalidSignatureException",
		"SignatureDoesNotMatch", "IncompleteSignature", "IncompleteSignatureException", "MissingAuthenticationToken",
		"MissingAuthenticationTokenException", "NotAuthorized", "OptInRequired", "RequestExpired":
		// The text is left out: it may repeat the signed request, token included.
		return fault.Errorf(fault.Denied, "%s: AWS KMS does not accept the credentials: %s", doing, code).
			Hint("check them, and the clock: aws sts get-caller-identity")
	}
	switch {
	case passing(status):
		return fault.Errorf(fault.Transient, "%s: HTTP %d: %s", doing, status, said)
	case status/100 == 3:
		return fault.Errorf(fault.Trust, "%s: HTTP %d: AWS KMS does not redirect", doing, status).
			Hint("check what answers at signing.awskms.endpoint")
	}
	return fmt.Errorf("%s: %s", doing, said)
}

func needs(call string) string {
	if call == "CreateKey" {
		return "kms:CreateKey and kms:TagResource"
	}
	return "kms:" + call
}

// unanswered is for everything else: no answer, or one that says nothing.
func (p *Provider) unanswered(doing string, err error) error {
	var broken *smithy.DeserializationError
	var cut *httpd.CutError
	var cert *tls.CertificateVerificationError
	var request *url.Error
	var network net.Error
	text := err
	if errors.As(err, &request) {
		text = request.Err
	}
	said := p.clean(text.Error())
	switch status := statusOf(err); {
	case passing(status):
		return fault.Errorf(fault.Transient, "%s: AWS KMS answered HTTP %d", doing, status)
	case errors.As(err, &cut):
		return fault.Errorf(fault.Transient, "%s: the answer was cut short: %s", doing, p.clean(cut.Error()))
	case errors.Is(err, httpd.ErrTooLarge):
		return fault.Errorf(fault.Trust, "%s: %w", doing, httpd.ErrTooLarge).Hint("check what answers at signing.awskms.endpoint")
	case errors.As(err, &broken):
		return fault.Errorf(fault.Trust, "%s: HTTP %d with an answer that is not of AWS KMS", doing, status).
			Hint("check what answers at signing.awskms.endpoint")
	case errors.As(err, &cert):
		return fault.Errorf(fault.Trust, "%s: %s", doing, said).
			Hint("set signing.awskms.caFile to the CAs of signing.awskms.endpoint")
	case errors.As(err, &request), errors.As(err, &network):
		return fault.Errorf(fault.Transient, "%s: %s", doing, said)
	}
	return fmt.Errorf("%s: %s", doing, said)
}

// noCredentials is for what keeps the SDK from having any.
func (p *Provider) noCredentials(doing string, err error) error {
	var api smithy.APIError
	var process *processcreds.ProviderError
	var network net.Error
	kind, why := fault.Config, p.clean(err.Error())
	switch {
	case errors.As(err, &api):
		why = "the service that gives them answered " + p.clean(api.ErrorCode())
	case errors.As(err, &process):
		why = "the credential_process failed" // its output is in the error, and may be half a secret
	}
	if errors.As(err, &network) || passing(statusOf(err)) {
		kind = fault.Transient
	}
	return fault.Errorf(kind, "%s: no AWS credentials: %s", doing, why).
		Hint("give the process a role, or credentials as the AWS SDK reads them").
		Hint("what it finds: aws sts get-caller-identity")
}

// passing reports whether an HTTP status may be another one a moment later.
func passing(status int) bool {
	return status >= 500 || status == http.StatusTooManyRequests || status == http.StatusRequestTimeout
}

func statusOf(err error) int {
	var answered interface{ HTTPStatusCode() int }
	if errors.As(err, &answered) {
		return answered.HTTPStatusCode()
	}
	return 0
}
