// Package revocation is the format of revocation bundles: the signed list of
// what a verifier refuses although it has not expired.
//
// It guarantees that a bundle has one spelling only (what Parse accepts, Encode
// writes again byte for byte); that nothing is believed before schema, digest,
// key and signature were checked, in this order; that a key cannot sign a
// bundle that revokes it; and that a Set never goes back to an older bundle,
// with a State not even after a restart. Errors about content have the fault
// kind Trust. docs/formats/revocation-bundle.md is the same for other tools.
package revocation

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/stella-ops/stella/internal/fault"
)

// MaxBytes bounds an encoded bundle.
const MaxBytes = 16 << 20

// SchemaVersion is what Encode's callers write; Parse takes any 1.0.N.
const SchemaVersion = "1.0.0"

// The names of the three files of a bundle.
const (
	FileBundle    = "revocation-bundle.json"
	FileSignature = "revocation-bundle.json.jws"
	FileDigest    = "revocation-bundle.json.sha256"
)

// Why a bundle is refused. Each error of this package about content wraps one
// of them and has the fault kind Trust.
var (
	ErrSchema    = errors.New("not a revocation bundle")
	ErrDigest    = errors.New("the SHA-256 of the bundle is another one")
	ErrKey       = errors.New("the bundle's signing key is not acceptable")
	ErrSignature = errors.New("the bundle's signature does not verify")
	ErrIssuer    = errors.New("the bundle is of another issuer")
	ErrTime      = errors.New("the bundle is not valid at this time")
	ErrOlder     = errors.New("the bundle is older than the one that was accepted before")
	ErrFork      = errors.New("the bundle has the sequence of the accepted one, but other content")
)

// Category is what an Entry is about.
type Category string

// The categories.
const (
	Token   Category = "token"   // one token, by its jti
	Subject Category = "subject" // a subject's tokens up to a time
	Client  Category = "client"  // a client's tokens up to a time
	Key     Category = "key"     // every token signed under a kid
)

// Entry is one revocation. Members are in the order in which they are encoded.
type Entry struct {
	Category  Category  `json:"category"`
	ClientID  string    `json:"clientId,omitempty"`  // with token and client
	ID        string    `json:"id"`                  // jti, sub, client_id or kid
	Reason    string    `json:"reason,omitempty"`    // a machine code: letters, digits and ._:- , at most 64
	RevokedAt time.Time `json:"revokedAt"`           // rounded up to a second it is the last iat that is refused
	Scopes    []string  `json:"scopes,omitzero"`     // of the token, for information; sorted, unique
	SubjectID string    `json:"subjectId,omitempty"` // with subject; may be given with token
	TokenType string    `json:"tokenType,omitempty"` // with token, such as access_token
}

// Bundle is a list of revocations. Members are in the order in which they are
// encoded.
type Bundle struct {
	BundleID      string         `json:"bundleId,omitempty"`     // 16 to 64 digits of lower-case hex; says whether content differs
	ExpiresAt     time.Time      `json:"expiresAt,omitzero"`     // not to be taken in from here on
	IssuedAt      time.Time      `json:"issuedAt"`               //
	Issuer        string         `json:"issuer"`                 // of the tokens that it is about
	Metadata      map[string]any `json:"metadata,omitzero"`      // text, booleans and whole numbers up to 2^53
	Revocations   []Entry        `json:"revocations"`            // sorted by category, id and revokedAt
	SchemaVersion string         `json:"schemaVersion"`          // 1.0.N
	Sequence      int64          `json:"sequence"`               // 0 to 2^53
	SigningKeyID  string         `json:"signingKeyId,omitempty"` // if given, the kid of the signature
	ValidFrom     time.Time      `json:"validFrom,omitzero"`     // not to be taken in before
}

// Encode writes a bundle in its canonical form, in at most MaxBytes: UTF-8,
// two spaces of indent, members in order, entries and scopes sorted, scopes
// unique, times in UTC. b is not changed. Two entries of one category, id and
// revokedAt are refused. Errors wrap ErrSchema.
func Encode(b *Bundle) ([]byte, error) {
	c := *b
	c.IssuedAt, c.ValidFrom, c.ExpiresAt = b.IssuedAt.UTC(), b.ValidFrom.UTC(), b.ExpiresAt.UTC()
	c.Revocations = make([]Entry, len(b.Revocations))
	for i, e := range b.Revocations {
		e.RevokedAt = e.RevokedAt.UTC()
		if e.Scopes != nil {
			e.Scopes = slices.Compact(slices.Sorted(slices.Values(e.Scopes)))
		}
		c.Revocations[i] = e
	}
	slices.SortFunc(c.Revocations, compare)
	if err := c.check(); err != nil {
		return nil, err
	}
	return c.encode()
}

// encode writes a bundle that is in order. Text holds no character that
// encoders escape in different ways (see plain), so any JSON library writes
// the same.
func (b *Bundle) encode() ([]byte, error) {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(b); err != nil {
		return nil, schema("%w", err)
	}
	if out.Len()-1 > MaxBytes {
		return nil, schema("it has %d bytes, at most %d are allowed", out.Len()-1, MaxBytes)
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}

// compare orders entries.
func compare(a, b Entry) int {
	return cmp.Or(cmp.Compare(a.Category, b.Category), cmp.Compare(a.ID, b.ID), a.RevokedAt.Compare(b.RevokedAt))
}

// Digest is how the SHA-256 of a bundle is written: sha256: and lower-case hex.
func Digest(data []byte) string {
	sum := sha256.Sum256(data)
	return digestPrefix + hex.EncodeToString(sum[:])
}

// refuse makes an error of kind Trust that wraps why.
func refuse(why error, format string, args ...any) error {
	return fault.As(fault.Trust, fmt.Errorf("%w: "+format, append([]any{why}, args...)...))
}

func schema(format string, args ...any) error { return refuse(ErrSchema, format, args...) }
