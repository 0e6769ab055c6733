package awskms

import (
	"strings"

	"github.com/stella-ops/stella/internal/fault"
)

// Scheme is the scheme of references to keys at AWS KMS.
const Scheme = "awskms"

const (
	refPrefix = Scheme + ":///"
	maxRef    = 256
)

// keyARN is the checked ARN of a key: not of an alias.
type keyARN string

func (a keyARN) ref() string    { return refPrefix + string(a) }
func (a keyARN) region() string { return strings.Split(string(a), ":")[3] }
func (a keyARN) id() string     { return string(a[strings.LastIndexByte(string(a), '/')+1:]) }

// parseRef reads awskms:///ARN, the form that cosign uses, without a host and
// with the ARN of a key alone: what has several spellings, or can be moved to
// another key, names nothing for ever.
func parseRef(ref string) (keyARN, error) {
	bad := func(why string) error {
		return fault.Errorf(fault.Input, "reference to a key at AWS KMS %.120q: %s", ref, why).
			Hint("write awskms:///arn:aws:kms:REGION:ACCOUNT:key/ID").
			Hint("the ARN: aws kms describe-key --key-id alias/NAME --query KeyMetadata.Arn")
	}
	if len(ref) > maxRef {
		return "", bad("longer than 256 bytes")
	}
	rest, ok := strings.CutPrefix(ref, refPrefix)
	switch {
	case !ok && strings.HasPrefix(ref, Scheme+"://"):
		return "", bad("it names a host, which signing.awskms.endpoint does")
	case !ok:
		return "", bad("want awskms:/// and an ARN")
	case strings.HasPrefix(rest, "alias/") || strings.Contains(rest, ":alias/"):
		return "", bad("an alias can be moved to another key; a reference names one key for ever")
	case !strings.HasPrefix(rest, "arn:"):
		return "", bad("a bare key id leaves open whose key it is; want the ARN")
	}
	arn, ok := parseARN(rest)
	if !ok {
		return "", bad("not the ARN of a key")
	}
	return arn, nil
}

// parseARN reads arn:PARTITION:kms:REGION:ACCOUNT:key/ID (AWS General
// Reference, "Amazon Resource Names"; KMS API reference, KeyMetadata).
func parseARN(s string) (keyARN, bool) {
	if len(s) > maxRef {
		return "", false
	}
	part := strings.Split(s, ":")
	if len(part) != 6 || part[0] != "arn" || part[2] != "kms" {
		return "", false
	}
	id, ok := strings.CutPrefix(part[5], "key/")
	if !ok || !validPartition(part[1]) || !validRegion(part[3]) || len(part[4]) != 12 || !only(part[4], digits) || !validID(id) {
		return "", false
	}
	return keyARN(s), true
}

const (
	digits  = "0123456789"
	hexes   = digits + "abcdef"
	letters = "abcdefghijklmnopqrstuvwxyz"
	capital = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
)

func only(s, of string) bool { return strings.Trim(s, of) == "" }

// validPartition: aws, aws-cn, aws-us-gov and others to come.
func validPartition(s string) bool {
	return len(s) <= 32 && (s == "aws" || strings.HasPrefix(s, "aws-") && label(s))
}

// validRegion keeps out what could become another host name than a region of
// AWS when the SDK builds one from it.
func validRegion(s string) bool {
	return len(s) >= 4 && len(s) <= 32 && strings.Contains(s, "-") && label(s)
}

func label(s string) bool {
	return only(s, letters+digits+"-") && s[0] != '-' && s[len(s)-1] != '-' && !strings.Contains(s, "--")
}

// validID accepts a UUID or the id of a multi-Region key, in lower case.
func validID(s string) bool {
	if many, ok := strings.CutPrefix(s, "mrk-"); ok {
		return len(many) == 32 && only(many, hexes)
	}
	group := strings.Split(s, "-")
	if len(group) != 5 {
		return false
	}
	for i, n := range []int{8, 4, 4, 4, 12} {
		if len(group[i]) != n || !only(group[i], hexes) {
			return false
		}
	}
	return true
}

// mine also refuses a key of another region: a service that does not have it
// would call it missing.
func (p *Provider) mine(ref string) (keyARN, error) {
	arn, err := parseRef(ref)
	if err != nil {
		return "", err
	}
	if arn.region() != p.region {
		return "", fault.Errorf(fault.Config, "key %s is in another region than %s, which is asked here", arn, p.region).
			Hint("set signing.awskms.region to %s", arn.region())
	}
	return arn, nil
}
