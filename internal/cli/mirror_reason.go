package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/mirror"
	"github.com/stella-ops/stella/internal/release"
)

// reasonHints says for each reason of a refusal what to do next. In the lines
// {feed}, {source}, {folder}, {policy}, {member} and {kid} stand for what the
// refusal is about.
func reasonHints() map[release.Reason][]string {
	const publisher = "ask the publisher of {source}"
	return map[release.Reason][]string{
		release.Format: {
			publisher + ": {member} is not what docs/formats/release.md says",
			"a folder of files without manifests is mirrored with shape: tree"},
		release.HostileName: {
			"somebody put a name there that no release has: " + publisher + " how it came about"},
		release.TooLarge: {
			"if a release of that size is expected, raise limits in {policy}"},
		release.TooSlow: {
			"what was fetched is kept; try again: stella mirror sync --feed {feed}",
			"if the line is that slow, lower limits.minimum_rate in {policy}"},
		release.StatementMissing: {
			publisher + ": release.json is missing; somebody may have taken it away",
			"a publisher that never had one is taken with statement: optional in {policy}, with weaker protection"},
		release.SignatureMissing: {
			publisher + ": a signature is missing; somebody may have taken it away"},
		release.SignatureInvalid: {
			"is the key file of {kid} in {policy} the publisher's? if so, what is there is not what was signed: " + publisher},
		release.AlgRefused: {
			"if the publisher has changed its algorithm, add it to algorithms in {policy}"},
		release.KeyUnknown: {
			"if {kid} is in {policy} already, look at its provider, uses and feeds there",
			"if the publisher has a new key, get it over another way than {source}, then add {kid} to keys in {policy}"},
		release.KeyExpired: {
			"{kid} is outside not_before and not_after in {policy}: " + publisher + " for a release by its present key"},
		release.KeyRevoked: {
			"{kid} is revoked in {policy}: " + publisher + " for a release by another key"},
		release.Threshold: {
			"threshold in {policy} wants more keys to have signed: " + publisher + " for the missing signatures"},
		release.WrongFeed: {
			"is the source of feed {feed} the right one? stella config show --origin"},
		release.DigestMismatch: {
			publisher + ": {member} has other bytes than were signed",
			"see what this host has: stella mirror verify --feed {feed}"},
		release.SizeMismatch: {
			publisher + ": {member} has another size than was signed"},
		release.MixAndMatch: {
			publisher + ": parts of several releases lie there together",
			"if it is being uploaded now, the next sync takes it: stella mirror sync --feed {feed}"},
		release.MissingMember: {
			publisher + ": {member} is not there",
			"if it is being uploaded now, the next sync takes it: stella mirror sync --feed {feed}"},
		release.ExtraMember: {
			"{member} is no part of the release: find out who put it there"},
		release.Rollback: {
			"on a first sync: is minimum_sequence of feed {feed} in {policy} too high?",
			publisher + " why it offers an older release than before",
			"if it did so on purpose, go back by hand: stella mirror rollback --feed {feed} --to EXPORT --reason TEXT"},
		release.FastForward: {
			publisher + " whether that sequence is meant; a key that was stolen may have signed it",
			"if it is meant, raise max_step in {policy}"},
		release.Equivocation: {
			"two releases under one name, both signed: treat the key as stolen until the publisher explains it",
			"the statement that contradicts is kept for the publisher: ls -l {folder}/evidence"},
		release.Future: {
			"check this host's clock: timedatectl",
			"if it is right, " + publisher},
		release.Stale: {
			publisher + " whether it still publishes: nothing newer came",
			"somebody may hold newer releases back: compare with another way to the publisher"},
		release.Emptied: {
			publisher + ": the source has nothing any more",
			"is the source of feed {feed} the right one? stella config show --origin"},
		release.HostileSource: {
			"something between here and the publisher answers in its place: a proxy, or a page that wants a login? look: curl -I {source}",
			"in a folder: remove links and devices from {source}"},
	}
}

// explain adds to an error of one feed its name and, to a refusal, the reason
// in front and what to do next behind.
func (m *mirrors) explain(f mirror.Feed, err error) error {
	if err == nil {
		return nil
	}
	refused, ok := errors.AsType[*release.Refusal](err)
	if !ok {
		return fmt.Errorf("feed %s: %w", f.Name, err)
	}
	e := fault.Errorf(fault.Trust, "feed %s: refused: %s: %w", f.Name, refused.Reason, err)
	for _, hint := range m.hints(f, refused.Reason, refused.Member, refused.KeyID) {
		e = e.Hint("%s", hint)
	}
	return e
}

// hints fills in the hints of one reason.
func (m *mirrors) hints(f mirror.Feed, reason release.Reason, member, kid string) []string {
	if member == "" {
		member = "a part of it"
	}
	if kid = fmt.Sprintf("key %q", kid); kid == `key ""` {
		kid = "the key"
	}
	policy := m.config.Mirror.TrustPolicy
	if policy == "" {
		policy = "the trust policy"
	}
	fill := strings.NewReplacer("{feed}", f.Name, "{source}", f.Source.String(), "{folder}", m.engine.Folder(f.Name),
		"{policy}", policy, "{member}", member, "{kid}", kid)
	var out []string
	for _, line := range reasonHints()[reason] {
		out = append(out, fill.Replace(line))
	}
	return out
}

// verdictOf joins the errors of several feeds. A trust failure decides the
// exit code before all others, else the first error does.
func verdictOf(errs []error) error {
	var all []error
	kind := fault.None
	for _, err := range errs {
		if err == nil {
			continue
		}
		all = append(all, err)
		if k := fault.KindOf(err); kind == fault.None || k == fault.Trust {
			kind = k
		}
	}
	switch len(all) {
	case 0:
		return nil
	case 1:
		return all[0]
	}
	return fault.As(kind, errors.Join(all...))
}
