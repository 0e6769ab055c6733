package publish

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strings"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/release"
)

// trust knows whose statements are believed.
type trust struct {
	feed   string
	own    *release.Policy // the keys of the signers, one of which is enough
	given  *release.Policy // that of the mirrors; may be nil
	prints []string        // thumbprints of the signers
}

// pair is a statement with its signature file, unjudged.
type pair struct{ data, jws []byte }

// believed is a pair that was judged; st is nil when it is not believed.
type believed struct {
	pair
	st         *release.Statement
	signatures []release.Signature
	why        error // when st is nil
}

func newTrust(o Options) (*trust, error) {
	if n := len(o.Signers); n < 1 || n > maxSigners {
		return nil, fault.Errorf(fault.Input, "%d keys are to sign the release; 1 to %d may", n, maxSigners)
	}
	t := &trust{feed: o.Feed, given: o.Policy}
	var text strings.Builder
	fmt.Fprintf(&text, "schema_version: 1\nlimits: {member: %d, release: %d}\nkeys:\n", int64(release.MaxMember), int64(release.MaxMember))
	algs := map[string]bool{}
	for i, s := range o.Signers {
		key := s.Key()
		print, err := key.Thumbprint()
		if err != nil {
			return nil, fmt.Errorf("looking at key %d of those that sign: %w", i+1, err)
		}
		for _, other := range t.prints {
			if other == print {
				return nil, fault.Errorf(fault.Input, "the key %q is to sign twice; two signatures of one key count once", key.KeyID)
			}
		}
		t.prints = append(t.prints, print)
		der, err := x509.MarshalPKIXPublicKey(key.Public)
		if err != nil {
			return nil, fmt.Errorf("looking at key %q: %w", key.KeyID, err)
		}
		entry, err := json.Marshal(map[string]string{
			"id": key.KeyID, "provider": provider(s), "pem": string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})),
		})
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&text, "  - %s\n", entry)
		algs[string(key.Alg)] = true
	}
	list := make([]string, 0, len(algs))
	for alg := range algs {
		list = append(list, alg)
	}
	fmt.Fprintf(&text, "algorithms: [%s]\n", strings.Join(list, ", "))
	own, err := release.ParsePolicy("the keys that sign", []byte(text.String()))
	if err != nil {
		return nil, err
	}
	t.own = own
	return t, nil
}

func provider(s Signer) string {
	if s.Provider == "" {
		return release.DefaultProvider
	}
	return s.Provider
}

// judge verifies a pair with the keys of the signers, then with the policy.
func (t *trust) judge(p *pair, at time.Time) *believed {
	b := &believed{pair: *p}
	b.st, b.signatures, b.why = t.own.Verify(p.data, p.jws, t.feed, at)
	if b.why != nil && t.given != nil {
		b.st, b.signatures, b.why = t.given.Verify(p.data, p.jws, t.feed, at)
	}
	return b
}

// keep returns the lines of a signature file that may belong to its statement:
// those that are known to be for another one, which a run that was cut off has
// left, are dropped, so that they do not pile up.
func (t *trust) keep(p *pair, at time.Time) []byte {
	var kept [][]byte
	for _, line := range strings.Fields(string(p.jws)) {
		_, _, err := t.own.Verify(p.data, []byte(line), t.feed, at)
		if release.ReasonOf(err) == release.KeyUnknown && t.given != nil {
			_, _, err = t.given.Verify(p.data, []byte(line), t.feed, at)
		}
		if release.ReasonOf(err) != release.SignatureInvalid {
			kept = append(kept, []byte(line))
		}
	}
	if len(kept) == 0 {
		return nil
	}
	return release.Join(kept...)
}

// join is the signature file that verifies with the statement before and with
// the new one.
func (t *trust) join(was *pair, jws []byte, at time.Time) ([]byte, error) {
	if was == nil {
		return jws, nil
	}
	both := release.Join(t.keep(was, at), jws)
	if n := len(bytes.Fields(both)); n > release.MaxSigners || len(both) > release.MaxSignature {
		return nil, fault.Errorf(fault.Input, "the release shown and the new one have %d signatures together, in %d bytes; readers take %d in %d", n, len(both), release.MaxSigners, release.MaxSignature).
			Hint("sign with fewer keys")
	}
	return both, nil
}
