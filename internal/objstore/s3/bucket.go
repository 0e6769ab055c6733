package s3

import (
	"context"
	"errors"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/stella-ops/stella/internal/objstore"
)

// CreateBucket makes the bucket of the place; one that is there already and
// that these credentials may use is no error.
func (s *Store) CreateBucket(ctx context.Context) error {
	if err := objstore.Dead(ctx, objstore.OpWrite, s.Place(), ""); err != nil {
		return err
	}
	in := &s3.CreateBucketInput{Bucket: &s.place.Host}
	if region := s.sdk.Options().Region; region != "us-east-1" { // which S3 knows by no name here
		in.CreateBucketConfiguration = &types.CreateBucketConfiguration{LocationConstraint: types.BucketLocationConstraint(region)}
	}
	_, err := s.sdk.CreateBucket(ctx, in)
	if err == nil {
		return nil
	}
	var mine *types.BucketAlreadyOwnedByYou
	var there *types.BucketAlreadyExists
	if errors.As(err, &mine) || errors.As(err, &there) {
		if _, err = s.sdk.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &s.place.Host}); err == nil {
			return nil
		}
	}
	return s.failed(ctx, objstore.OpWrite, "", err)
}
