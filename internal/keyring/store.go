package keyring

import (
	"context"
	"time"

	"github.com/stella-ops/stella/internal/ledger"
)

// Store holds the history and the private keys. All replicas of one Authority
// share it.
type Store interface {
	// Entries returns the records after seq in ascending order. A record
	// that was ever returned is durable and never changes.
	Entries(ctx context.Context, after uint64) ([]ledger.Record, error)
	// Append stores rec durably; ErrConflict when its number is taken. After
	// any other error the record may or may not be there.
	Append(ctx context.Context, rec ledger.Record) error
	// PutKey stores a private key (PKCS #8 DER) durably under a new name;
	// fs.ErrExist when the name is taken.
	PutKey(ctx context.Context, name string, pkcs8 []byte) error
	// Key reads a private key; fs.ErrNotExist when there is none.
	Key(ctx context.Context, name string) ([]byte, error)
	// Keys lists the private keys that are there.
	Keys(ctx context.Context) ([]StoredKey, error)
	// Intent is the name under which a replica was about to have a key made at a
	// provider, and which it may not have recorded; "" when there is none. slot
	// tells several at once apart.
	Intent(ctx context.Context, replica string, slot int) (name string, err error)
	// SetIntent stores it durably, over the one before; "" removes it.
	SetIntent(ctx context.Context, replica string, slot int, name string) error
	// DestroyKey removes a private key; a missing one is no error.
	DestroyKey(ctx context.Context, name string) error
}

// StoredKey names a private key in a Store.
type StoredKey struct {
	Name   string
	Stored time.Time
}
