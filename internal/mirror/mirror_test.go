package mirror_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/mirror"
	"github.com/stella-ops/stella/internal/objstore"
	"github.com/stella-ops/stella/internal/objstore/mem"
	"github.com/stella-ops/stella/internal/release"
)

// world is a publisher with its keys, a source, in memory unless worldOn made
// it, and a mirror of it.
type world struct {
	t      *testing.T
	at     time.Time
	source objstore.Store
	opened map[objstore.Place]objstore.Reader // what worldOn reads
	m      *mirror.Mirror
	feed   mirror.Feed
	keys   map[string]*jose.Signer
	pems   map[string]string
	slept  time.Duration
	events []mirror.Event
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, at: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), source: mem.New("mem://source/latest"), keys: map[string]*jose.Signer{}, pems: map[string]string{}}
	for _, kid := range []string{"k1", "k2", "old", "stranger"} {
		w.addKey(kid)
	}
	place, err := objstore.Parse("s3://mirror-stellaops/concelier/latest")
	if err != nil {
		t.Fatal(err)
	}
	w.feed = mirror.Feed{Name: "concelier", Source: place}
	w.m = &mirror.Mirror{
		Dir: t.TempDir(), Operator: "tester@host", Version: "v0", Policy: w.policy(""), Parallel: 4, Settle: 8 * time.Second,
		Open: func(_ context.Context, p objstore.Place) (objstore.Reader, error) {
			if p == place {
				return w.source, nil
			}
			return mem.New("mem://nothing"), nil
		},
		Now:    func() time.Time { return w.at },
		Sleep:  func(_ context.Context, d time.Duration) error { w.slept += d; return nil },
		Notify: func(e mirror.Event) { w.events = append(w.events, e) },
	}
	return w
}

func (w *world) addKey(kid string) {
	w.t.Helper()
	var signer *jose.Signer
	var pub any
	if kid == "k2" {
		p, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			w.t.Fatal(err)
		}
		signer, err = jose.NewSigner(key, jose.EdDSA, kid)
		if err != nil {
			w.t.Fatal(err)
		}
		pub = p
	} else {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			w.t.Fatal(err)
		}
		signer, err = jose.NewSigner(key, jose.ES256, kid)
		if err != nil {
			w.t.Fatal(err)
		}
		pub = &key.PublicKey
	}
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		w.t.Fatal(err)
	}
	w.keys[kid] = signer
	w.pems[kid] = string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// policy trusts k1, k2 and, until it ended, old. more is YAML in front.
func (w *world) policy(more string) *release.Policy {
	w.t.Helper()
	text := "schema_version: 1\n" + more + "\nkeys:\n"
	for _, kid := range []string{"k1", "k2", "old"} {
		text += fmt.Sprintf("  - id: %s\n    pem: |\n      %s\n", kid, strings.ReplaceAll(strings.TrimSpace(w.pems[kid]), "\n", "\n      "))
		if kid == "old" {
			text += "    not_after: 2026-01-01T00:00:00Z\n"
		}
	}
	p, err := release.ParsePolicy("policy.yaml", []byte(text))
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// files of one release with one domain or more.
func (w *world) files(seq int, domains ...string) map[string][]byte {
	w.t.Helper()
	files := map[string][]byte{}
	var list []string
	for _, d := range domains {
		list = append(list, fmt.Sprintf(`{"id":%q,"displayName":"D"}`, d))
		bundle := fmt.Appendf(nil, `{"advisories":[{"id":"CVE-2026-%04d","domain":%q}]}`, seq, d)
		files[release.BundlePath(d)] = bundle
		files[release.ManifestPath(d)] = fmt.Appendf(nil, `{"domainId":%q,"created":"2026-03-01T0%d:00:00Z","schemaVersion":1,"advisories":1}`, d, seq%10)
		jws, err := w.keys["k1"].SignDetached(map[string]any{"provider": "default"}, bundle)
		if err != nil {
			w.t.Fatal(err)
		}
		files[release.BundlePath(d)+".jws"] = []byte(jws)
	}
	files[release.PathIndex] = fmt.Appendf(nil, `{"schemaVersion":1,"generation":%d,"domains":[%s]}`, seq, strings.Join(list, ","))
	files["mirror/"+domains[0]+"/constant.json"] = []byte(`{"never":"changes"}`)
	return files
}

// state makes the statement of files.
func (w *world) state(seq int, files map[string][]byte, edit func(*release.Statement)) []byte {
	w.t.Helper()
	st := &release.Statement{
		Feed: "concelier", ExportID: fmt.Sprintf("20260301T0%d0000Z", seq), Sequence: int64(seq),
		GeneratedAt: w.at.Add(time.Duration(seq-10) * time.Minute), ExpiresAt: w.at.Add(24 * time.Hour),
	}
	for path, data := range files {
		sum := sha256.Sum256(data)
		st.Members = append(st.Members, release.Member{Path: path, Size: int64(len(data)), SHA256: hex.EncodeToString(sum[:])})
	}
	if edit != nil {
		edit(st)
	}
	data, err := release.Encode(st)
	if err != nil {
		w.t.Fatal(err)
	}
	return data
}

func (w *world) sign(statement []byte, kids ...string) []byte {
	w.t.Helper()
	var lines [][]byte
	for _, kid := range kids {
		line, err := release.Sign(w.t.Context(), statement, "default", w.keys[kid])
		if err != nil {
			w.t.Fatal(err)
		}
		lines = append(lines, line)
	}
	return release.Join(lines...)
}

// put replaces what the source holds.
func (w *world) put(files map[string][]byte) {
	w.t.Helper()
	var gone []string
	if err := w.source.List(w.t.Context(), "", func(i objstore.Info) error {
		if _, ok := files[i.Key]; !ok {
			gone = append(gone, i.Key)
		}
		return nil
	}); err != nil {
		w.t.Fatal(err)
	}
	for _, key := range gone {
		if err := w.source.Delete(w.t.Context(), key); err != nil {
			w.t.Fatal(err)
		}
	}
	for key, data := range files {
		w.putOne(key, data)
	}
}

func (w *world) putOne(key string, data []byte) {
	w.t.Helper()
	if _, err := w.source.Put(w.t.Context(), key, strings.NewReader(string(data)), int64(len(data))); err != nil {
		w.t.Fatal(err)
	}
}

// publish puts a whole signed release into the source.
func (w *world) publish(seq int) map[string][]byte {
	w.t.Helper()
	files := w.files(seq, "primary", "community")
	statement := w.state(seq, files, nil)
	files[release.FileStatement], files[release.FileSignature] = statement, w.sign(statement, "k1")
	w.put(files)
	return files
}

func (w *world) sync() (*mirror.Result, error) {
	w.t.Helper()
	return w.m.Sync(w.t.Context(), w.feed, false)
}

// good syncs, wants success, and what is shown to be files.
func (w *world) good(files map[string][]byte) *mirror.Result {
	w.t.Helper()
	res, err := w.sync()
	if err != nil {
		w.t.Fatalf("sync: %v", err)
	}
	w.shows(files)
	return res
}

// shows wants latest to be exactly files, and verify to agree.
func (w *world) shows(files map[string][]byte) {
	w.t.Helper()
	root := filepath.Join(w.m.Folder(w.feed.Name), "latest")
	for path, want := range files {
		if got, err := os.ReadFile(filepath.Join(root, path)); err != nil || string(got) != string(want) {
			w.t.Errorf("latest/%s: %d bytes, %v; want %d", path, len(got), err, len(want))
		}
	}
	r, err := w.m.VerifyDisk(w.t.Context(), w.feed.Name, "")
	if err != nil || r.Err() != nil {
		w.t.Errorf("verify: %v %+v", err, r)
	}
}

func TestSync(t *testing.T) {
	w := newWorld(t)
	one := w.publish(1)
	if res := w.good(one); res.Outcome != mirror.Updated || res.Fetched != 8 || res.Kept != 0 || res.ExportID != "20260301T010000Z" {
		t.Errorf("%+v", res)
	}
	if res := w.good(one); res.Outcome != mirror.Unchanged {
		t.Errorf("%+v", res)
	}
	two := w.publish(2)
	res := w.good(two)
	// constant.json is the same, seven others are new.
	if res.Outcome != mirror.Updated || res.Fetched != 7 || res.Kept != 1 || res.Before != "20260301T010000Z" {
		t.Errorf("%+v", res)
	}
	a, err := os.Stat(filepath.Join(w.m.Folder("concelier"), "latest/mirror/primary/constant.json"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.Stat(filepath.Join(w.m.Folder("concelier"), "previous/mirror/primary/constant.json"))
	if err != nil || !os.SameFile(a, b) {
		t.Errorf("an unchanged member is not one file: %v", err)
	}
	if w.slept != 0 {
		t.Errorf("slept %s", w.slept)
	}
}
