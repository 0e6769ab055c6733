package s3

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/objstore"
	"github.com/stella-ops/stella/internal/objstore/internal/httpget"
)

// Bounds of what the SDK reads. A page of a listing has at most 1,000 keys of
// 1,024 bytes, three characters each when they are escaped.
const (
	maxAnswer = 16 << 20
	maxError  = 64 << 10
)

// errNoBucket tells the missing bucket from the missing object.
var errNoBucket = errors.New("no such bucket")

// bounded limits what the SDK may read of an answer.
type bounded struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	limit := int64(maxAnswer)
	if resp.StatusCode >= 300 {
		limit = maxError
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(resp.Body, limit), resp.Body}
	return resp, nil
}

// explain makes the error of an answer to Open from its XML.
func (s *Store) explain(a httpget.Answer) error {
	var answer struct {
		Code string `xml:"Code"`
	}
	_ = xml.Unmarshal(a.Body, &answer) // without a code the status says enough
	return s.refused(a.Op, a.Key, answer.Code, a.Status, a.Header)
}

// refused is for errors that the service gives a name; nil if it means nothing
// special. Its texts are left out: they may repeat the signed request.
func (s *Store) refused(op objstore.Op, key, code string, status int, header http.Header) error {
	said := fmt.Errorf("HTTP %d", status)
	if code = word(code); code != "" {
		said = fmt.Errorf("HTTP %d %s", status, code)
	}
	fail := func(why error) *fault.Error { return objstore.Fail(op, s.Place(), key, why, said) }
	if region := word(header.Get("X-Amz-Bucket-Region")); status >= 300 && status < 400 && region != "" {
		return fault.Errorf(fault.Config, "%s: the bucket is in region %s", objstore.Naming(op, s.Place(), key), region).
			Hint("configure region %s for this place", region)
	}
	switch code {
	case "NoSuchBucket":
		said = fmt.Errorf("%w: %w", said, errNoBucket)
		return fail(objstore.ErrNotFound).Hint("there is no bucket %s at this service: check the name, the endpoint and the region", s.place.Host)
	case "NoSuchKey":
		return fail(objstore.ErrNotFound)
	case "PreconditionFailed":
		return fail(objstore.ErrChanged)
	case "RequestTimeTooSkewed":
		return fail(objstore.ErrDenied).Hint("the clock of this machine is wrong: check with timedatectl")
	case "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "TokenRefreshRequired", "AuthorizationHeaderMalformed", "InvalidClientTokenId":
		return fail(objstore.ErrDenied).
			Hint("the service does not accept the credentials: check them, the region and the clock").
			Hint("what the SDK finds: aws sts get-caller-identity")
	case "SlowDown", "InternalError", "RequestTimeout", "ServiceUnavailable", "OperationAborted", "ThrottlingException", "Throttling":
		return fail(objstore.ErrTransient)
	}
	if status == http.StatusForbidden || status == http.StatusUnauthorized || code == "AccessDenied" {
		return fail(objstore.ErrDenied).Hint("%s", needs(op, s.place.Host))
	}
	return nil
}

// needs says which permission is missing.
func needs(op objstore.Op, bucket string) string {
	switch op {
	case objstore.OpList:
		return "allow these credentials s3:ListBucket on " + bucket
	case objstore.OpWrite:
		return "allow these credentials s3:PutObject and s3:AbortMultipartUpload on " + bucket
	case objstore.OpDelete:
		return "allow these credentials s3:DeleteObject on " + bucket
	}
	return "allow these credentials s3:GetObject on " + bucket + "; without s3:ListBucket a missing object is answered like this, too"
}

// word lets only what error codes and regions are made of through.
func word(s string) string {
	if len(s) > 64 || strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '.'
	}) {
		return ""
	}
	return s
}

// failed makes an error of the SDK one of ours: with sentinel and kind, and
// without the SDK's error in its chain, which repeats the request.
func (s *Store) failed(ctx context.Context, op objstore.Op, key string, err error) error {
	if dead := objstore.Dead(ctx, op, s.Place(), key); dead != nil {
		return dead
	}
	var own *fault.Error
	var api smithy.APIError
	var answered interface {
		error
		HTTPStatusCode() int
	}
	if errors.As(err, &own) {
		return own
	}
	status, code, header := 0, "", http.Header{}
	if errors.As(err, &api) {
		code = api.ErrorCode()
	}
	if errors.As(err, &answered) {
		status, header = answered.HTTPStatusCode(), headerOf(err)
	}
	switch {
	case status >= 200 && status < 300 && code == "":
		return objstore.Fail(op, s.Place(), key, objstore.ErrTransient, errors.New("the answer is cut or is not of S3"))
	case status != 0 || code != "":
		if err := s.refused(op, key, code, status, header); err != nil {
			return err
		}
		return s.get.Refusal(httpget.Answer{Op: op, Key: key, Status: status, Header: header})
	}
	var creds *credentialError
	var sent *smithyhttp.RequestSendError
	var request *url.Error
	switch {
	case errors.As(err, &creds):
		return noCredentials(op, s.Place(), key, creds.error)
	case errors.As(err, &request):
		return httpget.Cut(op, s.Place(), key, request.Err) // the URL is said already
	case errors.As(err, &sent), errors.Is(err, io.ErrUnexpectedEOF):
		return httpget.Cut(op, s.Place(), key, err)
	}
	return fault.Errorf(fault.Unclassified, "%s: %.200q", objstore.Naming(op, s.Place(), key), err.Error())
}

func headerOf(err error) http.Header {
	var e *smithyhttp.ResponseError
	if errors.As(err, &e) && e.Response != nil && e.Response.Response != nil {
		return e.Response.Header
	}
	return http.Header{}
}

// marked tells the failure to have credentials from other ones.
type marked struct{ next aws.CredentialsProvider }

type credentialError struct{ error }

func (e *credentialError) Unwrap() error { return e.error }

// Retrieve implements aws.CredentialsProvider.
func (m marked) Retrieve(ctx context.Context) (aws.Credentials, error) {
	creds, err := m.next.Retrieve(ctx)
	if err != nil {
		return aws.Credentials{}, &credentialError{err}
	}
	return creds, nil
}

// noCredentials is for what keeps the SDK from having any. Its texts are left
// out: that of a credential_process may be half a secret.
func noCredentials(op objstore.Op, place, key string, err error) error {
	var api smithy.APIError
	var network net.Error
	kind, why := objstore.ErrDenied, errors.New("no AWS credentials were found")
	switch {
	case errors.As(err, &api):
		why = fmt.Errorf("the service that gives AWS credentials answered %s", word(api.ErrorCode()))
	case errors.As(err, &network) && network.Timeout():
		kind, why = objstore.ErrTransient, errors.New("what gives AWS credentials did not answer in time")
	}
	return objstore.Fail(op, place, key, kind, why).
		Hint("give the process a role, or credentials as the AWS SDK reads them: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, web identity").
		Hint("what the SDK finds: aws sts get-caller-identity")
}
