// Package refresh keeps families of refresh tokens: the tokens that follow one
// another since one login (RFC 6749 section 6, RFC 9700 section 4.14.2).
//
// It guarantees that a refresh token works once; that of many concurrent uses
// one succeeds; that a token which is used again ends its whole family, the
// access tokens that are still alive included; that nothing is handed out when
// that cannot be decided; and that the database holds nothing from which a
// token could be made.
//
// The record that spends a token is the one that brings its successor: an
// insert under the unique key FAMILY/NUMBER, which holds the hash of the next
// secret. So there is no moment at which a family has two live tokens or none.
package refresh

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/stella-ops/stella/internal/authority/store"
)

// Errors of this package; anything else means that the store cannot tell now.
var (
	// ErrInvalid: not a token of ours, expired, or of a family that has ended.
	ErrInvalid = errors.New("the refresh token is not valid")
	// ErrReused: the token had been used before; its family has ended now.
	ErrReused = errors.New("the refresh token has been used before")
)

// Family is what was granted at a login.
type Family struct {
	ClientID string    `json:"client_id"`
	Subject  string    `json:"subject"`
	Username string    `json:"username"`
	Tenant   string    `json:"tenant"`
	Audience string    `json:"audience"`
	Scopes   []string  `json:"scopes"`
	Roles    []string  `json:"roles,omitempty"`
	JKT      string    `json:"jkt,omitempty"` // tokens are refreshed with this DPoP key only
	X5T      string    `json:"x5t,omitempty"` // or with this certificate
	AuthTime time.Time `json:"auth_time"`
	Expires  time.Time `json:"expires"` // of all its tokens
}

// Access is the access token that goes out beside a refresh token.
type Access struct {
	JTI     string    `json:"jti"`
	Expires time.Time `json:"expires"`
}

// family and use are what is stored.
type family struct {
	Family
	step
}

type step struct {
	Next   []byte `json:"next"` // SHA-256 of the secret of the token that follows
	Access Access `json:"access"`
}

// Families keeps them. Safe for concurrent use.
type Families struct {
	Store store.Records
	Now   func() time.Time
	// Ended is told of the access tokens of a family that has ended and are
	// still alive, so that they are refused too.
	Ended func(ctx context.Context, f *Family, alive []Access) error
}

const (
	prefix    = "srt_"
	idBytes   = 16
	secretLen = 32
	tokenLen  = idBytes + 4 + secretLen
	// maxUses bounds a family: one use every five seconds for a month.
	maxUses = 1 << 19
	// ended is the number of the record that ends a family.
	ended = "ended"
)

// handle is what a token says.
type handle struct {
	id     string // of the family
	number uint32 // how many tokens came before it
	secret [secretLen]byte
}

func (h *handle) token() string {
	var b [tokenLen]byte
	id, _ := base64.RawURLEncoding.DecodeString(h.id) // made by us or by parse
	copy(b[:], id)
	binary.BigEndian.PutUint32(b[idBytes:], h.number)
	copy(b[idBytes+4:], h.secret[:])
	return prefix + base64.RawURLEncoding.EncodeToString(b[:])
}

// parse reads a token; one token has one spelling.
func parse(token string) (*handle, error) {
	rest, ok := strings.CutPrefix(token, prefix)
	if !ok || len(rest) != base64.RawURLEncoding.EncodedLen(tokenLen) {
		return nil, ErrInvalid
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(rest)
	if err != nil {
		return nil, ErrInvalid
	}
	h := &handle{id: base64.RawURLEncoding.EncodeToString(b[:idBytes]), number: binary.BigEndian.Uint32(b[idBytes:])}
	copy(h.secret[:], b[idBytes+4:])
	if h.number >= maxUses {
		return nil, ErrInvalid
	}
	return h, nil
}

// Is reports whether a token has the form of ours.
func Is(token string) bool { return strings.HasPrefix(token, prefix) }

func (h *handle) hash() []byte {
	sum := sha256.Sum256(h.secret[:])
	return sum[:]
}

func same(a, b []byte) bool { return subtle.ConstantTimeCompare(a, b) == 1 }

func (h *handle) draw() { _, _ = rand.Read(h.secret[:]) }

func key(id string, number uint32) string { return id + "/" + strconv.FormatUint(uint64(number), 10) }

// Begin starts a family and returns its first token. The family does nothing
// until that token is handed out.
func (f *Families) Begin(ctx context.Context, granted Family, first Access) (string, error) {
	var id [idBytes]byte
	_, _ = rand.Read(id[:])
	h := &handle{id: base64.RawURLEncoding.EncodeToString(id[:])}
	h.draw()
	data, err := json.Marshal(family{granted, step{h.hash(), first}})
	if err != nil {
		return "", fmt.Errorf("encoding a grant: %w", err)
	}
	err = f.Store.Insert(ctx, store.Record{Kind: store.Grants, ID: h.id, Data: data, Until: granted.Expires})
	if err != nil {
		return "", err
	}
	return h.token(), nil
}

// Held is a token that is good as far as can be told without using it.
type Held struct {
	Family
	families *Families
	handle   *handle
}

// Look checks a token without using it up: ErrInvalid, or another error when
// that cannot be told now.
func (f *Families) Look(ctx context.Context, token string) (*Held, error) {
	h, err := parse(token)
	if err != nil {
		return nil, err
	}
	fam, err := f.family(ctx, h.id)
	if err != nil {
		return nil, err
	}
	made := fam.step
	if h.number > 0 {
		if made, err = f.step(ctx, h.id, h.number-1); err != nil {
			return nil, err
		}
	}
	if !same(made.Next, h.hash()) || !f.Now().Before(fam.Expires) {
		return nil, ErrInvalid
	}
	switch _, err := f.Store.Record(ctx, store.Tokens, h.id+"/"+ended); {
	case err == nil:
		// The call that ended it may have been cut short.
		if err := f.end(ctx, h.id, &fam.Family); err != nil {
			return nil, err
		}
		return nil, ErrInvalid
	case !errors.Is(err, store.ErrNotFound):
		return nil, err
	}
	return &Held{fam.Family, f, h}, nil
}

// Spent reports whether the token has been used already.
func (h *Held) Spent(ctx context.Context) (bool, error) {
	_, err := h.families.Store.Record(ctx, store.Tokens, key(h.handle.id, h.handle.number))
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

func (f *Families) family(ctx context.Context, id string) (*family, error) {
	r, err := f.Store.Record(ctx, store.Grants, id)
	if errors.Is(err, store.ErrNotFound) {
		return nil, ErrInvalid
	}
	if err != nil {
		return nil, err
	}
	var fam family
	if err := json.Unmarshal(r.Data, &fam); err != nil {
		return nil, fmt.Errorf("stored grant: %w", err)
	}
	return &fam, nil
}

func (f *Families) step(ctx context.Context, id string, number uint32) (step, error) {
	var s step
	r, err := f.Store.Record(ctx, store.Tokens, key(id, number))
	if errors.Is(err, store.ErrNotFound) {
		return s, ErrInvalid
	}
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(r.Data, &s); err != nil {
		return s, fmt.Errorf("stored refresh: %w", err)
	}
	return s, nil
}

// Rotate uses the token up and returns the one that follows. ErrReused when
// another was faster: then the family has ended, whoever was first. After any
// other error it is not known whether the token is used up.
func (h *Held) Rotate(ctx context.Context, next Access) (string, error) {
	follow := &handle{id: h.handle.id, number: h.handle.number + 1}
	follow.draw()
	data, err := json.Marshal(step{follow.hash(), next})
	if err != nil {
		return "", fmt.Errorf("encoding a refresh: %w", err)
	}
	err = h.families.Store.Insert(ctx, store.Record{
		Kind: store.Tokens, ID: key(h.handle.id, h.handle.number), Data: data, Until: h.Expires,
	})
	if errors.Is(err, store.ErrExists) {
		if err := h.End(ctx); err != nil {
			return "", err // not ended for sure: whoever asks must come again
		}
		return "", ErrReused
	}
	if err != nil {
		return "", err
	}
	// Another use of this token may have ended the family since Look.
	switch _, err := h.families.Store.Record(ctx, store.Tokens, h.handle.id+"/"+ended); {
	case err == nil:
		if err := h.End(ctx); err != nil {
			return "", err
		}
		return "", ErrInvalid
	case !errors.Is(err, store.ErrNotFound):
		return "", err
	}
	return follow.token(), nil
}
