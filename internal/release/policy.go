package release

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/strictyaml"
)

// Policy says whom a mirror believes, and how much. The doc tags are its
// manual; docs/formats/release.md has a sample.
type Policy struct {
	SchemaVersion int           `yaml:"schema_version" doc:"1"`
	Threshold     int           `yaml:"threshold" doc:"how many different keys must have signed a statement"`
	Statement     StatementRule `yaml:"statement" doc:"required, or optional: a release without a statement is taken too, with weaker protection"`
	Algorithms    []string      `yaml:"algorithms" doc:"signature algorithms to accept, among ES256, ES384, ES512, PS256, RS256, EdDSA"`
	MaxAge        Duration      `yaml:"max_age" doc:"a release older than this is stale, whatever it says of itself; 0 leaves it to expiresAt"`
	ClockSkew     Duration      `yaml:"clock_skew" doc:"how far clocks may be apart"`
	MaxStep       int64         `yaml:"max_step" doc:"how far a sequence may leap from one release to the next"`
	Limits        Limits        `yaml:"limits"`
	Keys          []TrustedKey  `yaml:"keys"`
	Feeds         []FeedRule    `yaml:"feeds"`

	algs   []jose.Alg
	digest string
}

// Digest tells one policy from another, key material included: what was
// decided under one need not hold under another.
func (p *Policy) Digest() string { return p.digest }

// Duration is a time as configuration files write it: 90s, 15m, 26h.
type Duration = strictyaml.Duration

// StatementRule says whether a release must have a statement.
type StatementRule string

// The rules.
const (
	Required StatementRule = "required"
	Optional StatementRule = "optional"
)

// Allowed implements strictyaml.Enum.
func (StatementRule) Allowed() []string { return []string{string(Required), string(Optional)} }

// Limits bound what is read from a source.
type Limits struct {
	Statement   int64    `yaml:"statement" doc:"bytes of a statement, at most 64 MiB"`
	Members     int      `yaml:"members" doc:"number of members, at most 500000"`
	Member      int64    `yaml:"member" doc:"bytes of one member"`
	Release     int64    `yaml:"release" doc:"bytes of all members"`
	MinimumRate int64    `yaml:"minimum_rate" doc:"bytes a second below which a source is dropped; 0 for none"`
	RateWindow  Duration `yaml:"rate_window" doc:"over which the rate is taken"`
}

// TrustedKey is one public key and what it may sign.
type TrustedKey struct {
	ID        string     `yaml:"id" doc:"kid that signatures name"`
	Provider  string     `yaml:"provider" doc:"provider that signatures name; default when they name none"`
	File      string     `yaml:"file" doc:"file with the public key or certificate in PEM, or one JWK; relative to the policy"`
	PEM       string     `yaml:"pem" doc:"the same, written here"`
	Uses      []KeyUse   `yaml:"uses" doc:"what it may sign: statement, bundle; both by default"`
	Feeds     []string   `yaml:"feeds" doc:"feeds that it may sign for; all by default"`
	NotBefore *time.Time `yaml:"not_before" doc:"RFC 3339; not good before"`
	NotAfter  *time.Time `yaml:"not_after" doc:"RFC 3339; not good from here on"`
	RevokedAt *time.Time `yaml:"revoked_at" doc:"RFC 3339; since when it is not believed, whatever it signed"`

	key        jose.Key
	thumbprint string
}

// KeyUse is what a key may sign.
type KeyUse string

// The uses.
const (
	ForStatement KeyUse = "statement"
	ForBundle    KeyUse = "bundle"
)

// Allowed implements strictyaml.Enum.
func (KeyUse) Allowed() []string { return []string{string(ForStatement), string(ForBundle)} }

// FeedRule is what holds for one feed.
type FeedRule struct {
	Name            string `yaml:"name" doc:"feed"`
	MinimumSequence int64  `yaml:"minimum_sequence" doc:"a statement with a lower sequence is refused"`
}

// DefaultPolicy returns the policy of an empty file; it trusts nobody.
func DefaultPolicy() *Policy {
	return &Policy{
		SchemaVersion: 1, Threshold: 1, Statement: Required, Algorithms: []string{"ES256", "EdDSA"},
		ClockSkew: Duration(5 * time.Minute), MaxStep: 1_000_000,
		Limits: Limits{
			Statement: MaxStatement, Members: MaxMembers, Member: 8 << 30, Release: 64 << 30,
			MinimumRate: 1 << 10, RateWindow: Duration(30 * time.Second),
		},
	}
}

// LoadPolicy reads a policy file and the key files that it names. Errors are of
// kind Config and name the place.
func LoadPolicy(path string) (*Policy, error) {
	data, err := strictyaml.ReadFile(path)
	if err != nil {
		return nil, fault.Errorf(fault.Config, "trust policy: %w", err).
			Hint("docs/formats/release.md has a sample; set mirror.trust_policy to your file")
	}
	p, err := ParsePolicy(path, data)
	if err != nil {
		return nil, fmt.Errorf("trust policy: %w", err)
	}
	return p, nil
}

// ParsePolicy reads a policy. Key files are relative to the directory of name.
func ParsePolicy(name string, data []byte) (*Policy, error) {
	p := DefaultPolicy()
	if err := strictyaml.Decode(name, data, p); err != nil {
		return nil, err
	}
	if err := p.check(name); err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for i := range p.Keys {
		k := &p.Keys[i]
		at := fmt.Sprintf("%s: keys[%d]", name, i)
		if err := k.load(filepath.Dir(name)); err != nil {
			return nil, fault.Errorf(fault.Config, "%s (%.80q): %w", at, k.ID, err)
		}
		if id := k.Provider + "\x00" + k.ID; seen[id] {
			return nil, fault.Errorf(fault.Config, "%s: the id %.80q is there twice", at, k.ID)
		} else {
			seen[id] = true
		}
	}
	prints := make([]string, 0, len(p.Keys))
	for _, k := range p.Keys {
		prints = append(prints, k.thumbprint)
	}
	p.digest = Digest(append(slices.Clone(data), strings.Join(prints, " ")...))
	if n := p.signers(); p.Threshold > n && len(p.Keys) > 0 {
		return nil, fault.Errorf(fault.Config, "%s: threshold: found %d, but only %d different keys may sign statements, so no release can be believed", name, p.Threshold, n)
	}
	if len(p.Keys) == 0 {
		return nil, fault.Errorf(fault.Config, "%s: keys is empty, so no release can be believed", name)
	}
	return p, nil
}

func (p *Policy) check(name string) error {
	bad := func(key, format string, args ...any) error {
		return fault.Errorf(fault.Config, "%s: %s: %s", name, key, fmt.Sprintf(format, args...))
	}
	known := []jose.Alg{jose.ES256, jose.ES384, jose.ES512, jose.PS256, jose.RS256, jose.EdDSA}
	for _, a := range p.Algorithms {
		if !slices.Contains(known, jose.Alg(a)) {
			return bad("algorithms", "found %.40q; allowed: ES256, ES384, ES512, PS256, RS256, EdDSA", a)
		}
		p.algs = append(p.algs, jose.Alg(a))
	}
	l := p.Limits
	switch {
	case p.SchemaVersion != 1:
		return bad("schema_version", "found %d; this program reads 1", p.SchemaVersion)
	case p.Threshold < 1 || p.Threshold > MaxSigners:
		return bad("threshold", "found %d; allowed: 1 to %d", p.Threshold, MaxSigners)
	case len(p.algs) == 0:
		return bad("algorithms", "it is empty")
	case p.MaxAge < 0 || p.ClockSkew < 0:
		return bad("max_age, clock_skew", "they cannot be negative")
	case p.MaxStep < 1 || p.MaxStep > maxSequence/2:
		return bad("max_step", "it must be 1 to 2^52")
	case l.Statement < 1 || l.Statement > MaxStatement || l.Members < 1 || l.Members > MaxMembers:
		return bad("limits", "statement is 1 to %d bytes, members 1 to %d", MaxStatement, MaxMembers)
	case l.Member < 1 || l.Member > MaxMember || l.Release < 1 || l.Release > MaxMember:
		return bad("limits", "member and release are 1 to 2^40 bytes")
	case l.MinimumRate < 0 || l.MinimumRate > 0 && l.RateWindow.Std() < time.Second:
		return bad("limits", "minimum_rate cannot be negative, rate_window is 1s or more")
	}
	for i, f := range p.Feeds {
		if !FeedName(f.Name) || f.MinimumSequence < 0 || f.MinimumSequence > maxSequence {
			return bad(fmt.Sprintf("feeds[%d]", i), "name is lower-case letters, digits and hyphens; minimum_sequence 0 to 2^53")
		}
	}
	return nil
}

// signers counts the different keys that may sign statements.
func (p *Policy) signers() int {
	prints := map[string]bool{}
	for _, k := range p.Keys {
		if slices.Contains(k.Uses, ForStatement) {
			prints[k.thumbprint] = true
		}
	}
	return len(prints)
}

// FeedNames lists the feeds that the policy names, which a misspelt one leaves
// unprotected.
func (p *Policy) FeedNames() []string {
	var names []string
	for _, f := range p.Feeds {
		names = append(names, f.Name)
	}
	for _, k := range p.Keys {
		names = append(names, k.Feeds...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// load reads the key and fills in the defaults.
func (k *TrustedKey) load(dir string) error {
	k.Provider = cmp.Or(k.Provider, DefaultProvider)
	if len(k.Uses) == 0 {
		k.Uses = []KeyUse{ForStatement, ForBundle}
	}
	var data []byte
	switch {
	case k.ID == "":
		return fmt.Errorf("it has no id")
	case (k.File == "") == (k.PEM == ""):
		return fmt.Errorf("it needs exactly one of file and pem")
	case k.NotBefore != nil && k.NotAfter != nil && !k.NotAfter.After(*k.NotBefore):
		return fmt.Errorf("not_after is not after not_before")
	case k.PEM != "":
		data = []byte(k.PEM)
	default:
		path := k.File
		if !filepath.IsAbs(path) {
			path = filepath.Join(dir, path)
		}
		info, err := os.Stat(path)
		if err == nil && (!info.Mode().IsRegular() || info.Size() > jose.MaxSetBytes) {
			err = fmt.Errorf("%q is no regular file of at most %d bytes", path, jose.MaxSetBytes)
		}
		if err == nil {
			data, err = os.ReadFile(path)
		}
		if err != nil {
			return err
		}
	}
	pub, err := jose.ParsePublic(data)
	if err != nil {
		return err
	}
	if k.key, err = jose.NewKey(pub, k.ID, ""); err != nil {
		return err
	}
	k.thumbprint, err = k.key.Thumbprint()
	return err
}

// minimumSequence is the floor of a feed.
func (p *Policy) minimumSequence(feed string) int64 {
	for _, f := range p.Feeds {
		if f.Name == feed {
			return f.MinimumSequence
		}
	}
	return 0
}
