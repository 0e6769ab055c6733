package publish_test

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/mirror"
	"github.com/stella-ops/stella/internal/mirror/publish"
	"github.com/stella-ops/stella/internal/objstore"
	objfs "github.com/stella-ops/stella/internal/objstore/fs"
	"github.com/stella-ops/stella/internal/release"
	"github.com/stella-ops/stella/internal/testenv/exports"
	"github.com/stella-ops/stella/internal/testenv/s3server"
)

// TestMirrorOfIt publishes both feeds to a directory and to a bucket of a real
// server, and mirrors them from there: the two halves agree on the format.
func TestMirrorOfIt(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	key, err := exports.NewKey(jose.ES256, "k1")
	if err != nil {
		t.Fatal(err)
	}
	text, err := exports.Policy(key)
	if err != nil {
		t.Fatal(err)
	}
	policy, err := release.ParsePolicy("policy.yaml", text)
	if err != nil {
		t.Fatal(err)
	}
	server, err := s3server.Start(ctx, s3server.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Stop() })
	if err := server.CreateBucket(ctx, "mirror-stellaops"); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, feed := range []string{exports.Concelier, exports.Excititor} {
		bucket, err := server.Client(ctx, "s3://mirror-stellaops/"+feed)
		if err != nil {
			t.Fatal(err)
		}
		if feed == exports.Excititor {
			dir = t.TempDir()
		}
		d, err := publish.Directory(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		for place, to := range map[string]publish.Destination{
			"s3://mirror-stellaops/" + feed + "/latest": publish.Bucket(bucket), "file://" + dir + "/latest": d,
		} {
			source, err := objstore.Parse(place)
			if err != nil {
				t.Fatal(err)
			}
			m := &mirror.Mirror{
				Dir: t.TempDir(), Policy: policy, Operator: "tester@host", Parallel: 4,
				Open: func(ctx context.Context, p objstore.Place) (objstore.Reader, error) {
					if p.Scheme == objstore.File {
						return objfs.Open(p.Path)
					}
					return server.Client(ctx, p.String())
				},
			}
			for n := range 3 {
				from := filepath.Join(t.TempDir(), "export")
				o := exports.Options{Feed: feed, Advisories: 10, Seed: uint64(n), Extra: []exports.Files{{Count: 3, Bytes: 5000}, {Count: 1, Bytes: 0}}, Created: time.Now()}
				if err := exports.Write(ctx, from, o); err != nil {
					t.Fatal(err)
				}
				id := fmt.Sprintf("e%d", n)
				_, err := publish.Publish(ctx, from, to, publish.Options{
					Feed: feed, ExportID: id, Signers: []publish.Signer{{Signer: key.Signer}}, SignBundles: true, Policy: policy, CopyMembers: n == 1,
				})
				if err != nil {
					t.Fatalf("publishing %s to %s: %v", id, to.Place(), err)
				}
				r, err := m.Sync(ctx, mirror.Feed{Name: feed, Source: source}, false)
				if err != nil || r.ExportID != id || r.Outcome != mirror.Updated {
					t.Fatalf("mirroring %s of %s: %+v, %v", id, place, r, err)
				}
			}
			report, err := m.VerifyDisk(ctx, feed, "")
			if err != nil || len(report.Findings) > 0 || len(report.Releases) != 3 {
				t.Errorf("%s: %+v, %v", place, report, err)
			}
		}
	}
}
