package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/objstore"
	"github.com/stella-ops/stella/internal/release"
	"github.com/stella-ops/stella/internal/testenv/exports"
	"github.com/stella-ops/stella/internal/testenv/s3server"
)

// addMirrorCommands adds what scripts about mirrors need:
//
//	signkey ID…                    make Ed25519 keys: ID.key.pem and ID.pub.pem
//	trust FILE ID… [-- LINE…]      write a trust policy that believes these keys, with more lines in it
//	export [-signed ID] DIR FEED SEED [COUNTxBYTES]
//	                               write an export of two domains, its bundles signed by a key
//	bucket VAR                     make a bucket on a real S3 server; VAR is its name, S3_ENDPOINT the
//	                               server; AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are set
//	objects put|get|rm PLACE KEY [FILE]   write, read or remove one object
//	swap FILE OLD NEW              replace text of a file by text that is as long
func addMirrorCommands(cmds map[string]func(*testscript.TestScript, bool, []string), s3 *sharedS3) map[string]func(*testscript.TestScript, bool, []string) {
	cmds["signkey"], cmds["trust"], cmds["export"] = cmdSignKey, cmdTrust, cmdExport
	cmds["bucket"], cmds["objects"], cmds["swap"] = s3.cmdBucket, s3.cmdObjects, cmdSwap
	return cmds
}

// sharedS3 is one S3 server for all scripts, started by the first that wants it.
type sharedS3 struct {
	start   func() (*s3server.Server, error)
	buckets atomic.Int64
}

func newSharedS3(t *testing.T) *sharedS3 {
	return &sharedS3{start: sync.OnceValues(func() (*s3server.Server, error) {
		dir, err := os.MkdirTemp("", "s3")
		if err != nil {
			return nil, err
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		s, err := s3server.StartProcess(context.WithoutCancel(t.Context()), s3server.Options{Dir: dir})
		if err == nil {
			t.Cleanup(func() {
				if err := s.Stop(); err != nil {
					t.Errorf("stopping the S3 server: %v", err)
				}
			})
		}
		return s, err
	})}
}

func (s *sharedS3) cmdBucket(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 1, "bucket VAR")
	server, err := s.start()
	ts.Check(err)
	name := fmt.Sprintf("bucket-%d", s.buckets.Add(1))
	ts.Check(server.CreateBucket(context.Background(), name))
	ts.Setenv(args[0], name)
	ts.Setenv("S3_ENDPOINT", server.Endpoint)
	ts.Setenv("AWS_ACCESS_KEY_ID", server.AccessKey)
	ts.Setenv("AWS_SECRET_ACCESS_KEY", server.SecretKey)
}

func (s *sharedS3) cmdObjects(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) >= 3 && len(args) <= 4, "objects put|get|rm PLACE KEY [FILE]")
	server, err := s.start()
	ts.Check(err)
	ctx := context.Background()
	store, err := server.Client(ctx, args[1])
	ts.Check(err)
	defer store.Close()
	switch verb, key := args[0], args[2]; verb {
	case "put":
		data := ts.ReadFile(args[3])
		_, err = store.Put(ctx, key, strings.NewReader(data), int64(len(data)))
	case "get":
		var o *objstore.Object
		if o, err = store.Open(ctx, key, objstore.Get{}); err == nil {
			defer o.Body.Close()
			var data []byte
			data, err = io.ReadAll(o.Body)
			ts.Check(os.WriteFile(ts.MkAbs(args[3]), data, 0o644))
		}
	case "rm":
		err = store.Delete(ctx, key)
	default:
		ts.Fatalf("unknown verb %q", verb)
	}
	ts.Check(err)
}

func cmdSignKey(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) > 0, "signkey ID…")
	for _, id := range args {
		key, err := exports.DerivedKey(jose.EdDSA, id, 1)
		ts.Check(err)
		_, _, err = key.WriteFiles(ts.MkAbs("."))
		ts.Check(err)
	}
}

// keyOf is the key that signkey has made: the same id gives the same key.
func keyOf(ts *testscript.TestScript, id string) *exports.Key {
	key, err := exports.DerivedKey(jose.EdDSA, id, 1)
	ts.Check(err)
	return key
}

func cmdTrust(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) > 1, "trust FILE ID… [-- LINE…]")
	var keys []*exports.Key
	var lines []string
	for i, id := range args[1:] {
		if id == "--" {
			lines = args[i+2:]
			break
		}
		keys = append(keys, keyOf(ts, id))
	}
	policy, err := exports.Policy(keys...)
	ts.Check(err)
	text := string(policy) + strings.Join(append(lines, ""), "\n")
	_, err = release.ParsePolicy("the trust policy of a script", []byte(text))
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o644))
}

func cmdExport(ts *testscript.TestScript, neg bool, args []string) {
	set := flag.NewFlagSet("export", flag.ContinueOnError)
	signed := set.String("signed", "", "")
	ts.Check(set.Parse(args))
	args = set.Args()
	usage(ts, neg, len(args) == 3 || len(args) == 4, "export [-signed ID] DIR FEED SEED [COUNTxBYTES]")
	o := exports.Options{Feed: args[1], Advisories: 20}
	_, err := fmt.Sscan(args[2], &o.Seed)
	ts.Check(err)
	if *signed != "" {
		o.Key = keyOf(ts, *signed)
	}
	if len(args) == 4 {
		var f exports.Files
		_, err := fmt.Sscanf(args[3], "%dx%d", &f.Count, &f.Bytes)
		ts.Check(err)
		o.Extra = []exports.Files{f}
	}
	ts.Check(exports.Write(context.Background(), ts.MkAbs(args[0]), o))
}

func cmdSwap(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 3 && len(args[1]) == len(args[2]), "swap FILE OLD NEW, of the same length")
	path := filepath.Clean(ts.MkAbs(args[0]))
	data := ts.ReadFile(args[0])
	if !strings.Contains(data, args[1]) {
		ts.Fatalf("%s has no %q", args[0], args[1])
	}
	info, err := os.Stat(path)
	ts.Check(err)
	// A new file: the old one may have other names.
	ts.Check(os.Remove(path))
	ts.Check(os.WriteFile(path, []byte(strings.Replace(data, args[1], args[2], 1)), info.Mode().Perm()))
}
