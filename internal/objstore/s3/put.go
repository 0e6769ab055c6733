package s3

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/objstore"
)

// Put implements objstore.Writer: one request up to 64 MiB, else parts of at
// least 16 MiB one after the other, none of which is held in memory. body is
// read twice: S3 wants its SHA-256 first.
func (s *Store) Put(ctx context.Context, key string, body io.ReadSeeker, size int64) (objstore.Info, error) {
	name, err := s.name(ctx, objstore.OpWrite, key)
	if err != nil {
		return objstore.Info{}, err
	}
	start, err := body.Seek(0, io.SeekCurrent)
	if err == nil && size < 0 {
		err = errors.New("its size is not known")
	}
	if err != nil {
		return objstore.Info{}, fault.Errorf(fault.Input, "%s: %w", objstore.Naming(objstore.OpWrite, s.Place(), key), err)
	}
	u := upload{s: s, name: name, body: body, start: start, size: size}
	etag := ""
	if size <= s.single {
		etag, err = u.whole(ctx)
	} else {
		etag, err = u.inParts(ctx)
	}
	if err != nil {
		return objstore.Info{}, s.failed(ctx, objstore.OpWrite, key, err)
	}
	return objstore.Info{Key: key, Size: size, ETag: objstore.CleanETag(etag)}, nil
}

type upload struct {
	s     *Store
	name  *string
	body  io.ReadSeeker
	start int64
	size  int64
}

func (u *upload) whole(ctx context.Context) (etag string, err error) {
	sum, err := u.sum(ctx, 0, u.size, true)
	if err != nil {
		return "", err
	}
	out, err := u.s.sdk.PutObject(ctx, &s3.PutObjectInput{
		Bucket: &u.s.place.Host, Key: u.name, Body: &section{u.body, u.start, u.size, 0},
		ContentLength: &u.size, ChecksumSHA256: &sum, ContentType: aws.String("application/octet-stream"),
	}, unsigned)
	if err != nil {
		return "", err
	}
	return aws.ToString(out.ETag), nil
}

func (u *upload) inParts(ctx context.Context) (etag string, err error) {
	begun, err := u.s.sdk.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{
		Bucket: &u.s.place.Host, Key: u.name, ChecksumAlgorithm: types.ChecksumAlgorithmSha256, ContentType: aws.String("application/octet-stream"),
	})
	if err != nil {
		return "", err
	}
	parts, err := u.parts(ctx, begun.UploadId)
	if err == nil {
		var out *s3.CompleteMultipartUploadOutput
		out, err = u.s.sdk.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
			Bucket: &u.s.place.Host, Key: u.name, UploadId: begun.UploadId, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
		})
		if err == nil {
			return aws.ToString(out.ETag), nil
		}
	}
	// Parts that stay are paid for and seen by nobody. The context may be over.
	clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortWithin)
	defer cancel()
	_, aborted := u.s.sdk.AbortMultipartUpload(clean, &s3.AbortMultipartUploadInput{Bucket: &u.s.place.Host, Key: u.name, UploadId: begun.UploadId})
	_ = aborted // the upload's error is the one to report; a lifecycle rule sweeps what is left
	return "", err
}

func (u *upload) parts(ctx context.Context, id *string) ([]types.CompletedPart, error) {
	size := max(u.s.part, (u.size+maxParts-1)/maxParts)
	var parts []types.CompletedPart
	for at := int64(0); at < u.size; at += size {
		n := min(size, u.size-at)
		sum, err := u.sum(ctx, at, n, at+n == u.size)
		if err != nil {
			return nil, err
		}
		number := int32(len(parts) + 1)
		out, err := u.s.sdk.UploadPart(ctx, &s3.UploadPartInput{
			Bucket: &u.s.place.Host, Key: u.name, UploadId: id, PartNumber: &number,
			Body: &section{u.body, u.start + at, n, 0}, ContentLength: &n, ChecksumSHA256: &sum,
		}, unsigned)
		if err != nil {
			return nil, err
		}
		parts = append(parts, types.CompletedPart{PartNumber: &number, ETag: out.ETag, ChecksumSHA256: &sum})
	}
	return parts, nil
}

// sum is the SHA-256 of n bytes; last says that the body ends behind them.
func (u *upload) sum(ctx context.Context, at, n int64, last bool) (string, error) {
	if _, err := u.body.Seek(u.start+at, io.SeekStart); err != nil {
		return "", fault.Errorf(fault.Input, "writing to %s: the body cannot be read again: %w", u.s.Place(), err)
	}
	h := sha256.New()
	got, err := io.CopyN(h, aware{ctx, u.body}, n)
	extra := 0
	if err == nil && last {
		extra, _ = io.ReadFull(u.body, make([]byte, 1))
	}
	switch {
	case err == io.EOF || extra != 0:
		return "", fault.Errorf(fault.Input, "writing to %s: the body has not the %d bytes that were announced", u.s.Place(), u.size)
	case err != nil:
		return "", fault.Errorf(fault.KindOf(err), "writing to %s: reading the body after %d bytes: %w", u.s.Place(), at+got, err)
	}
	return base64.StdEncoding.EncodeToString(h.Sum(nil)), nil
}

// unsigned leaves the body out of the signature, but not its SHA-256, which is
// in a signed header: it need not be hashed once more.
func unsigned(o *s3.Options) {
	o.APIOptions = append(o.APIOptions, v4.SwapComputePayloadSHA256ForUnsignedPayloadMiddleware)
}

// aware stops reading when the context is over.
type aware struct {
	ctx  context.Context
	from io.Reader
}

func (a aware) Read(p []byte) (int, error) {
	if err := a.ctx.Err(); err != nil {
		return 0, err
	}
	return a.from.Read(p)
}

// section is a part of a body, to be read more than once.
type section struct {
	body     io.ReadSeeker
	start, n int64
	at       int64
}

func (s *section) Read(p []byte) (int, error) {
	if s.at >= s.n {
		return 0, io.EOF
	}
	if int64(len(p)) > s.n-s.at {
		p = p[:s.n-s.at]
	}
	if _, err := s.body.Seek(s.start+s.at, io.SeekStart); err != nil {
		return 0, err
	}
	n, err := s.body.Read(p)
	s.at += int64(n)
	return n, err
}

func (s *section) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += s.at
	case io.SeekEnd:
		offset += s.n
	}
	if offset < 0 || offset > s.n {
		return 0, fmt.Errorf("seeking to %d of %d bytes", offset, s.n)
	}
	s.at = offset
	return offset, nil
}

// Delete implements objstore.Writer. In a bucket with versions the old ones
// stay.
func (s *Store) Delete(ctx context.Context, key string) error {
	name, err := s.name(ctx, objstore.OpDelete, key)
	if err != nil {
		return err
	}
	_, err = s.sdk.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &s.place.Host, Key: name})
	if err != nil {
		err = s.failed(ctx, objstore.OpDelete, key, err)
		// No such key is what was wanted; no such bucket is not.
		if errors.Is(err, objstore.ErrNotFound) && !errors.Is(err, errNoBucket) {
			return nil
		}
	}
	return err
}
