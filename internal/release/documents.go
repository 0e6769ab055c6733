package release

import (
	"bytes"
	"encoding/json"
	"strings"
	"time"

	"github.com/stella-ops/stella/internal/jose/strictjson"
)

// The layout of a release below its root.
const (
	Root          = "mirror/"
	PathIndex     = Root + "index.json"
	nameManifest  = "manifest.json"
	nameBundle    = "bundle.json"
	SuffixJWS     = ".jws"
	MaxIndex      = 4 << 20 // bytes
	MaxManifest   = 4 << 20
	maxDomains    = 1000
	schemaVersion = 1
)

// ManifestPath returns where a domain's manifest is.
func ManifestPath(domain string) string { return Root + domain + "/" + nameManifest }

// BundlePath returns where a domain's bundle is; SuffixJWS after it is its
// signature.
func BundlePath(domain string) string { return Root + domain + "/" + nameBundle }

// Document reports whether a member is one of those that make a release: index,
// manifest, bundle or the signature of one.
func Document(path string) bool {
	rest, ok := strings.CutPrefix(path, Root)
	_, name, nested := strings.Cut(rest, "/")
	return path == PathIndex || ok && nested && (name == nameManifest || name == nameBundle || name == nameBundle+SuffixJWS)
}

// BundleOf reports whether a member is the bundle of a domain.
func BundleOf(path string) (domain string, ok bool) {
	rest, ok := strings.CutPrefix(path, Root)
	domain, name, slash := strings.Cut(rest, "/")
	return domain, ok && slash && name == nameBundle
}

// Index is mirror/index.json. Readers are tolerant: members that are not
// listed here are allowed and left alone.
type Index struct {
	SchemaVersion int
	ExportID      string // ours, optional
	Domains       []Domain
}

// Domain is one entry of an index.
type Domain struct {
	ID          string
	DisplayName string
}

// Manifest is mirror/DOMAIN/manifest.json, as tolerant as Index.
type Manifest struct {
	DomainID string
	Created  time.Time
	Bundle   *Member // ours, optional: size and sha256 of the bundle
}

// ParseIndex reads an index of at most MaxIndex bytes. Domain ids are plain
// names, no two alike in lower case. Errors have the Reason Format,
// HostileName or TooLarge.
func ParseIndex(data []byte) (*Index, error) {
	var in struct {
		SchemaVersion int    `json:"schemaVersion"`
		ExportID      string `json:"exportId"`
		Domains       []struct {
			ID          string `json:"id"`
			DisplayName string `json:"displayName"`
		} `json:"domains"`
	}
	if err := decodeTolerant("index", data, MaxIndex, &in); err != nil {
		return nil, err
	}
	switch {
	case in.SchemaVersion != schemaVersion:
		return nil, refuse(Format, "the index has schemaVersion %d, not %d", in.SchemaVersion, schemaVersion)
	case len(in.Domains) == 0:
		return nil, refuse(Emptied, "the index names no domain")
	case len(in.Domains) > maxDomains:
		return nil, refuse(TooLarge, "the index names %d domains, at most %d are allowed", len(in.Domains), maxDomains)
	case in.ExportID != "" && !ExportID(in.ExportID):
		return nil, refuse(HostileName, "exportId %.80q of the index is not a plain name", in.ExportID)
	}
	out := &Index{SchemaVersion: in.SchemaVersion, ExportID: in.ExportID}
	seen := map[string]bool{}
	for _, d := range in.Domains {
		low := strings.ToLower(d.ID)
		if strings.Contains(d.ID, "/") || CheckPath(d.ID) != nil {
			return nil, refuse(HostileName, "the domain %.80q of the index is not a plain name", d.ID)
		}
		if seen[low] {
			return nil, refuse(HostileName, "the index names the domain %.80q twice", d.ID)
		}
		seen[low] = true
		out.Domains = append(out.Domains, Domain{d.ID, d.DisplayName})
	}
	return out, nil
}

// ParseManifest reads the manifest of a domain, in at most MaxManifest bytes.
// Errors have the Reason Format, MixAndMatch (another domain's) or TooLarge.
func ParseManifest(domain string, data []byte) (*Manifest, error) {
	var in struct {
		SchemaVersion int    `json:"schemaVersion"`
		DomainID      string `json:"domainId"`
		Created       string `json:"created"`
		Bundle        *struct {
			Size   *int64 `json:"size"`
			SHA256 string `json:"sha256"`
		} `json:"bundle"`
	}
	path := ManifestPath(domain)
	if err := decodeTolerant(path, data, MaxManifest, &in); err != nil {
		return nil, err
	}
	created, err := time.Parse(time.RFC3339, in.Created)
	switch {
	case in.SchemaVersion != schemaVersion:
		return nil, refuse(Format, "%s has schemaVersion %d, not %d", path, in.SchemaVersion, schemaVersion)
	case in.DomainID != domain:
		return nil, Refuse(MixAndMatch, "%s is of the domain %.80q", path, in.DomainID).About(path).Found(domain, in.DomainID)
	case err != nil || created.Unix() <= 0 || created.Year() >= 2200:
		return nil, refuse(Format, "%s: created is not a time in RFC 3339", path)
	}
	m := &Manifest{DomainID: in.DomainID, Created: created.UTC()}
	if b := in.Bundle; b != nil {
		if b.Size == nil || *b.Size < 0 || *b.Size > MaxMember || !hexDigest(b.SHA256) {
			return nil, refuse(Format, "%s: bundle has no size and SHA-256", path)
		}
		m.Bundle = &Member{BundlePath(domain), *b.Size, b.SHA256}
	}
	return m, nil
}

// closed checks that a release has an index, and that each folder below
// mirror/ has the three files of a domain. Which domains there must be, the
// index says: see CheckIndex.
func (s *Statement) closed() error {
	if _, ok := s.Find(PathIndex); !ok {
		return Refuse(MissingMember, "the release has no %s", PathIndex).About(PathIndex)
	}
	last := ""
	for _, m := range s.Members {
		rest, ok := strings.CutPrefix(m.Path, Root)
		if !ok {
			return Refuse(ExtraMember, "%.200q lies outside %s", m.Path, Root).About(m.Path)
		}
		domain, _, nested := strings.Cut(rest, "/")
		if !nested {
			if m.Path != PathIndex {
				return Refuse(ExtraMember, "%.200q belongs to no domain", m.Path).About(m.Path)
			}
			continue
		}
		if domain == last { // members are sorted
			continue
		}
		last = domain
		bundle := BundlePath(domain)
		for _, need := range []string{ManifestPath(domain), bundle, bundle + SuffixJWS} {
			if _, ok := s.Find(need); !ok {
				return Refuse(MissingMember, "the release has no %.200q", need).About(need)
			}
		}
	}
	return nil
}

// CheckDocuments holds index and manifests to the statement. What read returns
// has the digest that the statement says; its errors are passed on.
func (s *Statement) CheckDocuments(read func(path string) ([]byte, error)) error {
	data, err := read(PathIndex)
	if err != nil {
		return err
	}
	index, err := ParseIndex(data)
	if err != nil {
		return err
	}
	if err := s.CheckIndex(index); err != nil {
		return err
	}
	for _, d := range index.Domains {
		path := ManifestPath(d.ID)
		data, err := read(path)
		if err != nil {
			return err
		}
		m, err := ParseManifest(d.ID, data)
		if err != nil {
			return err
		}
		if has, _ := s.Find(BundlePath(d.ID)); m.Bundle != nil && *m.Bundle != has {
			return Refuse(MixAndMatch, "%s is of another bundle", path).About(path).Found("sha256:"+m.Bundle.SHA256, "sha256:"+has.SHA256)
		}
	}
	return nil
}

// CheckIndex holds the members of a release to its index: a domain that is
// named has its files, and no other domain has any.
func (s *Statement) CheckIndex(index *Index) error {
	named := map[string]bool{}
	for _, d := range index.Domains {
		named[d.ID] = true
		if _, ok := s.Find(ManifestPath(d.ID)); !ok {
			return Refuse(MissingMember, "the index names the domain %q, but the release has no %s", d.ID, ManifestPath(d.ID)).About(ManifestPath(d.ID))
		}
	}
	for _, m := range s.Members {
		rest := strings.TrimPrefix(m.Path, Root)
		domain, _, nested := strings.Cut(rest, "/")
		if nested && !named[domain] {
			return Refuse(ExtraMember, "%.200q is of a domain that the index does not name", m.Path).About(m.Path)
		}
	}
	if index.ExportID != "" && index.ExportID != s.ExportID {
		return Refuse(MixAndMatch, "the index is of export %s, the statement of %s", index.ExportID, s.ExportID).About(PathIndex).Found(s.ExportID, index.ExportID)
	}
	return nil
}

// decodeTolerant reads an object with members that we do not know, but no
// member twice and nothing behind it. Names count exactly: encoding/json by
// itself takes "DOMAINS" for domains, and other readers do not.
func decodeTolerant(what string, data []byte, limit int, v any) error {
	if len(data) > limit {
		return refuse(TooLarge, "%s has %d bytes, at most %d are allowed", what, len(data), limit)
	}
	if _, err := strictjson.Members(data); err != nil {
		return refuse(Format, "%s is no JSON object: %.300s", what, err)
	}
	var all any
	if err := json.Unmarshal(data, &all); err != nil {
		return refuse(Format, "%s is no JSON object: %.300s", what, err)
	}
	if name := ambiguous(all); name != "" {
		return refuse(Format, "%s has a member %.40q, which differs in case only from one that counts", what, name)
	}
	if err := json.NewDecoder(bytes.NewReader(data)).Decode(v); err != nil {
		return refuse(Format, "%s is not of this format: %.300s", what, err)
	}
	return nil
}

// ambiguous finds a member, at any depth, that some readers take for one of
// ours.
func ambiguous(v any) string {
	switch v := v.(type) {
	case map[string]any:
		for name, value := range v {
			for _, known := range []string{"schemaVersion", "exportId", "domains", "id", "displayName", "domainId", "created", "bundle", "size", "sha256"} {
				if name != known && strings.EqualFold(name, known) {
					return name
				}
			}
			if found := ambiguous(value); found != "" {
				return found
			}
		}
	case []any:
		for _, value := range v {
			if found := ambiguous(value); found != "" {
				return found
			}
		}
	}
	return ""
}
