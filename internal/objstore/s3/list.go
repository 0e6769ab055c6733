package s3

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/objstore"
)

// maxEmpty bounds how many pages without a key may follow one another: there
// are such pages where many objects were deleted.
const maxEmpty = 100

// List implements objstore.Reader. Empty objects whose key ends in a slash,
// which consoles make as folders, are not listed: they are no objects here.
func (s *Store) List(ctx context.Context, prefix string, each func(objstore.Info) error) error {
	if err := objstore.Dead(ctx, objstore.OpList, s.Place(), prefix); err != nil {
		return err
	}
	if len(s.prefix)+len(prefix) > objstore.MaxKey {
		return nil // no key is as long
	}
	in := &s3.ListObjectsV2Input{
		Bucket: &s.place.Host, Prefix: aws.String(s.prefix + prefix),
		EncodingType: types.EncodingTypeUrl, // XML cannot carry all keys
	}
	empty := 0 // pages in a row
	p := page{s: s, prefix: s.prefix + prefix, each: each}
	for {
		out, err := s.listPage(ctx, in)
		if err != nil {
			return s.failed(ctx, objstore.OpList, prefix, err)
		}
		if out.Name == nil || out.IsTruncated == nil {
			// The SDK takes an empty answer, or a web page, for an empty bucket.
			return objstore.Fail(objstore.OpList, s.Place(), prefix, objstore.ErrTransient, errors.New("the answer is not a listing of S3")).
				Hint("check what answers at the endpoint: a proxy, or a portal that wants a login?")
		}
		for _, o := range out.Contents {
			if err := objstore.Dead(ctx, objstore.OpList, s.Place(), prefix); err != nil {
				return err
			}
			if err := p.take(o, out.EncodingType == types.EncodingTypeUrl); err != nil {
				return err
			}
		}
		if !aws.ToBool(out.IsTruncated) {
			return nil
		}
		next := aws.ToString(out.NextContinuationToken)
		if len(out.Contents) > 0 {
			empty = 0
		}
		if empty++; next == "" || empty > maxEmpty {
			return p.broken("it says that there is more, but does not go on")
		}
		in.ContinuationToken = &next
	}
}

// pageWithin bounds one page of at most a thousand keys, retries included: no
// caller sees bytes of a listing, so none could end one that trickles.
const pageWithin = 2 * time.Minute

func (s *Store) listPage(ctx context.Context, in *s3.ListObjectsV2Input) (*s3.ListObjectsV2Output, error) {
	page, cancel := context.WithTimeout(ctx, pageWithin)
	defer cancel()
	out, err := s.sdk.ListObjectsV2(page, in)
	if err != nil && ctx.Err() == nil && page.Err() != nil {
		return nil, objstore.Fail(objstore.OpList, s.Place(), aws.ToString(in.Prefix), objstore.ErrTransient, fmt.Errorf("a page took more than %s", pageWithin))
	}
	return out, err
}

// page checks what a listing gives.
type page struct {
	s      *Store
	prefix string // in the bucket
	last   string // key in the bucket
	each   func(objstore.Info) error
}

func (p *page) take(o types.Object, escaped bool) error {
	key := aws.ToString(o.Key)
	if escaped {
		plain, err := url.QueryUnescape(key)
		if err != nil {
			return p.broken("a key is not encoded as it says")
		}
		key = plain
	}
	if !strings.HasPrefix(key, p.prefix) {
		return p.broken("it gives keys that were not asked for")
	}
	if key <= p.last && p.last != "" {
		return p.broken("it is out of order")
	}
	p.last = key
	info := objstore.Info{Key: strings.TrimPrefix(key, p.s.prefix), Size: aws.ToInt64(o.Size), ETag: objstore.CleanETag(aws.ToString(o.ETag)), Modified: aws.ToTime(o.LastModified)}
	if info.Size == 0 && (info.Key == "" || strings.HasSuffix(info.Key, "/")) {
		return nil
	}
	if err := objstore.CheckListed(p.s.Place(), info.Key); err != nil {
		return err
	}
	return p.each(info)
}

func (p *page) broken(why string) error {
	return fault.Errorf(fault.Trust, "%s: the listing cannot be relied on: %s", objstore.Naming(objstore.OpList, p.s.Place(), strings.TrimPrefix(p.prefix, p.s.prefix)), why).
		Hint("the service at this endpoint does not list as S3 does")
}
