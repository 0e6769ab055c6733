package s3_test

import (
	"context"
	"io"
	"net/http"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/stella-ops/stella/internal/objstore"
	objs3 "github.com/stella-ops/stella/internal/objstore/s3"
	"github.com/stella-ops/stella/internal/objstore/storetest"
)

// benchSize is the size of a release's members.
const benchSize = 20 << 10

// BenchmarkOpen compares Open with the SDK's GetObject: 16 readers, each of
// objects of 20 KiB. Measure with the gateway as a process of its own, and
// compare the CPU time, not the wall time: the gateway is the bottleneck.
func BenchmarkOpen(b *testing.B) {
	s := fresh(b)
	storetest.Put(b, s, "k", make([]byte, benchSize))
	plain := http.Client{Transport: s.Transport()}
	sdk := s3.NewFromConfig(aws.Config{Region: server.Region, HTTPClient: &plain, Credentials: aws.NewCredentialsCache(objs3.Static(server.AccessKey, server.SecretKey, "")),
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenRequired}, func(o *s3.Options) {
		o.UsePathStyle, o.BaseEndpoint, o.Retryer = true, &server.Endpoint, aws.NopRetryer{}
	})
	bucket, key := s.Bucket(), s.Prefix()+"k"
	for name, get := range map[string]func(context.Context) (io.ReadCloser, error){
		"signer": func(ctx context.Context) (io.ReadCloser, error) {
			o, err := s.Open(ctx, "k", objstore.Get{})
			if err != nil {
				return nil, err
			}
			return o.Body, nil
		},
		"sdk": func(ctx context.Context) (io.ReadCloser, error) {
			o, err := sdk.GetObject(ctx, &s3.GetObjectInput{Bucket: &bucket, Key: &key})
			if err != nil {
				return nil, err
			}
			return o.Body, nil
		},
	} {
		b.Run(name, func(b *testing.B) {
			before := cpu(b)
			b.ReportAllocs()
			work := make(chan struct{})
			var wg sync.WaitGroup
			for range 16 {
				wg.Go(func() {
					buf := make([]byte, benchSize+1)
					for range work {
						body, err := get(b.Context())
						if err != nil {
							b.Error(err)
							continue
						}
						if n, err := io.ReadFull(body, buf); n != benchSize || err != io.ErrUnexpectedEOF {
							b.Error(n, err)
						}
						body.Close()
					}
				})
			}
			for range b.N {
				work <- struct{}{}
			}
			close(work)
			wg.Wait()
			user, sys := before(b)
			b.ReportMetric(float64(user.Microseconds())/float64(b.N), "user-µs/op")
			b.ReportMetric(float64(sys.Microseconds())/float64(b.N), "sys-µs/op")
		})
	}
}
