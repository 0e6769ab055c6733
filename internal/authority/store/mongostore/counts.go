package mongostore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/stella-ops/stella/internal/authority/store"
)

type countDoc struct {
	ID     string `bson:"_id"` // writer|kid|expiry: one writer each
	KID    string `bson:"kid"`
	Expiry int64  `bson:"expiry"`
	Tokens int64  `bson:"tokens"`
}

type writerDoc struct {
	ID string    `bson:"_id"`
	At time.Time `bson:"at"`
}

// PutCounts implements store.Counts.
func (s *Store) PutCounts(ctx context.Context, w store.Writer, counts []store.Count) error {
	if len(counts) > 0 {
		models := make([]mongo.WriteModel, len(counts))
		for i, c := range counts {
			id := w.Name + "|" + c.KID + "|" + strconv.FormatInt(c.Expiry, 10)
			models[i] = mongo.NewReplaceOneModel().SetFilter(byID(id)).SetUpsert(true).
				SetReplacement(countDoc{id, c.KID, c.Expiry, c.Tokens})
		}
		if _, err := s.db.Collection(CollLive).BulkWrite(ctx, models, options.BulkWrite().SetOrdered(false)); err != nil {
			return fmt.Errorf("storing live counts: %w", err)
		}
	}
	// Only now: the time promises that the counts up to it are there.
	return s.replace(ctx, CollWriters, w.Name, writerDoc{w.Name, w.At})
}

// replace stores a document whole. Of two concurrent first writers one may be
// told that the id is taken: then there is something to replace.
func (s *Store) replace(ctx context.Context, coll, id string, doc any) error {
	var err error
	for range 3 {
		_, err = s.db.Collection(coll).ReplaceOne(ctx, byID(id), doc, options.Replace().SetUpsert(true))
		if !mongo.IsDuplicateKeyError(err) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("replacing a document of %q: %w", coll, err)
	}
	return nil
}

func (s *Store) find(ctx context.Context, coll, id string, doc any) error {
	err := s.db.Collection(coll).FindOne(ctx, byID(id)).Decode(doc)
	if errors.Is(err, mongo.ErrNoDocuments) {
		return store.ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("reading %q: %w", coll, err)
	}
	return nil
}

// all decodes every document of a collection that matches.
func (s *Store) all(ctx context.Context, coll string, filter bson.D, docs any) error {
	cur, err := s.db.Collection(coll).Find(ctx, filter)
	if err == nil {
		err = cur.All(ctx, docs)
	}
	if err != nil {
		return fmt.Errorf("reading %q: %w", coll, err)
	}
	return nil
}

// EndWriter implements store.Counts.
func (s *Store) EndWriter(ctx context.Context, name string) error {
	if _, err := s.db.Collection(CollWriters).DeleteOne(ctx, byID(name)); err != nil {
		return fmt.Errorf("ending the live counts of %q: %w", name, err)
	}
	return nil
}

// ReadCounts implements store.Counts. Writers are read first, so that what
// they promise is already among the counts read after.
func (s *Store) ReadCounts(ctx context.Context, now time.Time) ([]store.Count, []store.Writer, error) {
	var writers []writerDoc
	if err := s.all(ctx, CollWriters, bson.D{}, &writers); err != nil {
		return nil, nil, err
	}
	var docs []countDoc
	filter := bson.D{{Key: "expiry", Value: bson.D{{Key: "$gt", Value: now.Unix()}}}}
	if err := s.all(ctx, CollLive, filter, &docs); err != nil {
		return nil, nil, err
	}
	sums := map[store.Count]int64{}
	for _, d := range docs {
		sums[store.Count{KID: d.KID, Expiry: d.Expiry}] += d.Tokens
	}
	counts := make([]store.Count, 0, len(sums))
	for c, n := range sums {
		c.Tokens = n
		counts = append(counts, c)
	}
	slices.SortFunc(counts, func(a, b store.Count) int {
		return cmp.Or(cmp.Compare(a.KID, b.KID), cmp.Compare(a.Expiry, b.Expiry))
	})
	ws := make([]store.Writer, len(writers))
	for i, d := range writers {
		ws[i] = store.Writer{Name: d.ID, At: d.At.UTC()}
	}
	return counts, ws, nil
}

// SweepCounts implements store.Counts.
func (s *Store) SweepCounts(ctx context.Context, now, dead time.Time) error {
	if err := s.deleteBefore(ctx, CollLive, "expiry", now.Unix()); err != nil {
		return err
	}
	return s.deleteBefore(ctx, CollWriters, "at", dead)
}
