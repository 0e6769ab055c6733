// Package s3 is an objstore.Store in a bucket of Amazon S3 or of a server that
// speaks its protocol.
//
// It guarantees what objstore promises; that Open is one signed GET that no
// layer tries again, while List, Put and Delete try three times; that answers
// are bounded and redirects not followed; that a Put carries SHA-256, so the
// server refuses bytes that changed on the way, and one that fails in parts is
// aborted; that a listing that is out of order, outside the prefix or endless
// is an error; and that no error holds a credential.
//
// Credentials and, unless given, the region come from where the AWS SDK looks
// for them: environment, shared files, web identity, and the role of the
// container or instance.
package s3

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/logging"

	"github.com/stella-ops/stella/internal/buildinfo"
	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/objstore"
	"github.com/stella-ops/stella/internal/objstore/internal/httpget"
)

// Options shape a Store; the zero value asks the SDK's sources.
type Options struct {
	Region    string // default: AWS_REGION or the shared configuration file; us-east-1 with an Endpoint
	Endpoint  string // URL of another service than Amazon's: https, or http of loopback
	PathStyle bool   // the bucket is part of the path, not of the host: most other services want it
	CAFile    string // PEM of the only CAs to trust; "" for the system's
	MaxConns  int    // idle connections kept; 0: 32
	// Credentials, if not nil, are used in place of the SDK's sources; see
	// Static and Anonymous.
	Credentials aws.CredentialsProvider

	maxBackoff time.Duration // 0 is the constant; tests have less patience
}

// Static are fixed credentials; session may be "".
func Static(accessKey, secretKey, session string) aws.CredentialsProvider {
	return credentials.NewStaticCredentialsProvider(accessKey, secretKey, session)
}

// Anonymous signs nothing, for buckets that everybody may read.
func Anonymous() aws.CredentialsProvider { return aws.AnonymousCredentials{} }

// How the SDK's calls are bounded.
const (
	attempts          = 3
	maxBackoff        = 3 * time.Second
	credentialsWithin = 5 * time.Second
	singleMax         = 64 << 20 // a Put up to this size is one request
	partSize          = 16 << 20
	maxParts          = 10_000
	abortWithin       = 10 * time.Second
)

// Store reads and writes below a prefix of one bucket. It is safe for
// concurrent use.
type Store struct {
	place     objstore.Place
	prefix    string // "" or ending in a slash
	get       httpget.Client
	sdk       *s3.Client
	transport *http.Transport
	single    int64 // singleMax; tests have smaller ones
	part      int64
}

var _ objstore.Store = (*Store)(nil)

// Open prepares to use an s3:// place. It sends no request, so credentials are
// first looked for when an object is used. Errors are of kind Config, or Input
// for a place that is not in S3.
func Open(ctx context.Context, place objstore.Place, o Options) (*Store, error) {
	if place.Scheme != objstore.S3 {
		return nil, fault.Errorf(fault.Input, "place %s: want s3://", place)
	}
	if err := checkEndpoint(o.Endpoint); err != nil {
		return nil, err
	}
	cfg, err := load(ctx, &o)
	if err != nil {
		return nil, err
	}
	transport, err := httpget.NewTransport(httpget.TransportOptions{MaxConns: o.MaxConns, CAFile: o.CAFile})
	if err != nil {
		return nil, err
	}
	cfg.HTTPClient = &http.Client{
		Transport:     bounded{transport},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	s := &Store{place: place, transport: transport, single: singleMax, part: partSize}
	if place.Path != "" {
		s.prefix = place.Path + "/"
	}
	s.sdk = s3.NewFromConfig(cfg, func(so *s3.Options) {
		so.UsePathStyle = o.PathStyle
		if o.Endpoint != "" {
			so.BaseEndpoint = aws.String(o.Endpoint)
		}
	})
	base, err := bucketURL(ctx, place.Host, cfg.Region, o)
	if err != nil {
		return nil, err
	}
	s.get = httpget.Client{
		Transport: transport, Place: place.String(), Agent: "stella/" + buildinfo.Read().Version,
		Base: base, Authorize: s.signer(cfg), Explain: s.explain,
	}
	s.get.Base.Path = strings.TrimSuffix(base.Path, "/") + strings.TrimSuffix("/"+s.prefix, "/")
	return s, nil
}

// load finds region and credentials.
func load(ctx context.Context, o *Options) (aws.Config, error) {
	cfg := aws.Config{Region: o.Region}
	if o.Credentials == nil || o.Region == "" && o.Endpoint == "" {
		var err error
		cfg, err = config.LoadDefaultConfig(ctx,
			config.WithLogger(logging.Nop{}),
			// Auto mode would ask the instance for its region, over the network.
			config.WithDefaultsMode(aws.DefaultsModeStandard),
			config.WithHTTPClient(awshttp.NewBuildableClient().WithTimeout(credentialsWithin)),
		)
		if err != nil {
			return aws.Config{}, fault.Errorf(fault.Config, "reading the AWS configuration: %.300q", err.Error())
		}
	}
	if o.Region != "" {
		cfg.Region = o.Region
	}
	if cfg.Region == "" && o.Endpoint != "" {
		cfg.Region = "us-east-1" // what such services call themselves
	}
	if !validRegion(cfg.Region) {
		return aws.Config{}, fault.Errorf(fault.Config, "S3: %.60q is no region", cfg.Region).
			Hint("configure the bucket's region, or set AWS_REGION")
	}
	if o.Credentials != nil {
		cfg.Credentials = o.Credentials
	}
	if !anonymous(cfg) {
		cfg.Credentials = marked{aws.NewCredentialsCache(cfg.Credentials)} // of a cache it makes none
	}
	cfg.Logger = logging.Nop{}
	if o.maxBackoff == 0 {
		o.maxBackoff = maxBackoff
	}
	// No account of retries is kept over all calls: when that ran out, an
	// outage would no longer look like one.
	cfg.Retryer = func() aws.Retryer {
		return retry.NewStandard(func(so *retry.StandardOptions) {
			so.MaxAttempts, so.RateLimiter = attempts, ratelimit.None
			so.Backoff = retry.NewExponentialJitterBackoff(o.maxBackoff)
		})
	}
	// Other services than Amazon's know neither trailers nor the newer sums:
	// what is sent carries its SHA-256, and callers verify what they read.
	cfg.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
	cfg.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
	return cfg, nil
}

// bucketURL is where the SDK would look for the bucket.
func bucketURL(ctx context.Context, bucket, region string, o Options) (url.URL, error) {
	p := s3.EndpointParameters{Bucket: &bucket, Region: &region, ForcePathStyle: &o.PathStyle}
	if o.Endpoint != "" {
		p.Endpoint = &o.Endpoint
	}
	at, err := s3.NewDefaultEndpointResolverV2().ResolveEndpoint(ctx, p)
	if err != nil {
		return url.URL{}, fault.Errorf(fault.Config, "bucket %q in region %q: %.300q", bucket, region, err.Error())
	}
	return at.URI, nil
}

// signer signs requests as the SDK does, at a fraction of its price: see
// BenchmarkOpen.
func (s *Store) signer(cfg aws.Config) func(*http.Request) error {
	sign := v4.NewSigner(func(so *v4.SignerOptions) { so.DisableURIPathEscaping = true })
	// The SHA-256 of nothing.
	const empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	if anonymous(cfg) {
		return nil
	}
	return func(r *http.Request) error {
		creds, err := cfg.Credentials.Retrieve(r.Context())
		if err != nil {
			return noCredentials(objstore.OpRead, s.Place(), strings.TrimPrefix(r.URL.Path, s.get.Base.Path+"/"), err)
		}
		r.Header["X-Amz-Content-Sha256"] = []string{empty}
		enc := r.Header["Accept-Encoding"] // a proxy may change it
		delete(r.Header, "Accept-Encoding")
		err = sign.SignHTTP(r.Context(), creds, r, empty, "s3", cfg.Region, time.Now())
		r.Header["Accept-Encoding"] = enc
		return err
	}
}

func anonymous(cfg aws.Config) bool {
	return aws.IsCredentialsProvider(cfg.Credentials, aws.AnonymousCredentials{})
}

// Open implements objstore.Reader.
func (s *Store) Open(ctx context.Context, key string, g objstore.Get) (*objstore.Object, error) {
	return s.get.Open(ctx, key, g)
}

// Place implements objstore.Reader.
func (s *Store) Place() string { return s.place.String() }

// Close gives up idle connections. The store may still be used.
func (s *Store) Close() error { s.transport.CloseIdleConnections(); return nil }

// name gives the key in the bucket, or refuses it.
func (s *Store) name(ctx context.Context, op objstore.Op, key string) (*string, error) {
	if err := objstore.CheckKey(key); err != nil {
		return nil, fault.Errorf(fault.Input, "%s: %w", objstore.Naming(op, s.Place(), key), err)
	}
	if len(s.prefix)+len(key) > objstore.MaxKey {
		return nil, fault.Errorf(fault.Input, "%s: %w: with the prefix it has more than %d bytes", objstore.Naming(op, s.Place(), key), objstore.ErrKey, objstore.MaxKey)
	}
	if err := objstore.Dead(ctx, op, s.Place(), key); err != nil {
		return nil, err
	}
	return aws.String(s.prefix + key), nil
}

// checkEndpoint accepts "" and the base URL of a service.
func checkEndpoint(endpoint string) error {
	if endpoint == "" {
		return nil
	}
	u, err := url.Parse(endpoint)
	if err == nil && u.Host != "" && u.User == nil && u.RawQuery == "" && u.Fragment == "" && (u.Path == "" || u.Path == "/") &&
		(u.Scheme == "https" || u.Scheme == "http" && objstore.Loopback(u.Hostname())) {
		return nil
	}
	// The URL is not repeated: it may hold a password.
	return fault.Errorf(fault.Config, "the S3 endpoint is not the base URL of a service (value withheld)").
		Hint("write it as https://HOST[:PORT]; http:// only for loopback")
}

func validRegion(region string) bool {
	for _, c := range []byte(region) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return region != "" && len(region) <= 60
}
