package clients

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"time"

	"github.com/stella-ops/stella/internal/authority/problem"
	"github.com/stella-ops/stella/internal/authority/store"
	"github.com/stella-ops/stella/internal/jose"
)

// MaxDocument bounds a client document on the wire.
const MaxDocument = 64 << 10

// ParseDocument reads a client document strictly.
func ParseDocument(data []byte) (*Document, error) {
	var d Document
	if err := jose.DecodeStrict(data, &d); err != nil {
		return nil, invalid("the body is not a client document: %v", err)
	}
	return &d, nil
}

// Put creates a client, or replaces it whole when it exists. The answer holds
// the secret if one was made: for a new client, for a client that had none,
// and on RotateSecret. created tells the two apart.
func (r *Register) Put(ctx context.Context, d *Document, known func(tenant string) bool) (answer *Document, created bool, err error) {
	c, err := d.toStore(known)
	if err != nil {
		return nil, false, err
	}
	defer r.forget(c.ID)
	// A client may be deleted between the two steps, once or twice.
	for range 4 {
		secret := ""
		c.CreatedAt = r.now().UTC().Truncate(time.Millisecond)
		c.UpdatedAt = c.CreatedAt
		old, err := r.store.Client(ctx, c.ID)
		switch {
		case errors.Is(err, store.ErrNotFound):
			if c.Method == SecretBasic {
				secret, c.SecretHash = newSecret()
			}
			err = r.store.CreateClient(ctx, c)
		case err != nil:
			return nil, false, err
		default:
			c.CreatedAt, c.SecretHash = old.CreatedAt, old.SecretHash
			if c.Method != SecretBasic {
				c.SecretHash = nil
			} else if d.RotateSecret || len(old.SecretHash) == 0 {
				secret, c.SecretHash = newSecret()
			}
			err = r.store.ReplaceClient(ctx, c)
		}
		if err == nil {
			doc := fromStore(c)
			doc.ClientSecret = secret
			return &doc, old == nil, nil
		}
		if !errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrExists) {
			return nil, false, err
		}
	}
	return nil, false, problem.New(problem.Conflict, "the client is being created and deleted by others at this moment")
}

// Get returns the document of a client, read from the store.
func (r *Register) Get(ctx context.Context, id string) (*Document, error) {
	c, err := r.store.Client(ctx, id)
	if err != nil {
		return nil, err
	}
	d := fromStore(c)
	return &d, nil
}

// Delete removes a client. Ending what it was given is for the caller.
func (r *Register) Delete(ctx context.Context, id string) error {
	defer r.forget(id)
	return r.store.DeleteClient(ctx, id)
}

func newSecret() (string, []byte) {
	var b [32]byte
	_, _ = rand.Read(b[:]) // crypto/rand never returns an error
	secret := base64.RawURLEncoding.EncodeToString(b[:])
	return secret, HashSecret(secret)
}

// HashSecret is how a client secret is stored. A fast hash is enough: the
// secret has 256 bits of entropy, so there is nothing to guess.
func HashSecret(secret string) []byte {
	sum := sha256.Sum256([]byte(secret))
	return sum[:]
}
