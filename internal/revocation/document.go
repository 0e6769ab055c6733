package revocation

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"strings"

	"github.com/stella-ops/stella/internal/jose"
)

// DocumentSchema names the format in which a server hands a bundle out.
const DocumentSchema = "stella.revocation.export/v1"

// MaxDocument bounds an encoded Document.
const MaxDocument = (MaxBytes+2)/3*4 + MaxSignature + 4096

// Document is a bundle and its signature in one answer.
type Document struct {
	Sequence  int64
	Bundle    []byte // exact bytes
	Signature string // detached compact JWS
	Digest    string // sha256: and hex; Encode computes it
}

type document struct {
	Schema    string `json:"schema"`
	Sequence  int64  `json:"sequence"`
	Bundle    string `json:"bundle"`    // base64url without padding
	Signature string `json:"signature"` // compact JWS
	SHA256    string `json:"sha256"`    // hex
}

const digestPrefix = "sha256:"

// Encode writes a Document.
func (d *Document) Encode() ([]byte, error) {
	return json.Marshal(document{
		DocumentSchema, d.Sequence, base64.RawURLEncoding.EncodeToString(d.Bundle), d.Signature,
		strings.TrimPrefix(Digest(d.Bundle), digestPrefix),
	})
}

// ParseDocument reads a Document of at most MaxDocument bytes. It believes
// nothing of it: call Verify. Errors wrap ErrSchema.
func ParseDocument(data []byte) (*Document, error) {
	if len(data) > MaxDocument {
		return nil, schema("the answer has more than %d bytes", MaxDocument)
	}
	var in document
	if err := jose.DecodeStrict(data, &in); err != nil {
		return nil, schema("%w", err)
	}
	if in.Schema != DocumentSchema {
		return nil, schema("the answer is a %q, not a %s", in.Schema, DocumentSchema)
	}
	bundle, err := base64.RawURLEncoding.Strict().DecodeString(in.Bundle)
	// The standard decoder skips line breaks even when it is strict.
	if err != nil || strings.ContainsAny(in.Bundle, "\r\n") || len(in.SHA256) != 64 || strings.Trim(in.SHA256, "0123456789abcdef") != "" {
		return nil, schema("bundle or sha256 of the answer is malformed")
	}
	return &Document{in.Sequence, bundle, in.Signature, digestPrefix + in.SHA256}, nil
}

// Verify checks what the document holds, as the function Verify does.
func (d *Document) Verify(ctx context.Context, keys Keys) (*Verified, error) {
	v, err := Verify(ctx, d.Bundle, d.Signature, d.Digest, keys)
	if err == nil && v.Bundle.Sequence != d.Sequence {
		return nil, schema("the answer says sequence %d, its bundle %d", d.Sequence, v.Bundle.Sequence)
	}
	return v, err
}
