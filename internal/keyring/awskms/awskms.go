// Package awskms keeps private keys at AWS KMS; it is a keyring.Provider.
//
// It guarantees that a reference names one key for ever, by its ARN; that a
// key it gives out is EC P-256, for signing, born in KMS and enabled; that an
// answer about another key than the one asked for is never used; and that a
// key made for a name that another replica won is ended again. Answers are
// bounded, redirects are not followed, a call is tried at most twice, and no
// error holds a credential.
//
// Credentials and, unless given, the region come from where the AWS SDK looks
// for them and from nowhere else: environment, shared files, web identity, and
// the role of the container or instance.
//
// KMS cannot make a key and its name in one step. When the answer to CreateKey
// is lost, a key stays that no name and no reference leads to and that nothing
// is signed with; the tag stella-name tells it.
package awskms

import (
	"context"
	"net"
	"net/url"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go/logging"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/keyring"
)

// Options says where the service is; the zero value asks the SDK's sources.
type Options struct {
	Region   string // default: AWS_REGION or the shared configuration file
	Endpoint string // URL of a VPC endpoint or an emulator: https, or http of loopback
	CAFile   string // PEM of the only CAs to trust there; default: AWS_CA_BUNDLE, else the system's

	answerWithin time.Duration // 0 is the constant; tests have less patience
}

// Provider is AWS KMS in one region, for one identity.
type Provider struct {
	kms    *kms.Client
	region string
	creds  *watched
}

var _ keyring.Provider = (*Provider)(nil)

// Open prepares calls of AWS KMS. It makes none, so credentials are first
// looked for when a key is used. Errors are of kind Config.
func Open(ctx context.Context, o Options) (*Provider, error) {
	if err := checkEndpoint(o.Endpoint); err != nil {
		return nil, err
	}
	cfg, err := config.LoadDefaultConfig(ctx,
		config.WithLogger(logging.Nop{}),
		// Auto mode would ask the instance for its region, over the network.
		config.WithDefaultsMode(aws.DefaultsModeStandard),
		// What gives out credentials must not hang without end either.
		config.WithHTTPClient(awshttp.NewBuildableClient().WithTimeout(credentialsWithin)),
	)
	if err != nil {
		return nil, fault.Errorf(fault.Config, "reading the AWS configuration: %s", clean(err.Error()))
	}
	region := o.Region
	if region == "" {
		region = cfg.Region
	}
	if !validRegion(region) {
		return nil, fault.Errorf(fault.Config, "AWS KMS: %.60q is no region", region).
			Hint("set signing.awskms.region, or AWS_REGION")
	}
	if o.CAFile == "" {
		o.CAFile = bundle(cfg)
	}
	if o.answerWithin == 0 {
		o.answerWithin = answerWithin
	}
	client, err := newHTTPClient(o.CAFile, o.answerWithin)
	if err != nil {
		return nil, err
	}
	p := &Provider{region: region, creds: &watched{next: cfg.Credentials}}
	p.kms = kms.NewFromConfig(cfg, func(k *kms.Options) {
		k.Region, k.HTTPClient, k.Credentials = region, client, p.creds
		k.Retryer, k.RetryMaxAttempts = twice(), attempts
		if o.Endpoint != "" {
			k.BaseEndpoint = aws.String(o.Endpoint)
		}
	})
	return p, nil
}

// checkEndpoint accepts "" and the base URL of a service.
func checkEndpoint(endpoint string) error {
	if endpoint == "" {
		return nil
	}
	u, err := url.Parse(endpoint)
	if err == nil && u.Host != "" && u.User == nil && u.RawQuery == "" && u.Fragment == "" && (u.Path == "" || u.Path == "/") {
		ip := net.ParseIP(u.Hostname())
		if u.Scheme == "https" || u.Scheme == "http" && (u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()) {
			return nil
		}
	}
	// The URL is not repeated: it may hold a password.
	return fault.Errorf(fault.Config, "the endpoint of AWS KMS is not the base URL of a service (value withheld)").
		Hint("write signing.awskms.endpoint as https://HOST[:PORT]; http:// only for loopback")
}

// bundle is the file of CAs that the SDK's own sources name. The SDK would
// apply it only to an HTTP client that it may rebuild.
func bundle(cfg aws.Config) string {
	for _, source := range cfg.ConfigSources {
		var file string
		switch c := source.(type) {
		case config.EnvConfig:
			file = c.CustomCABundle
		case config.SharedConfig:
			file = c.CustomCABundle
		}
		if file != "" {
			return file
		}
	}
	return ""
}
