package awskms

import (
	"context"
	"errors"
	"io/fs"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

const (
	// deletionDays is the shortest wait that AWS KMS allows.
	deletionDays = 7
	// A key has at most 50 aliases (KMS developer guide, "Quotas").
	aliasesAPage = 50
	aliasPages   = 3
)

// Destroy disables the key at once and has it deleted after 7 days, until when
// an administrator may call it back (DisableKey, ScheduleKeyDeletion). A key
// that is missing or about to be deleted is no error. Its names become free, as
// far as that is permitted (ListAliases, DeleteAlias).
func (p *Provider) Destroy(ctx context.Context, ref string) error {
	arn, err := p.mine(ref)
	if err != nil {
		return err
	}
	if err := p.retire(ctx, arn); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// retire is Destroy, but for what a missing key is: fs.ErrNotExist.
func (p *Provider) retire(ctx context.Context, arn keyARN) error {
	id := aws.String(string(arn))
	// Its outcome does not matter where deletion is scheduled, which ends the
	// use of a key as well; where it is not, this is better than nothing.
	_, disableErr := p.kms.DisableKey(ctx, &kms.DisableKeyInput{KeyId: id})
	_, err := p.kms.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: id, PendingWindowInDays: aws.Int32(deletionDays)})
	if is[*types.KMSInvalidStateException](err) && p.ends(ctx, arn) {
		err = nil
	}
	if err != nil {
		doing := "having " + string(arn) + " deleted, which is disabled now"
		if disableErr != nil {
			doing = "disabling " + string(arn) + " and having it deleted"
		}
		return p.failed(ctx, "ScheduleKeyDeletion", doing, err)
	}
	p.freeNames(ctx, arn)
	return nil
}

// ends reports whether the service has a key wait for its deletion.
func (p *Provider) ends(ctx context.Context, arn keyARN) bool {
	out, err := p.kms.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String(string(arn))})
	if err != nil || out.KeyMetadata == nil || aws.ToString(out.KeyMetadata.Arn) != string(arn) {
		return false
	}
	return ending(out.KeyMetadata)
}

// freeNames deletes the aliases that Make may have given a key. What stays
// costs nobody the key: Make refuses a name whose key has ended.
func (p *Provider) freeNames(ctx context.Context, arn keyARN) {
	var marker *string
	for range aliasPages {
		out, err := p.kms.ListAliases(ctx, &kms.ListAliasesInput{
			KeyId: aws.String(string(arn)), Limit: aws.Int32(aliasesAPage), Marker: marker,
		})
		if err != nil {
			return
		}
		for _, a := range out.Aliases[:min(len(out.Aliases), aliasesAPage)] {
			name, ok := strings.CutPrefix(aws.ToString(a.AliasName), "alias/")
			if !ok || !validName(name) || aws.ToString(a.TargetKeyId) != arn.id() {
				continue
			}
			if _, err := p.kms.DeleteAlias(ctx, &kms.DeleteAliasInput{AliasName: alias(name)}); err != nil && ctx.Err() != nil {
				return
			}
		}
		if marker = out.NextMarker; !out.Truncated || marker == nil {
			return
		}
	}
}
