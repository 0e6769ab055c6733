package jwkscheck

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
)

// keyChecks are about single keys of any type.
func keyChecks() []check {
	return []check{
		{"private-members", Error, "the key is compromised: stella auth rotate taint KID --reason …, then revoke it; publish public members only", each(privateKey), nil},
		{"symmetric-key", Error, "never publish a symmetric key: whoever reads it can sign", each(symmetricKey), nil},
		{"wrong-type", Error, "kty, kid, alg, use and crv are strings", each(wrongType), nil},
		{"kty-unknown", Error, "use EC, OKP or RSA; verifiers skip or refuse other types", each(ktyUnknown), nil},
		{"use-missing", Warning, "say \"use\":\"sig\", so that nobody encrypts to a signing key", each(useMissing), nil},
		{"alg-missing", Warning, "name the algorithm, so that nobody has to guess it", each(algMissing), nil},
		{"alg-mismatch", Error, "name an algorithm that this type of key can sign with; never none or HS*", each(algMismatch), nil},
		{"base64url", Error, "write numbers in base64url without padding (RFC 7518 section 2)", each(notBase64URL), nil},
		{"key-unusable", Error, "publish a key that a strict verifier can load", each(unusableKey), nil},
	}
}

func privateKey(k rawKey) string {
	var found []string
	for _, name := range privateMembers() {
		if _, ok := k.m[name]; ok && k.kty != "oct" {
			found = append(found, name)
		}
	}
	if len(found) == 0 {
		return ""
	}
	return "private members are published: " + strings.Join(found, ", ")
}

func symmetricKey(k rawKey) string {
	if k.kty != "oct" {
		return ""
	}
	return "a symmetric key is published"
}

func wrongType(k rawKey) string {
	if len(k.wrong) == 0 {
		return ""
	}
	slices.Sort(k.wrong)
	return "not a string: " + strings.Join(k.wrong, ", ")
}

func ktyUnknown(k rawKey) string {
	switch k.kty {
	case "EC", "OKP", "RSA", "oct":
		return ""
	}
	return fmt.Sprintf("key type %.40q", k.kty)
}

func useMissing(k rawKey) string {
	if k.hasUse {
		return ""
	}
	return "no use"
}

func algMissing(k rawKey) string {
	if k.hasAlg {
		return ""
	}
	return "no alg"
}

// algorithms returns what a key of this type and curve can sign with.
func algorithms(kty, crv string) []string {
	switch kty + " " + crv {
	case "EC P-256":
		return []string{"ES256"}
	case "EC P-384":
		return []string{"ES384"}
	case "EC P-521":
		return []string{"ES512"}
	case "OKP Ed25519":
		return []string{"EdDSA", "Ed25519"}
	}
	if kty == "RSA" {
		return []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
	}
	return nil
}

func algMismatch(k rawKey) string {
	can := algorithms(k.kty, k.crv)
	if !k.hasAlg || k.alg == "" || k.use != "" && k.use == "enc" || slices.Contains(can, k.alg) {
		return ""
	}
	if can == nil && k.alg != "none" && !strings.HasPrefix(k.alg, "HS") {
		return "" // the curve or the type has a finding of its own
	}
	if k.kty == "oct" {
		return ""
	}
	return fmt.Sprintf("alg %.40q on a key of type %s", k.alg, strings.TrimSpace(k.kty+" "+k.crv))
}

// numbers lists the public members that hold bytes.
func numbers(kty string) []string {
	return map[string][]string{"EC": {"x", "y"}, "OKP": {"x"}, "RSA": {"n", "e"}}[kty]
}

func notBase64URL(k rawKey) string {
	for _, name := range numbers(k.kty) {
		s := k.text(name)
		if _, err := base64.RawURLEncoding.Strict().DecodeString(s); err != nil {
			return fmt.Sprintf("member %q is not base64url without padding", name)
		}
	}
	return ""
}

// unusableKey catches what no other check of a key explains.
func unusableKey(k rawKey) string {
	if k.unusable == nil {
		return ""
	}
	for _, explain := range []func(rawKey) string{
		symmetricKey, wrongType, ktyUnknown, notBase64URL, rsaShort, rsaExponent, curveUnknown, curveCoordinate, curvePoint,
	} {
		if explain(k) != "" {
			return ""
		}
	}
	return fmt.Sprintf("no public key can be made of it: %.200v", k.unusable)
}
