package mongostore

import (
	"cmp"
	"context"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/stella-ops/stella/internal/authority/store"
)

// recordDoc keeps Data as text, so that an operator can read it in the
// database.
type recordDoc struct {
	ID    string    `bson:"_id"`
	Data  string    `bson:"data"`
	Until time.Time `bson:"until"`
}

func (d recordDoc) record(kind store.Kind) store.Record {
	return store.Record{Kind: kind, ID: d.ID, Data: []byte(d.Data), Until: d.Until.UTC()}
}

// Insert implements store.Records.
func (s *Store) Insert(ctx context.Context, r store.Record) error {
	return s.insert(ctx, collRecords(r.Kind), recordDoc{r.ID, string(r.Data), r.Until})
}

// Record implements store.Records.
func (s *Store) Record(ctx context.Context, kind store.Kind, id string) (*store.Record, error) {
	var d recordDoc
	if err := s.find(ctx, collRecords(kind), id, &d); err != nil {
		return nil, err
	}
	r := d.record(kind)
	return &r, nil
}

// List implements store.Records. The order is made here: a sort on the server
// may need an index, and the list is bounded by what has not expired.
func (s *Store) List(ctx context.Context, kind store.Kind) ([]store.Record, error) {
	var docs []recordDoc
	if err := s.all(ctx, collRecords(kind), bson.D{}, &docs); err != nil {
		return nil, err
	}
	all := make([]store.Record, 0, len(docs))
	for _, d := range docs {
		all = append(all, d.record(kind))
	}
	slices.SortFunc(all, func(a, b store.Record) int { return cmp.Compare(a.ID, b.ID) })
	return all, nil
}

// Remove implements store.Records.
func (s *Store) Remove(ctx context.Context, kind store.Kind, id string) error {
	return s.remove(ctx, collRecords(kind), id)
}

// SweepRecords implements store.Records.
func (s *Store) SweepRecords(ctx context.Context, now time.Time) error {
	for _, kind := range store.Kinds() {
		if err := s.deleteBefore(ctx, collRecords(kind), "until", now); err != nil {
			return err
		}
	}
	return nil
}
