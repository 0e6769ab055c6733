package awskms

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/stella-ops/stella/internal/fault"
)

const (
	maxName = 128
	nameTag = "stella-name"
	// Cleaning up goes on for so long after the caller has gone.
	cleanupWithin = 5 * time.Second
)

func validName(name string) bool {
	return name != "" && len(name) <= maxName && only(name, letters+capital+digits+"-")
}

func alias(name string) *string { return aws.String("alias/" + name) }

// Make returns the key behind alias/NAME, and makes both if there is none
// (CreateKey, CreateAlias). Names have 1 to 128 letters, digits and hyphens. A
// key of that name that cannot be used is refused: Order for a disabled one or
// one that is about to be deleted, Trust for one of another sort. Of kind
// Partial is a key that was made in vain and could not be ended: trying again
// gives the name's key.
func (p *Provider) Make(ctx context.Context, name string) (string, error) {
	if !validName(name) {
		return "", fault.Errorf(fault.Input, "name of a key %.140q: use 1 to 128 letters, digits and hyphens", name)
	}
	arn, err := p.named(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		arn, err = p.create(ctx, name)
	}
	if err != nil {
		return "", fmt.Errorf("making key %s at AWS KMS: %w", name, err)
	}
	return arn.ref(), nil
}

// named finds the usable key that the alias of a name points to.
func (p *Provider) named(ctx context.Context, name string) (keyARN, error) {
	out, err := p.kms.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: alias(name)})
	if err != nil {
		return "", p.failed(ctx, "DescribeKey", "looking for the name", err)
	}
	return p.usable(out.KeyMetadata, name)
}

func (p *Provider) create(ctx context.Context, name string) (keyARN, error) {
	out, err := p.kms.CreateKey(ctx, &kms.CreateKeyInput{
		KeySpec: types.KeySpecEccNistP256, KeyUsage: types.KeyUsageTypeSignVerify,
		Description: aws.String("Signing key " + name + " of a stella Authority, made and ended by it"),
		Tags:        []types.Tag{{TagKey: aws.String(nameTag), TagValue: aws.String(name)}},
	}, throttledOnly)
	if err != nil {
		return "", p.failed(ctx, "CreateKey", "creating it", err)
	}
	arn, err := p.located(out.KeyMetadata)
	if err != nil {
		return "", err
	}
	if _, err := p.usable(out.KeyMetadata, name); err != nil {
		return "", errors.Join(err, p.undo(ctx, arn))
	}
	_, err = p.kms.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: alias(name), TargetKeyId: aws.String(arn.id())})
	if err != nil {
		return p.settle(ctx, name, arn, err)
	}
	return arn, nil
}

// settle finds out whose the name is when it was not given to the key just made
// as far as is known: another replica may have been first, or only the answer
// was lost. A key made in vain is ended.
func (p *Provider) settle(ctx context.Context, name string, made keyARN, cause error) (keyARN, error) {
	looking, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupWithin)
	defer cancel()
	holder, lookErr := p.named(looking, name)
	if lookErr == nil && holder == made {
		// Another replica may have found the key by its name already: it stays.
		return made, gone(ctx)
	}
	if err := p.undo(ctx, made); err != nil {
		return "", err
	}
	raced, missing := is[*types.AlreadyExistsException](cause), errors.Is(lookErr, fs.ErrNotExist)
	switch {
	case lookErr == nil:
		return holder, gone(ctx)
	case raced && missing, is[*types.NotFoundException](cause):
		return "", fault.Errorf(fault.Transient, "AWS KMS does not show everywhere yet what was just made; try again")
	case raced:
		return "", lookErr
	}
	return "", p.failed(ctx, "CreateAlias", "naming it", cause)
}

// undo ends a key that was made in vain, even when the caller has gone. What
// was made a moment ago is not seen everywhere at once (KMS developer guide,
// "Eventual consistency"), so a missing key is no success here.
func (p *Provider) undo(ctx context.Context, made keyARN) error {
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupWithin)
	defer cancel()
	if err := p.retire(after, made); err != nil {
		return fault.Errorf(fault.Partial, "key %s was made in vain and could not be ended: %w", made, err).
			Hint("aws kms schedule-key-deletion --key-id %s", made)
	}
	return nil
}

// gone is the error of a caller who does not wait any more.
func gone(ctx context.Context) error {
	if ctx.Err() != nil {
		return fmt.Errorf("the caller has gone: %w", ctx.Err())
	}
	return nil
}

func is[E error](err error) bool {
	var e E
	return errors.As(err, &e)
}
