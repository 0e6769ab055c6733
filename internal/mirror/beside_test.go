package mirror_test

import (
	"context"
	"testing"

	"github.com/stella-ops/stella/internal/mirror"
	"github.com/stella-ops/stella/internal/objstore"
	"github.com/stella-ops/stella/internal/objstore/mem"
	"github.com/stella-ops/stella/internal/release"
)

// TestBeside: members are taken from the export's own folder, where nothing
// changes, though latest/ is rewritten; and that folder must hold the release
// and nothing else (X12).
func TestBeside(t *testing.T) {
	w := newWorld(t)
	own := mem.New("exports")
	w.m.Open = func(_ context.Context, p objstore.Place) (objstore.Reader, error) {
		if p == w.feed.Source {
			return w.source, nil
		}
		if p.String() != "s3://mirror-stellaops/concelier/20260301T010000Z" {
			return nothing{}, nil
		}
		return own, nil
	}
	one := w.publish(1)
	latest := w.source
	w.source = own
	w.put(one)
	w.putOne("mirror/primary/evil.json", []byte("{}"))
	w.source = latest
	for path := range one { // latest/ holds the pointer alone
		if path != release.FileStatement && path != release.FileSignature {
			if err := latest.Delete(t.Context(), path); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := w.sync(); release.ReasonOf(err) != release.ExtraMember {
		t.Errorf("an extra member: %v", err)
	}
	r, err := w.m.VerifyRemote(t.Context(), w.feed)
	if err != nil || len(r.Findings) != 1 || r.Findings[0].Reason != release.ExtraMember || r.Findings[0].Member != "mirror/primary/evil.json" {
		t.Errorf("%v %+v", err, r)
	}
	if err := own.Delete(t.Context(), "mirror/primary/evil.json"); err != nil {
		t.Fatal(err)
	}
	if res := w.good(one); res.Outcome != mirror.Updated {
		t.Errorf("control: %+v", res)
	}
	if r, err := w.m.VerifyRemote(t.Context(), w.feed); err != nil || r.Err() != nil {
		t.Errorf("control: %v %+v", err, r)
	}
}
