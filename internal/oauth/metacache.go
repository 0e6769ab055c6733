package oauth

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/stella-ops/stella/internal/jose"
)

// metadataRecord is the stored form of metadata: the issuer's own bytes, which
// are judged again whenever they are read.
type metadataRecord struct {
	Schema    string          `json:"schema"`
	Issuer    string          `json:"issuer"`
	FetchedAt time.Time       `json:"fetched_at"`
	Life      int64           `json:"life_s"`
	Metadata  json.RawMessage `json:"metadata"`
}

func metadataName(issuer string) string {
	sum := sha256.Sum256([]byte("stella.cache.metadata/v1\x00" + issuer))
	return hex.EncodeToString(sum[:16]) + ".metadata"
}

// loadMetadata returns cached metadata, nil when there is none that can be
// used. It is only ever a saved request, so nothing here is an error.
func (c *Client) loadMetadata() *Metadata {
	if c.cfg.CacheDir == "" {
		return nil
	}
	d, err := openCache(c.cfg.CacheDir, false)
	if err != nil {
		return nil
	}
	defer d.Close()
	data, err := readPrivate(d, metadataName(c.cfg.Issuer))
	if err != nil || data == nil {
		return nil
	}
	md, _ := parseMetadataRecord(data, c.cfg.Issuer, c.origins)
	return md
}

func parseMetadataRecord(data []byte, issuer string, origins map[string]bool) (*Metadata, error) {
	var r metadataRecord
	if err := jose.DecodeStrict(data, &r); err != nil || r.Schema != schemaMetadata || r.Issuer != issuer || r.Life < 0 || r.Life > 3600 {
		return nil, fmt.Errorf("not a metadata record of %q", issuer)
	}
	md, err := parseMetadata(r.Metadata, issuer, origins)
	if err != nil {
		return nil, err
	}
	md.FetchedAt, md.Life = r.FetchedAt.UTC(), time.Duration(r.Life)*time.Second
	return md, nil
}

// saveMetadata keeps metadata for other runs; a failure costs them one
// request and is not worth failing for.
func (c *Client) saveMetadata(md *Metadata) {
	if c.cfg.CacheDir == "" {
		return
	}
	r := metadataRecord{schemaMetadata, md.Issuer, md.FetchedAt.Truncate(time.Second), int64(md.Life.Seconds()), md.raw}
	data, err := json.Marshal(r)
	if err != nil {
		return
	}
	d, err := openCache(c.cfg.CacheDir, true)
	if err != nil {
		return
	}
	defer d.Close()
	_ = d.Write(metadataName(md.Issuer), data, 0o600)
}
