package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/objstore"
	"github.com/stella-ops/stella/internal/objstore/s3"
	"github.com/stella-ops/stella/internal/testenv"
	"github.com/stella-ops/stella/internal/testenv/exports"
	"github.com/stella-ops/stella/internal/testenv/s3server"
)

// bucketName is where the platform publishes its feeds.
const bucketName = "mirror-stellaops"

// bundleMember is the one that attackers of the lab change.
const bundleMember = "mirror/primary/bundle.json"

// settle is mirror.settle of the lab: short, for nobody but the lab writes to
// its bucket.
const settle = 300 * time.Millisecond

// feeds is an S3 server with two feeds in a bucket, what publishes them, and
// what a mirror needs to believe them.
type feeds struct {
	dir       string
	server    *s3server.Server
	store     *s3.Store // the bucket, past the meter
	meter     *meter
	url       string       // of the meter: what mirrors know as the S3 server
	exporter  *exports.Key // signs bundles, as upstream does
	publisher string       // file with the private key that signs statements; it is its kid, too
	trust     string       // trust policy that believes both
	releases  map[string]int
	began     time.Time
}

func feedNames() []string { return []string{exports.Concelier, exports.Excititor} }

// newFeeds starts the server and makes bucket and keys; ctx or close ends it.
// front, if not nil, goes before what mirrors see of it.
func newFeeds(ctx context.Context, dir string, ca *testenv.CA, front func(http.Handler) http.Handler) (f *feeds, err error) {
	f = &feeds{dir: filepath.Join(dir, "feeds"), releases: map[string]int{}, began: time.Now().UTC().Truncate(time.Hour)}
	o := s3server.Options{Dir: filepath.Join(f.dir, "s3"), CAFile: ca.CertFile}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, err
	}
	if o.CertFile, o.KeyFile, err = ca.Issue("s3"); err != nil {
		return nil, err
	}
	if f.server, err = s3server.StartProcess(ctx, o); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.close())
		}
	}()
	if err := f.server.CreateBucket(ctx, bucketName); err != nil {
		return nil, err
	}
	if f.store, err = f.server.Client(ctx, "s3://"+bucketName); err != nil {
		return nil, err
	}
	if f.meter, err = newMeter(ca, f.server.Endpoint); err != nil {
		return nil, err
	}
	var handler http.Handler = f.meter
	if front != nil {
		handler = front(handler)
	}
	if f.url, err = testenv.Serve(ctx, ca, "bucket", handler); err != nil {
		return nil, err
	}
	return f, f.keys()
}

// keys makes the keys of this run, the policy that believes them, and the
// files with what opens the bucket.
func (f *feeds) keys() error {
	var err error
	if f.exporter, err = exports.NewKey(jose.ES256, "exporter"); err != nil {
		return err
	}
	publisher, err := exports.NewKey(jose.EdDSA, "publisher")
	if err != nil {
		return err
	}
	if f.publisher, _, err = publisher.WriteFiles(f.dir); err != nil {
		return err
	}
	policy, err := exports.Policy(f.exporter, publisher)
	if err != nil {
		return err
	}
	f.trust = filepath.Join(f.dir, "trust.yaml")
	for name, text := range map[string]string{f.trust: string(policy), f.secret("access-key-id"): f.server.AccessKey, f.secret("secret-access-key"): f.server.SecretKey} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (f *feeds) secret(name string) string { return filepath.Join(f.dir, name) }

// close ends the server.
func (f *feeds) close() error {
	if f.store != nil {
		f.store.Close()
	}
	if f.meter != nil {
		f.meter.hangUp()
	}
	return f.server.Stop()
}

// place is where a feed is published.
func (f *feeds) place(feed string) string { return "s3://" + bucketName + "/" + feed }

// mirror is the configuration of a mirror in a folder that it makes.
func (f *feeds) mirror(root string) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "mirror:\n  root: %s\n  trust_policy: %s\n  settle: %s\n  feeds:\n", root, f.trust, settle)
	for _, feed := range feedNames() {
		fmt.Fprintf(&b, "    - {name: %s, source: \"%s/latest\"}\n", feed, f.place(feed))
	}
	return b.String(), os.Mkdir(root, 0o755)
}

// reach is the rest of that configuration for a mirror which is on the network.
func (f *feeds) reach() string {
	return fmt.Sprintf("  s3:\n    endpoint: %s\n    region: %s\n    path_style: true\n    ca_file: %s\n    access_key_id: file:%s\n    secret_access_key: file:%s\n",
		f.url, f.server.Region, f.server.CAFile, f.secret("access-key-id"), f.secret("secret-access-key"))
}

// export writes the next export of a feed: two domains, new bundles, and files
// that stay as they were.
func (f *feeds) export(ctx context.Context, feed string) (dir, id string, err error) {
	f.releases[feed]++
	at := f.began.Add(time.Duration(f.releases[feed]-24) * time.Hour) // before now, whatever is published later
	o := exports.Options{Feed: feed, Created: at, ExportID: at.Format(exportIDs), Key: f.exporter, BundleBytes: 512 << 10, Extra: []exports.Files{{Count: 20, Bytes: 16 << 10}}}
	if feed == exports.Concelier {
		o.BundleBytes, o.Extra[0].Bytes = 1536<<10, 64<<10
	}
	dir = filepath.Join(f.dir, "exports", feed, o.ExportID)
	return dir, o.ExportID, exports.Write(ctx, dir, o)
}

// exportIDs is the form of an export's id.
const exportIDs = "20060102T150405Z"

// publishing is what one types to publish an export.
func (f *feeds) publishing(feed, dir string) []string {
	return []string{"mirror", "publish", dir, "--to", f.place(feed), "--feed", feed, "--key", "file:" + f.publisher, "--key-id", "publisher"}
}

// read reads an object as an attacker who has the bucket does.
func (f *feeds) read(ctx context.Context, key string) ([]byte, error) {
	o, err := f.store.Open(ctx, key, objstore.Get{})
	if err != nil {
		return nil, err
	}
	defer o.Body.Close()
	return io.ReadAll(o.Body)
}

// write writes an object, likewise.
func (f *feeds) write(ctx context.Context, key string, data []byte) error {
	_, err := f.store.Put(ctx, key, bytes.NewReader(data), int64(len(data)))
	return err
}
