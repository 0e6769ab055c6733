package publish

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/stella-ops/stella/internal/mirror/store"
	"github.com/stella-ops/stella/internal/objstore"
	"github.com/stella-ops/stella/internal/release"
)

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// signBundles makes the signatures that are missing.
func (j *job) signBundles(ctx context.Context) error {
	for _, d := range j.index.Domains {
		path := release.BundlePath(d.ID)
		if j.byPath[path+release.SuffixJWS] != nil {
			continue
		}
		bundle := j.byPath[path]
		jws, err := j.signedBefore(ctx, bundle)
		if err == nil && jws == nil {
			jws, err = j.signBundle(ctx, bundle)
			j.result.Bundles++
		}
		if err != nil {
			return err
		}
		sig := &file{Member: release.Member{Path: path + release.SuffixJWS}, made: true, from: j.from}
		sig.set(jws)
		j.files, j.byPath[sig.Path] = append(j.files, sig), sig
	}
	return nil
}

func (j *job) signBundle(ctx context.Context, bundle *file) ([]byte, error) {
	first := j.o.Signers[0]
	r := bundle.open(ctx)
	defer r.Close()
	jws, err := release.SignBundle(ctx, r, provider(first), first.Signer)
	if err == nil {
		err = r.whole()
	}
	if err != nil {
		return nil, fmt.Errorf("signing %s: %w", bundle.Path, err)
	}
	return jws, nil
}

// signedBefore returns the signature that the first signer has given to the
// very bundle in a release that is there: mirrors need not fetch and verify
// anew, and a run that was cut off is taken up. It is nil if there is none.
func (j *job) signedBefore(ctx context.Context, bundle *file) ([]byte, error) {
	for _, b := range []*believed{j.there, j.shown} {
		if b == nil || b.st == nil {
			continue
		}
		m, ok := b.st.Find(bundle.Path)
		sig, signed := b.st.Find(bundle.Path + release.SuffixJWS)
		if !ok || !signed || m != bundle.Member {
			continue
		}
		jws, err := j.to.member(ctx, b.st.ExportID, sig.Path, release.MaxSignature)
		if err != nil || release.Digest(jws) != "sha256:"+sig.SHA256 {
			if ctx.Err() != nil {
				return nil, err
			}
			continue // a new one is as good
		}
		good, err := j.isOurs(ctx, bundle, jws)
		if good || err != nil {
			return jws, err
		}
	}
	return nil, nil
}

// isOurs verifies that the first signer made a bundle's signature.
func (j *job) isOurs(ctx context.Context, bundle *file, jws []byte) (bool, error) {
	b, err := j.trust.own.OpenBundle(bundle.Path, jws, j.o.Feed, j.now)
	if err != nil {
		return false, nil
	}
	defer b.Close()
	if b.Signature.Thumbprint != j.trust.prints[0] {
		return false, nil
	}
	r := bundle.open(ctx)
	defer r.Close()
	if _, err := b.ReadFrom(r); err != nil {
		return false, err
	}
	return b.Verify() == nil, r.whole()
}

// sign signs the statement, but not with keys that have signed it before, and
// verifies it as readers will.
func (j *job) sign(ctx context.Context) error {
	p := j.parcel
	var has []release.Signature
	if j.there != nil {
		p.jws, has = j.trust.keep(&j.there.pair, j.now), j.there.signatures
	}
	for i, s := range j.o.Signers {
		if slices.ContainsFunc(has, func(sig release.Signature) bool { return sig.Thumbprint == j.trust.prints[i] }) {
			continue
		}
		line, err := release.Sign(ctx, p.data, provider(s), s.Signer)
		if err != nil {
			return fmt.Errorf("signing the statement: %w", err)
		}
		p.jws = release.Join(p.jws, line)
	}
	_, signatures, err := j.trust.own.Verify(p.data, p.jws, j.o.Feed, j.now)
	if err == nil && len(signatures) < len(j.o.Signers) {
		err = release.Refuse(release.Threshold, "%d of %d signatures verify", len(signatures), len(j.o.Signers))
	}
	if err != nil {
		return fmt.Errorf("verifying what was signed: %w", err)
	}
	if err := j.acceptable(p); err != nil {
		return fmt.Errorf("the mirrors would refuse this release by their trust policy: %w", err)
	}
	if j.shown != nil {
		if p.both, err = j.trust.join(&j.shown.pair, p.jws, j.now); err != nil {
			return err
		}
	}
	j.result.Signatures = signatures
	j.result.Facts = store.FromStatement(p.st, p.data, p.jws).Facts
	p.notify(Signed, 0, 0)
	return nil
}

// acceptable asks the policy of the mirrors.
func (j *job) acceptable(p *parcel) error {
	policy := j.o.Policy
	if policy == nil {
		return nil
	}
	st, _, err := policy.Verify(p.data, p.jws, j.o.Feed, j.now)
	if err != nil {
		return err
	}
	if err := policy.CheckTime(st.GeneratedAt, st.ExpiresAt, j.now); err != nil {
		return err
	}
	var pin release.Pin
	if j.shown != nil && j.shown.st != nil {
		was := j.shown.st
		pin = release.Pin{ExportID: was.ExportID, Sequence: was.Sequence, GeneratedAt: was.GeneratedAt, Digest: release.Digest(j.shown.data)}
		for _, s := range j.shown.signatures {
			pin.Signers = append(pin.Signers, s.Thumbprint)
		}
	}
	_, err = policy.CheckPin(st, release.Digest(p.data), pin)
	return err
}

// send puts one member under a key.
func send(ctx context.Context, to objstore.Writer, key string, f *file) error {
	r := f.open(ctx)
	defer r.Close()
	if _, err := to.Put(ctx, key, r, f.Size); err != nil {
		return err
	}
	return r.whole()
}
