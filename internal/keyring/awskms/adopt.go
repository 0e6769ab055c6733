package awskms

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/stella-ops/stella/internal/fault"
)

// Adopt checks a key that an operator made (DescribeKey) and returns its
// reference, which says all there is to say. Errors: Input for a reference that
// is malformed or of another region, and for a key that is not EC P-256 for
// signing or was not born in AWS KMS; fs.ErrNotExist for a missing key; Order
// for one that is disabled or about to be deleted; Denied, Transient.
func (p *Provider) Adopt(ctx context.Context, ref string) (string, error) {
	arn, err := p.mine(ref)
	if err != nil {
		return "", fault.As(fault.Input, err) // whoever asks may name another key
	}
	out, err := p.kms.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String(string(arn))})
	if err != nil {
		return "", p.failed(ctx, "DescribeKey", "looking at "+string(arn), err)
	}
	meta := out.KeyMetadata
	if meta == nil {
		meta = &types.KeyMetadata{}
	}
	if err := sameKey(arn, meta.Arn); err != nil {
		return "", err
	}
	words := "key " + string(arn)
	if why := unfit(meta); why != nil {
		return "", fault.Errorf(fault.Input, "%s %w", words, why).
			Hint("make another: aws kms create-key --key-spec ECC_NIST_P256 --key-usage SIGN_VERIFY")
	}
	switch err := working(meta, words); {
	case err == nil:
		return arn.ref(), nil
	case meta.KeyState == types.KeyStateDisabled:
		return "", err.Hint("aws kms enable-key --key-id %s", arn)
	case ending(meta):
		return "", err.Hint("aws kms cancel-key-deletion --key-id %s", arn).Hint("and then: aws kms enable-key --key-id %s", arn)
	default:
		return "", err
	}
}
