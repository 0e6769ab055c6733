package awskms

import (
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/stella-ops/stella/internal/fault"
)

// located reads the ARN of a key of this region.
func (p *Provider) located(meta *types.KeyMetadata) (keyARN, error) {
	if meta != nil {
		if arn, ok := parseARN(aws.ToString(meta.Arn)); ok && arn.region() == p.region {
			return arn, nil
		}
	}
	return "", fault.Errorf(fault.Trust, "AWS KMS answered without the ARN of a key in %s", p.region).
		Hint("check what answers at signing.awskms.endpoint")
}

// usable accepts the metadata of a key that may be given out for a name.
func (p *Provider) usable(meta *types.KeyMetadata, name string) (keyARN, error) {
	arn, err := p.located(meta)
	if err != nil {
		return "", err
	}
	words := "alias/" + name + " is key " + string(arn) + ", which"
	if why := unfit(meta); why != nil {
		return "", fault.Errorf(fault.Trust, "%s %w", words, why)
	}
	free := "free its name: aws kms delete-alias --alias-name alias/" + name
	switch err := working(meta, words); {
	case err == nil:
	case meta.KeyState == types.KeyStateDisabled:
		return "", err.Hint("use it again: aws kms enable-key --key-id %s", arn).Hint("or %s", free)
	case ending(meta):
		return "", err.Hint("%s", free)
	default:
		return "", err
	}
	return arn, nil
}

// unfit says why a key is not of the sort that is used; nil if it is.
func unfit(meta *types.KeyMetadata) error {
	switch {
	case meta.KeySpec != types.KeySpecEccNistP256 || meta.KeyUsage != types.KeyUsageTypeSignVerify:
		return fmt.Errorf("is %.40q for %.40q: want ECC_NIST_P256 for SIGN_VERIFY (ES256)", meta.KeySpec, meta.KeyUsage)
	case meta.Origin != types.OriginTypeAwsKms && meta.Origin != types.OriginTypeAwsCloudhsm:
		// Imported material is known elsewhere.
		return fmt.Errorf("is of origin %.40q: want one that was born in AWS KMS", meta.Origin)
	}
	return nil
}

// working refuses a key that cannot sign now; words names it.
func working(meta *types.KeyMetadata, words string) *fault.Error {
	switch meta.KeyState {
	case types.KeyStateEnabled:
		return nil
	case types.KeyStateCreating, types.KeyStateUpdating, types.KeyStateUnavailable:
		return fault.Errorf(fault.Transient, "%s is not ready: its state is %s", words, meta.KeyState)
	case types.KeyStateDisabled:
		return fault.Errorf(fault.Order, "%s is disabled", words)
	}
	if ending(meta) {
		return fault.Errorf(fault.Order, "%s is about to be deleted", words)
	}
	return fault.Errorf(fault.Order, "%s cannot be used: its state is %.40q", words, meta.KeyState)
}

// ending reports whether a key waits for its deletion.
func ending(meta *types.KeyMetadata) bool {
	return meta.KeyState == types.KeyStatePendingDeletion || meta.KeyState == types.KeyStatePendingReplicaDeletion
}
