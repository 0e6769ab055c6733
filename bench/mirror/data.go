package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/mirror/publish"
	"github.com/stella-ops/stella/internal/objstore"
	"github.com/stella-ops/stella/internal/release"
	"github.com/stella-ops/stella/internal/testenv/exports"
	"github.com/stella-ops/stella/internal/testenv/s3server"
)

const (
	bucket   = "bench"
	exportID = "20260301T010000Z"
	// uploads is how many objects are put at once.
	uploads = 32
)

func newBench(ctx context.Context, dir string) (*bench, error) {
	b := &bench{dir: dir, stella: filepath.Join(dir, "stella"), meter: filepath.Join(dir, "meter")}
	for out, pkg := range map[string]string{b.stella: "./cmd/stella", b.meter: "./bench/mirror/meter"} {
		if err := build(ctx, out, pkg); err != nil {
			return nil, err
		}
	}
	var err error
	if b.self, err = os.Executable(); err != nil {
		return nil, err
	}
	if b.key, err = exports.NewKey(jose.ES256, "bench"); err != nil {
		return nil, err
	}
	policy, err := exports.Policy(b.key)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(b.policy(), policy, 0o600); err != nil {
		return nil, err
	}
	at := b.path("gateway")
	if err := os.Mkdir(at, 0o700); err != nil {
		return nil, err
	}
	if b.server, err = s3server.StartProcess(ctx, s3server.Options{Dir: at}); err != nil {
		return nil, err
	}
	return b, b.server.CreateBucket(ctx, bucket)
}

func (b *bench) policy() string { return b.path("trust.yaml") }

func build(ctx context.Context, out, pkg string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("building %s: %w", pkg, err)
	}
	return nil
}

// feed is a published release and what a copy of it must hold.
type feed struct {
	name    string
	digests map[string]string // SHA-256 in hex by path, of the files that were published
	bytes   int64
}

// latest is where ours begins, objects where all its objects are.
func (f *feed) latest() string  { return "s3://" + bucket + "/" + f.name + "/latest" }
func (f *feed) objects() string { return bucket + "/" + f.name + "/" + exportID }

// publish makes an export, signs it as a release and puts it into the bucket.
// What a copy must hold is read from the files, not from the release.
func (b *bench) publish(ctx context.Context, name string, files ...exports.Files) (*feed, error) {
	from := b.path("export-" + name)
	defer os.RemoveAll(from)
	if err := exports.Many(ctx, from, exports.Options{Feed: exports.Concelier, ExportID: exportID, Key: b.key}, files...); err != nil {
		return nil, err
	}
	f := &feed{name: name}
	var err error
	if f.digests, f.bytes, err = inventory(ctx, from); err != nil {
		return nil, err
	}
	store, err := b.server.Client(ctx, "s3://"+bucket+"/"+name)
	if err != nil {
		return nil, err
	}
	defer store.Close()
	_, err = publish.Publish(ctx, from, publish.Bucket(store), publish.Options{
		Feed: exports.Concelier, Lifetime: 30 * 24 * time.Hour, Signers: []publish.Signer{{Signer: b.key.Signer}}, Parallel: uploads,
	})
	if err != nil {
		return nil, err
	}
	for _, name := range []string{release.FileStatement, release.FileSignature} {
		o, err := store.Open(ctx, exportID+"/"+name, objstore.Get{})
		if err != nil {
			return nil, err
		}
		sum := sha256.New()
		n, err := io.Copy(sum, o.Body)
		if err = closed(o.Body, err); err != nil {
			return nil, err
		}
		f.digests[name], f.bytes = hex.EncodeToString(sum.Sum(nil)), f.bytes+n
	}
	return f, flush(b.dir)
}
