// Package exports generates exports of the two feeds, as upstream makes them:
// an index, and for each domain a manifest, a bundle and the bundle's detached
// signature, with more members where that is asked for.
//
// It guarantees that the same Options give the same documents byte for byte
// (signatures of EC keys differ each time); that what it writes is a release as
// package release wants it, once a statement is put beside it; and that memory
// stays small whatever the size.
package exports

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/stella-ops/stella/internal/jose/detached"
	"github.com/stella-ops/stella/internal/release"
)

// The feeds.
const (
	Concelier = "concelier"
	Excititor = "excititor"
)

// Options say what an export holds. The zero value is a small one of Concelier.
type Options struct {
	Feed        string    // Concelier when empty
	ExportID    string    // written into the index when not empty
	Domains     []string  // primary, community when empty
	Advisories  int       // records in each bundle; 200 when 0, none when negative
	BundleBytes int64     // when above 0, each bundle grows to this size in bytes, or one record more; Advisories does not count then
	Minimal     bool      // the documents as upstream has them in development: nothing additive, no record
	Seed        uint64    // another one, other content
	Created     time.Time // 2025-11-23T00:00:00Z when zero
	Extra       []Files   // more members, below the first domain

	// Key signs the bundles as upstream does: b64 false for the first domain and
	// every second one after it, base64url for the others. Nil: none is signed.
	Key *Key
	// KeyOf, if not nil, is asked for the key of each domain in place of Key.
	KeyOf func(domain string) *Key
}

// Files are members of one size whose bytes are random and compress badly.
type Files struct {
	Count int
	Bytes int64 // of each
}

func (o *Options) defaults() {
	if o.Feed == "" {
		o.Feed = Concelier
	}
	if len(o.Domains) == 0 {
		o.Domains = []string{"primary", "community"}
	}
	if o.Advisories == 0 {
		o.Advisories = 200
	}
	if o.Advisories < 0 || o.Minimal {
		o.Advisories = 0
	}
	if o.Created.IsZero() {
		o.Created = time.Date(2025, 11, 23, 0, 0, 0, 0, time.UTC)
	}
	o.Created = o.Created.UTC().Truncate(time.Second)
	if key := o.Key; o.KeyOf == nil {
		o.KeyOf = func(string) *Key { return key }
	}
}

// Write makes DIR/mirror, which must not be there yet; DIR is made if it is
// missing.
func Write(ctx context.Context, dir string, o Options) error {
	o.defaults()
	if o.Feed != Concelier && o.Feed != Excititor {
		return fmt.Errorf("writing an export: feed %q is neither %s nor %s", o.Feed, Concelier, Excititor)
	}
	root := filepath.Join(dir, filepath.FromSlash(release.Root))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(root, 0o755); err != nil {
		return fmt.Errorf("writing an export: %w", err)
	}
	e := &export{ctx: ctx, o: o, dir: dir}
	for i, id := range o.Domains {
		d, err := e.domain(i, id)
		if err != nil {
			return fmt.Errorf("writing domain %q of an export: %w", id, err)
		}
		e.domains = append(e.domains, d)
	}
	for i, f := range o.Extra {
		if err := e.files(i, f); err != nil {
			return fmt.Errorf("writing files of an export: %w", err)
		}
	}
	return e.index()
}

// Many writes an export of one domain with a small bundle and many files: what
// a benchmark wants. Options.Extra comes first.
func Many(ctx context.Context, dir string, o Options, files ...Files) error {
	o.Extra = append(slices.Clone(o.Extra), files...)
	if len(o.Domains) == 0 {
		o.Domains = []string{"primary"}
	}
	return Write(ctx, dir, o)
}

// export is one that is being written.
type export struct {
	ctx     context.Context
	o       Options
	dir     string
	domains []indexDomain
}

type indexDomain struct {
	ID            string   `json:"id"`
	DisplayName   string   `json:"displayName"`
	AdvisoryCount int      `json:"advisoryCount"`
	BundleSize    int64    `json:"bundleSize"`
	Formats       []string `json:"exportFormats"`
	Signed        bool     `json:"signed"`
	Generated     string   `json:"lastGenerated"`
}

type manifest struct {
	DomainID      string          `json:"domainId"`
	Created       string          `json:"created"`
	SchemaVersion int             `json:"schemaVersion"`
	Advisories    int             `json:"advisories"`
	DisplayName   string          `json:"displayName"`
	Bundle        manifestBundle  `json:"bundle"`
	Sources       []manifestCount `json:"sources"`
}

type manifestBundle struct {
	Path   string `json:"path"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

type manifestCount struct {
	Name  string `json:"name"`
	Count int    `json:"count"`
}

// formats are the forms in which a feed is exported.
func (o *Options) formats() []string {
	if o.Feed == Excititor {
		return []string{"json", "jsonl", "openvex", "csaf"}
	}
	return []string{"json"}
}

// domain writes everything of one domain.
func (e *export) domain(i int, id string) (indexDomain, error) {
	display := strings.ToUpper(id[:1]) + id[1:]
	d := indexDomain{ID: id, DisplayName: display, Formats: e.o.formats(), Generated: e.o.Created.Format(time.RFC3339)}
	bundle, sources, err := e.bundle(id)
	if err != nil {
		return d, err
	}
	if key := e.o.KeyOf(id); key != nil {
		encoding := detached.Unencoded
		if i%2 == 1 {
			encoding = detached.Base64URL
		}
		if err := e.sign(release.BundlePath(id), key, encoding); err != nil {
			return d, err
		}
		d.Signed = true
	}
	d.BundleSize = bundle.Size
	for _, s := range sources {
		d.AdvisoryCount += s.Count
	}
	if e.o.Feed == Excititor && !e.o.Minimal {
		if err := e.vexExports(id); err != nil {
			return d, err
		}
	}
	if e.o.Minimal {
		return d, e.write(release.ManifestPath(id), fmt.Appendf(nil, `{"domainId":%q,"created":%q,"schemaVersion":1,"advisories":0}`, id, d.Generated))
	}
	return d, e.document(release.ManifestPath(id), manifest{
		id, d.Generated, 1, d.AdvisoryCount, display, manifestBundle{"bundle.json", bundle.Size, bundle.SHA256}, sources,
	})
}

// sign puts the detached JWS of a bundle beside it.
func (e *export) sign(bundle string, key *Key, encoding detached.Encoding) error {
	f, err := os.Open(e.path(bundle))
	if err != nil {
		return err
	}
	defer f.Close()
	jws, err := detached.Sign(e.ctx, key.Signer, map[string]any{"provider": key.Provider}, f, encoding)
	if err != nil {
		return err
	}
	return e.write(bundle+release.SuffixJWS, []byte(jws))
}

func (e *export) index() error {
	if e.o.Minimal {
		list := make([]string, len(e.domains))
		for i, d := range e.domains {
			list[i] = fmt.Sprintf(`{"id":%q,"displayName":%q}`, d.ID, d.DisplayName)
		}
		return e.write(release.PathIndex, []byte(`{"schemaVersion":1,"domains":[`+strings.Join(list, ",")+`]}`))
	}
	return e.document(release.PathIndex, struct {
		SchemaVersion int           `json:"schemaVersion"`
		ExportID      string        `json:"exportId,omitempty"`
		Generated     string        `json:"generatedAt"`
		Domains       []indexDomain `json:"domains"`
	}{1, e.o.ExportID, e.o.Created.Format(time.RFC3339), e.domains})
}
