package release

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/jose/detached"
)

// DefaultProvider is who signs when a signature names no provider.
const DefaultProvider = "default"

// BundleType is the typ that Sign gives to the signature of a bundle.
const BundleType = "application/vnd.stellaops.mirror-bundle+jws"

// Signature is one good signature.
type Signature struct {
	KeyID      string   `json:"kid"`
	Provider   string   `json:"provider"`
	Alg        jose.Alg `json:"alg"`
	Thumbprint string   `json:"thumbprint"` // RFC 7638; what a key is, whatever it is called
}

// Verify checks that a statement of feed is signed as the policy wants at a
// time, then reads it. Jws has one detached compact JWS a line; a line that is
// good for something else does no harm as long as enough others are good for
// data, so that a publisher can put the next signature down before the next
// statement. Two signatures of one key count once. What it says about time and
// order is not judged: see CheckTime and CheckPin.
func (p *Policy) Verify(data, jws []byte, feed string, at time.Time) (*Statement, []Signature, error) {
	if int64(len(data)) > p.Limits.Statement || len(jws) > MaxSignature {
		return nil, nil, refuse(TooLarge, "the statement has %d bytes and its signatures %d; %d and %d are allowed", len(data), len(jws), p.Limits.Statement, MaxSignature)
	}
	good, err := p.signatures(data, jws, feed, at)
	if err != nil {
		return nil, nil, err
	}
	s, err := ParseStatement(data)
	if err != nil {
		return nil, nil, err
	}
	if s.Feed != feed {
		return nil, nil, Refuse(WrongFeed, "the release is of the feed %q, not %q", s.Feed, feed).Found(feed, s.Feed)
	}
	return s, good, p.checkLimits(s)
}

// signatures returns the good ones, of different keys.
func (p *Policy) signatures(data, jws []byte, feed string, at time.Time) ([]Signature, error) {
	lines := strings.Fields(string(jws))
	switch {
	case len(lines) == 0:
		return nil, Refuse(SignatureMissing, "the statement has no signature").About(FileSignature)
	case len(lines) > MaxSigners:
		return nil, Refuse(TooLarge, "the statement has %d signatures, at most %d are read", len(lines), MaxSigners).About(FileSignature)
	}
	var good []Signature
	var first error
	for _, line := range lines {
		sig, err := p.signature(line, data, feed, at)
		if err != nil {
			first = worse(first, err)
			continue
		}
		if !slices.ContainsFunc(good, func(g Signature) bool { return g.Thumbprint == sig.Thumbprint }) {
			good = append(good, sig)
		}
	}
	switch {
	case len(good) >= p.Threshold:
		return good, nil
	case len(good) == 0:
		return nil, first
	}
	return nil, Refuse(Threshold, "%d of the needed %d keys have signed the statement", len(good), p.Threshold).
		Found(fmt.Sprint(p.Threshold), fmt.Sprint(len(good))).About(FileSignature)
}

// worse keeps the error that tells more: what is said about a key before what
// is said about bytes.
func worse(a, b error) error {
	rank := func(err error) int {
		switch ReasonOf(err) {
		case KeyRevoked, KeyExpired:
			return 3
		case AlgRefused:
			return 2
		case SignatureInvalid:
			return 1
		}
		return 0
	}
	if a == nil || rank(b) > rank(a) {
		return b
	}
	return a
}

func (p *Policy) signature(line string, data []byte, feed string, at time.Time) (Signature, error) {
	v, sig, err := p.open(line, ForStatement, feed, at, []string{Type})
	if err != nil {
		return Signature{}, about(err, FileSignature)
	}
	defer v.Close()
	if v.Header().B64 {
		return Signature{}, Refuse(SignatureInvalid, "the signature is not of the statement as it is: b64 must be false (RFC 7797)").About(FileSignature)
	}
	if _, err := v.Write(data); err != nil {
		return Signature{}, judge(err).About(FileSignature)
	}
	if err := v.Verify(); err != nil {
		return Signature{}, judge(err).About(FileSignature)
	}
	return sig, nil
}

// Bundle checks the payload that is written to it against the signature of a
// bundle. It needs Close.
type Bundle struct {
	*detached.Verifier
	Signature Signature
	path      string
}

// Verify ends the check after the last byte. Its error is a Refusal.
func (b *Bundle) Verify() error {
	if err := b.Verifier.Verify(); err != nil {
		return judge(err).About(b.path)
	}
	return nil
}

// OpenBundle reads the detached signature of a bundle: RFC 7797 (b64 false) or
// RFC 7515 appendix F. A signature that says it is of another kind of document
// is refused, so that none can be passed off as a bundle's.
func (p *Policy) OpenBundle(path string, jws []byte, feed string, at time.Time) (*Bundle, error) {
	line := string(bytes.TrimSpace(jws))
	if line == "" {
		return nil, Refuse(SignatureMissing, "%s has no signature", path).About(path)
	}
	if len(jws) > MaxSignature {
		return nil, Refuse(TooLarge, "the signature of %s has %d bytes, at most %d are allowed", path, len(jws), MaxSignature).About(path)
	}
	v, sig, err := p.open(line, ForBundle, feed, at, nil)
	if err != nil {
		return nil, about(err, path)
	}
	typ := strings.TrimPrefix(strings.ToLower(v.Header().Type), "application/")
	if strings.HasPrefix(typ, "vnd.stella") && typ != strings.TrimPrefix(BundleType, "application/") {
		v.Close()
		return nil, Refuse(SignatureInvalid, "%s has the signature of another kind of document: typ %.80q", path, v.Header().Type).About(path)
	}
	return &Bundle{v, sig, path}, nil
}

// open finds the key of a JWS and holds it to the policy.
func (p *Policy) open(line string, use KeyUse, feed string, at time.Time, types []string) (*detached.Verifier, Signature, error) {
	var sig Signature
	find := func(h jose.Header) (jose.Key, error) {
		provider := DefaultProvider
		if raw, ok := h.Raw["provider"]; ok {
			if err := json.Unmarshal(raw, &provider); err != nil || provider == "" {
				return jose.Key{}, Refuse(Format, "the provider that the signature names is no text")
			}
		}
		k, err := p.find(h.KeyID, provider, use, feed, at)
		if err != nil {
			return jose.Key{}, err
		}
		sig = Signature{k.ID, provider, h.Alg, k.thumbprint}
		return k.key, nil
	}
	v, err := detached.Open(line, find, jose.Rules{Algs: p.algs, Types: types, Critical: []string{"b64"}, MaxBytes: MaxSignature})
	if err != nil {
		return nil, Signature{}, judge(err)
	}
	return v, sig, nil
}

// find returns the key that may sign now.
func (p *Policy) find(kid, provider string, use KeyUse, feed string, at time.Time) (*TrustedKey, error) {
	about := func(why Reason, format string, args ...any) error {
		r := Refuse(why, "key %.80q of provider %.40q %s", kid, provider, fmt.Sprintf(format, args...))
		r.KeyID = kid
		return r
	}
	i := slices.IndexFunc(p.Keys, func(k TrustedKey) bool { return k.ID == kid && k.Provider == provider })
	if i < 0 {
		return nil, about(KeyUnknown, "is not in the trust policy")
	}
	k := &p.Keys[i]
	skew := p.ClockSkew.Std()
	switch {
	case !slices.Contains(k.Uses, use):
		return nil, about(KeyUnknown, "is trusted, but not for a %s", use)
	case len(k.Feeds) > 0 && !slices.Contains(k.Feeds, feed):
		return nil, about(KeyUnknown, "is trusted, but not for the feed %q", feed)
	case k.RevokedAt != nil:
		return nil, about(KeyRevoked, "is revoked since %s", k.RevokedAt.UTC().Format(time.RFC3339))
	case p.revoked(k.thumbprint):
		return nil, about(KeyRevoked, "is revoked under another id")
	case k.NotBefore != nil && at.Add(skew).Before(*k.NotBefore):
		return nil, about(KeyExpired, "is not valid before %s", k.NotBefore.UTC().Format(time.RFC3339))
	case k.NotAfter != nil && !at.Add(-skew).Before(*k.NotAfter):
		return nil, about(KeyExpired, "is not valid since %s", k.NotAfter.UTC().Format(time.RFC3339))
	}
	return k, nil
}

// judge turns an error about a signature into a refusal.
func judge(err error) *Refusal {
	if r, ok := errors.AsType[*Refusal](err); ok {
		return r
	}
	why := SignatureInvalid
	switch {
	case errors.Is(err, jose.ErrAlg):
		why = AlgRefused
	case errors.Is(err, jose.ErrTooLarge):
		why = TooLarge
	}
	return Refuse(why, "the signature is not acceptable: %.300s", err)
}

func about(err error, path string) error {
	r := judge(err)
	r.Member = cmp.Or(r.Member, path)
	return r
}

func (p *Policy) checkLimits(s *Statement) error {
	l := p.Limits
	if len(s.Members) > l.Members {
		return Refuse(TooLarge, "the release has %d members, the policy allows %d", len(s.Members), l.Members)
	}
	for _, m := range s.Members {
		if m.Size > l.Member {
			return Refuse(TooLarge, "%s has %d bytes, the policy allows %d", m.Path, m.Size, l.Member).About(m.Path)
		}
	}
	if n := s.Bytes(); n > l.Release {
		return Refuse(TooLarge, "the release has %d bytes, the policy allows %d", n, l.Release)
	}
	return nil
}
