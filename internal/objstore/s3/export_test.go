package s3

import (
	"context"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// Impatient waits a millisecond at most before it tries again.
func (o Options) Impatient() Options { o.maxBackoff = time.Millisecond; return o }

// SetParts makes s upload in parts what is larger than single bytes.
func (s *Store) SetParts(single, part int64) { s.single, s.part = single, part }

// Bucket is the bucket of s, Prefix what comes before keys in it.
func (s *Store) Bucket() string { return s.place.Host }

// Prefix is empty or ends in a slash.
func (s *Store) Prefix() string { return s.prefix }

// Transport carries the requests of s.
func (s *Store) Transport() http.RoundTripper { return s.transport }

// Uploads counts the uploads in parts that are neither whole nor aborted.
func (s *Store) Uploads(ctx context.Context) (int, error) {
	out, err := s.sdk.ListMultipartUploads(ctx, &s3.ListMultipartUploadsInput{Bucket: &s.place.Host})
	if err != nil {
		return 0, err
	}
	return len(out.Uploads), nil
}
