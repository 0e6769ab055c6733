package jwkscheck

import (
	"fmt"
	"slices"
	"strings"

	"github.com/stella-ops/stella/internal/jose"
)

// setChecks are about the set as a whole and about names in it.
func setChecks() []check {
	return []check{
		{"empty-set", Error, "publish at least the active key; verifiers that reload now refuse every token", emptySet, nil},
		{"duplicate-member", Error, "write each JSON member once; parsers differ in which one they take", duplicateMember, nil},
		{"set-too-large", Error, fmt.Sprintf("keep a set within %d keys and %d bytes; strict verifiers refuse more", jose.MaxSetKeys, jose.MaxSetBytes), setTooLarge, nil},
		{"many-keys", Warning, "retire keys whose tokens have expired: stella auth rotate advance", manyKeys, nil},
		{"kid-missing", Error, "give every key a kid; a verifier must not try keys blindly", each(kidMissing), nil},
		{"kid-duplicate", Error, "give each key a kid of its own (RFC 7517 section 4.5)", kidDuplicate, nil},
		{"kid-reused", Error, "never use a kid for a second key: caches hold the first one", kidReused, input.hasPast},
		{"key-twice", Warning, "publish each key once", keyTwice, nil},
	}
}

func emptySet(in input, report func(where, what string)) {
	if len(in.keys) == 0 {
		report("keys", "the set has no key")
	}
}

func duplicateMember(in input, report func(where, what string)) {
	// Other reasons of a strict parser (bad UTF-8) end up here as well: they
	// all mean that two readers may see two documents.
	if in.duplicate != nil {
		report("document", fmt.Sprintf("a strict JSON reader refuses it: %v", in.duplicate))
	}
}

func setTooLarge(in input, report func(where, what string)) {
	if in.tooLarge() {
		report("document", fmt.Sprintf("%d keys in %d bytes", len(in.keys), len(in.doc.Body)))
	}
}

func manyKeys(in input, report func(where, what string)) {
	if n := len(in.keys); n > in.opt.MaxKeys && !in.tooLarge() {
		report("keys", fmt.Sprintf("%d keys, more than %d", n, in.opt.MaxKeys))
	}
}

func kidMissing(k rawKey) string {
	if k.kid != "" {
		return ""
	}
	return "no kid"
}

func kidDuplicate(in input, report func(where, what string)) {
	seen := map[string][]string{}
	for i, k := range in.keys {
		if k.kid != "" {
			seen[k.kid] = append(seen[k.kid], fmt.Sprintf("keys[%d]", i))
		}
	}
	for kid, places := range seen {
		if len(places) > 1 {
			report(strings.Join(places, ", "), fmt.Sprintf("%d keys have the kid %.80q", len(places), kid))
		}
	}
}

func kidReused(in input, report func(where, what string)) {
	for i, k := range in.keys {
		old := slices.IndexFunc(in.earlier, func(o rawKey) bool { return o.kid == k.kid })
		if k.kid == "" || old < 0 || k.thumbprint == "" || in.earlier[old].thumbprint == "" {
			continue
		}
		if was := in.earlier[old].thumbprint; was != k.thumbprint {
			report(at(i, k), fmt.Sprintf("this kid named another key before: thumbprint %s, now %s", was, k.thumbprint))
		}
	}
}

func keyTwice(in input, report func(where, what string)) {
	first := map[string]int{}
	for i, k := range in.keys {
		j, seen := first[k.thumbprint]
		switch {
		case k.thumbprint == "":
		case seen && in.keys[j].kid != k.kid:
			report(at(i, k), fmt.Sprintf("the same key is also %s", at(j, in.keys[j])))
		default:
			first[k.thumbprint] = i
		}
	}
}
