package awskms

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/stella-ops/stella/internal/httpd"
)

const (
	// One attempt, body included. It is no less than the longest deadline of a
	// caller: of a CreateKey that is given up, a key may stay that nobody knows.
	answerWithin = 30 * time.Second
	// What gives out credentials has less: nothing stays of that.
	credentialsWithin = 5 * time.Second

	maxAnswer = 1 << 20
	attempts  = 2
	// A signature has 2 s in all, so a second attempt must come soon.
	maxBackoff = 250 * time.Millisecond
)

// newHTTPClient trusts the CAs of a file, or the system's if there is none, and
// gives up an attempt within that time.
func newHTTPClient(caFile string, within time.Duration) (*http.Client, error) {
	// KMS never redirects, and a signed request is for one host only.
	return httpd.Client(httpd.ClientOptions{Timeout: within, CAFile: caFile, Loopback: true, MaxBody: maxAnswer, NoRedirect: true})
}

// twice tries again what may pass. It keeps no account of retries over all
// calls: when that ran out, an outage would no longer look like one.
func twice(more ...func(*retry.StandardOptions)) aws.Retryer {
	return retry.NewStandard(append([]func(*retry.StandardOptions){func(o *retry.StandardOptions) {
		o.MaxAttempts, o.RateLimiter = attempts, ratelimit.None
		o.Backoff = retry.NewExponentialJitterBackoff(maxBackoff)
	}}, more...)...)
}

// throttledOnly is for CreateKey: it tries again what KMS refused to begin, but
// not what it may have done, which would make a second key.
func throttledOnly(o *kms.Options) {
	o.Retryer = twice(func(so *retry.StandardOptions) {
		so.Retryables = []retry.IsErrorRetryable{
			retry.NoRetryCanceledError{},
			retry.RetryableErrorCode{Codes: map[string]struct{}{"ThrottlingException": {}}},
		}
	})
}

// watched remembers the credentials in use, so that none gets into an error,
// and marks the failure to have any.
type watched struct {
	next aws.CredentialsProvider
	last atomic.Pointer[aws.Credentials]
}

type credentialError struct{ error }

func (e *credentialError) Unwrap() error { return e.error }

// Retrieve implements aws.CredentialsProvider.
func (w *watched) Retrieve(ctx context.Context) (aws.Credentials, error) {
	creds, err := w.next.Retrieve(ctx)
	if err != nil {
		return aws.Credentials{}, &credentialError{err}
	}
	w.last.Store(&creds)
	return creds, nil
}

// inUse lists what must not be printed.
func (w *watched) inUse() []string {
	c := w.last.Load()
	if c == nil {
		return nil
	}
	return []string{c.SecretAccessKey, c.SessionToken, c.AccessKeyID}
}
