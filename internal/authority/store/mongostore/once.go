package mongostore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/stella-ops/stella/internal/authority/store"
)

type onceDoc struct {
	ID    string    `bson:"_id"`
	Until time.Time `bson:"until"`
}

// Once implements store.Once. Identifiers are removed by SweepOnce only, so
// the server's clock has no say.
func (s *Store) Once(ctx context.Context, kind, id string, until time.Time) (bool, error) {
	err := s.insert(ctx, CollOnce, onceDoc{kind + "|" + id, until})
	if errors.Is(err, store.ErrExists) {
		return false, nil
	}
	return err == nil, err
}

// SweepOnce implements store.Once.
func (s *Store) SweepOnce(ctx context.Context, now time.Time) error {
	return s.deleteBefore(ctx, CollOnce, "until", now)
}

func (s *Store) deleteBefore(ctx context.Context, coll, field string, limit any) error {
	filter := bson.D{{Key: field, Value: bson.D{{Key: "$lt", Value: limit}}}}
	if _, err := s.db.Collection(coll).DeleteMany(ctx, filter); err != nil {
		return fmt.Errorf("sweeping %q: %w", coll, err)
	}
	return nil
}

type secretDoc struct {
	ID     string `bson:"_id"`
	Secret []byte `bson:"secret"`
}

// Secret implements store.Secrets.
func (s *Store) Secret(ctx context.Context, name string, candidate []byte) ([]byte, error) {
	// Read first: in all but one start of the whole fleet it is there.
	for range 2 {
		var d secretDoc
		err := s.find(ctx, CollSecrets, name, &d)
		if err == nil {
			return d.Secret, nil
		}
		if !errors.Is(err, store.ErrNotFound) {
			return nil, err
		}
		if err := s.insert(ctx, CollSecrets, secretDoc{name, candidate}); err != nil && !errors.Is(err, store.ErrExists) {
			return nil, err
		}
	}
	return nil, fmt.Errorf("internal error: secret %q is neither there nor absent", name)
}
