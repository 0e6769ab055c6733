package mirror

import (
	"context"
	"errors"
	"strings"

	"github.com/stella-ops/stella/internal/release"
)

// stage takes what is here of a release of which not all is here: members that
// are whole into staging, verified, and pieces of the others aside. Everything
// is durable when it returns nil.
func (c *carried) stage(ctx context.Context, r *run, s *supply, bytes int64) error {
	if err := r.room(bytes); err != nil {
		return err
	}
	d, err := r.download(ctx, c.st, bytes)
	if err != nil {
		return err
	}
	var first, plain, rest []release.Member
	for _, m := range s.whole {
		domain, bundle := release.BundleOf(m.Path)
		switch {
		case strings.HasSuffix(m.Path, release.SuffixJWS):
			first = append(first, m)
		case bundle && !c.signed(r, domain, s.whole):
			plain = append(plain, m)
		default:
			rest = append(rest, m)
		}
	}
	for _, list := range [][]release.Member{first, rest} {
		err := d.wave(ctx, list)
		if m, ok := c.suspect(err); ok { // read it once more: it may have been this disk
			if err = d.wave(ctx, []release.Member{m}); err == nil {
				err = errMoved
			}
		}
		if err != nil {
			return err
		}
	}
	for _, m := range plain {
		if err := d.unsigned(ctx, m); err != nil {
			return err
		}
	}
	for _, m := range s.lacking {
		from, to, _ := c.set.Range(m.Path)
		if err := c.set.Keep(ctx, from, to, d.meter.add); err != nil {
			return err
		}
	}
	return r.s.Sync() // its media will be gone
}

func (c *carried) suspect(err error) (release.Member, bool) {
	refused, ok := errors.AsType[*release.Refusal](err)
	if !ok || !otherBytes(refused.Reason) {
		return release.Member{}, false
	}
	return c.st.Find(refused.Member)
}

// signed reports whether the signature of a bundle is at hand.
func (c *carried) signed(r *run, domain string, whole []release.Member) bool {
	sig, ok := c.st.Find(release.BundlePath(domain) + release.SuffixJWS)
	if !ok || r.s.HasObject(sig.SHA256, sig.Size) {
		return ok
	}
	for _, m := range whole {
		if m.SHA256 == sig.SHA256 {
			return true
		}
	}
	return false
}

// unsigned takes a bundle whose signature is to come: its digest is what the
// statement says, and its signature is verified before anything is shown.
func (d *download) unsigned(ctx context.Context, m release.Member) error {
	part, err := d.r.s.Part(m.SHA256)
	if err != nil {
		return err
	}
	defer part.Close()
	if err := d.src.Member(ctx, m.Path, m, part, nil, 1); err != nil {
		if release.ReasonOf(err) != "" {
			err = errors.Join(err, part.Drop())
		}
		return err
	}
	d.meter.member()
	return part.Done()
}
