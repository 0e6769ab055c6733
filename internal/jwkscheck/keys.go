package jwkscheck

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/stella-ops/stella/internal/fault"
)

// KeyInfo is one public key of a set as an operator sees it.
type KeyInfo struct {
	KID        string `json:"kid"`
	KeyType    string `json:"kty"`
	Curve      string `json:"crv,omitempty"`
	Alg        string `json:"alg"`
	Use        string `json:"use"`
	Status     string `json:"status,omitempty"` // member "status", if any
	Thumbprint string `json:"thumbprint"`       // RFC 7638, SHA-256; empty when the key is not usable
	Usable     bool   `json:"usable"`
	Problem    string `json:"problem,omitempty"`
}

// Keys lists the keys of a document in its own order. What is not a key set is
// of kind Trust.
func Keys(d *Document) ([]KeyInfo, error) {
	keys, _, err := parseRaw(d.Body)
	if err != nil {
		return nil, fault.Errorf(fault.Trust, "%s does not hold a key set: %w", d.Source, err).
			Hint("what exactly is wrong: stella auth jwks lint %s", d.Source)
	}
	return infos(keys), nil
}

func infos(keys []rawKey) []KeyInfo {
	out := make([]KeyInfo, 0, len(keys))
	for _, k := range keys {
		i := KeyInfo{
			KID: k.kid, KeyType: k.kty, Curve: k.crv, Alg: k.alg, Use: k.use, Status: k.status,
			Thumbprint: k.thumbprint, Usable: k.unusable == nil && k.thumbprint != "",
		}
		if k.unusable != nil {
			i.Problem = k.unusable.Error()
		}
		out = append(out, i)
	}
	return out
}

// differences lists where other departs from ref, ordered by kid.
func differences(ref, other []KeyInfo) []Difference {
	var out []Difference
	add := func(kid, kind, format string, args ...any) {
		out = append(out, Difference{kid, kind, fmt.Sprintf(format, args...)})
	}
	for _, k := range ref {
		there := withKID(other, k.KID)
		switch {
		case len(there) == 0:
			add(k.KID, "missing", "kid %.80q is missing", k.KID)
		case len(there) != len(withKID(ref, k.KID)):
			add(k.KID, "duplicate", "kid %.80q is there %d times", k.KID, len(there))
		case !slices.ContainsFunc(there, func(o KeyInfo) bool { return o.Thumbprint == k.Thumbprint }):
			add(k.KID, "other-key", "kid %.80q names another key: thumbprint %s instead of %s", k.KID, there[0].Thumbprint, k.Thumbprint)
		case !slices.ContainsFunc(there, func(o KeyInfo) bool { return o.Thumbprint == k.Thumbprint && o.Status == k.Status }):
			add(k.KID, "other-status", "kid %.80q has status %.40q instead of %.40q", k.KID, there[0].Status, k.Status)
		}
	}
	for _, k := range other {
		if len(withKID(ref, k.KID)) == 0 {
			add(k.KID, "extra", "kid %.80q is there in addition", k.KID)
		}
	}
	slices.SortFunc(out, func(a, b Difference) int { return cmp.Or(cmp.Compare(a.KID, b.KID), cmp.Compare(a.Kind, b.Kind)) })
	return slices.Compact(out)
}

func withKID(keys []KeyInfo, kid string) []KeyInfo {
	var out []KeyInfo
	for _, k := range keys {
		if k.KID == kid {
			out = append(out, k)
		}
	}
	return out
}
